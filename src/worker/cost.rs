//! What sessions cost, learnt from what their processes really use: CPU time
//! and memory of each adapter and kind, and each session's share of the worker's
//! own CPU time.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    bus::messages::Cost,
    id::AdapterName,
    limits,
    sdk::process::{ChildKey, Usage},
    task::Kind,
};

/// Weight of a new measurement: at two a second, five seconds' worth.
const LEARN: f64 = 0.1;

/// What is told apart.
pub(super) type Class = (AdapterName, Kind);

#[derive(Debug, Default)]
struct Learnt {
    cores: Option<f64>,
    memory: Option<f64>,
}

/// Learns what sessions cost.
#[derive(Debug, Default)]
pub(super) struct Costs {
    /// As configured.
    guesses: BTreeMap<AdapterName, (f64, Option<usize>)>,
    learnt: BTreeMap<Class, Learnt>,
    /// Of all sessions.
    average: Option<f64>,
    children: HashMap<ChildKey, Duration>,
    own: Duration,
    /// The last process whose memory was read in turn.
    read: Option<ChildKey>,
    /// What is new had the last turn.
    was_new: bool,
}

impl Costs {
    pub(super) fn new(guesses: BTreeMap<AdapterName, (f64, Option<usize>)>) -> Self {
        Self { guesses, ..Self::default() }
    }

    /// Takes in the CPU time of each process so far and this process's own.
    pub(super) fn learn(
        &mut self,
        usage: &[Usage],
        classes: &BTreeMap<ChildKey, Class>,
        own: Duration,
        since: Option<Duration>,
    ) {
        if let Some(since) = since.filter(|since| !since.is_zero()) {
            let mut spent: BTreeMap<&Class, (Duration, u32)> = BTreeMap::new();
            let mut known = 0_u32;
            let mut all = own.saturating_sub(self.own);
            for it in usage {
                // One that was not there before did not run all the time.
                let Some(before) = self.children.get(&it.key) else { continue };
                let used = it.cpu.saturating_sub(*before);
                known += 1;
                all += used;
                if let Some(class) = classes.get(&it.key) {
                    let (sum, count) = spent.entry(class).or_default();
                    *sum += used;
                    *count += 1;
                }
            }
            if known > 0 {
                let rate = |time: Duration| time.as_secs_f64() / since.as_secs_f64();
                let share = rate(own.saturating_sub(self.own)) / f64::from(known);
                for (class, (sum, count)) in spent {
                    let each = rate(sum) / f64::from(count) + share;
                    blend(&mut self.learnt.entry(class.clone()).or_default().cores, each);
                }
                blend(&mut self.average, rate(all) / f64::from(known));
            }
        }
        self.children = usage.iter().map(|it| (it.key, it.cpu)).collect();
        self.own = own;
    }

    /// The processes whose memory is to be read next: a few at a time, in turn. Where
    /// there are some of which nothing like them was read yet, these have every other
    /// turn, and not each: it may be that they cannot be read.
    pub(super) fn due_for_memory(&mut self, classes: &BTreeMap<ChildKey, Class>) -> Vec<ChildKey> {
        let is_new = |class| self.learnt.get(class).is_none_or(|it| it.memory.is_none());
        let new = classes.iter().filter(|(_, class)| is_new(*class)).map(|(key, _)| *key);
        let new: Vec<ChildKey> = new.take(limits::MEMORY_SAMPLE).collect();
        self.was_new = !new.is_empty() && !self.was_new;
        if self.was_new {
            return new;
        }
        let after = |key| {
            let later = classes.keys().copied().filter(move |later| Some(*later) > key);
            later.take(limits::MEMORY_SAMPLE).collect::<Vec<_>>()
        };
        let mut next = after(self.read);
        if next.is_empty() {
            // All had their turn.
            next = after(None);
        }
        self.read = next.last().copied();
        next
    }

    /// Takes in the memory that processes occupy.
    pub(super) fn learn_memory(
        &mut self,
        resident: &[(ChildKey, u64)],
        classes: &BTreeMap<ChildKey, Class>,
    ) {
        for (key, bytes) in resident {
            if let Some(class) = classes.get(key) {
                let memory = &mut self.learnt.entry(class.clone()).or_default().memory;
                blend(memory, *bytes as f64);
            }
        }
    }

    /// What a session costs on average, in cores.
    pub(super) fn average(&self) -> f64 {
        self.average.unwrap_or(limits::SESSION_COST)
    }

    /// What a session of each adapter costs: each kind as measured, and each
    /// adapter as configured, for the kinds that were not.
    pub(super) fn told(&self) -> Vec<Cost> {
        let guessed = self.guesses.iter().map(|(adapter, (cores, sessions_max))| Cost {
            adapter: adapter.clone(),
            kind: None,
            cores: *cores,
            memory: 0,
            sessions_max: *sessions_max,
        });
        let learnt = self.learnt.iter().filter_map(|((adapter, kind), learnt)| {
            Some(Cost {
                adapter: adapter.clone(),
                kind: Some(*kind),
                // A kind that sleeps costs a little all the same.
                cores: rounded(learnt.cores?.max(MIN_CORES)),
                memory: learnt.memory.map_or(0, |bytes| bytes as u64),
                sessions_max: None,
            })
        });
        guessed.chain(learnt).collect()
    }
}

/// The least a session counts for, in cores: 10 µs a second.
const MIN_CORES: f64 = 0.000_01;

/// Five digits are more than is known, and keep heartbeats short.
fn rounded(cores: f64) -> f64 {
    (cores * 1e5).round() / 1e5
}

fn blend(known: &mut Option<f64>, new: f64) {
    let before = known.unwrap_or(new);
    *known = Some(before + LEARN * (new - before));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    fn name(adapter: &str) -> AdapterName {
        AdapterName::parse(adapter).unwrap()
    }

    fn classes(of: &[(u64, &str, Kind)]) -> BTreeMap<ChildKey, Class> {
        of.iter().map(|(key, adapter, kind)| (ChildKey(*key), (name(adapter), *kind))).collect()
    }

    fn usage(of: &[(u64, u64)]) -> Vec<Usage> {
        let usage =
            |(key, ms): &(u64, u64)| Usage { key: ChildKey(*key), cpu: Duration::from_millis(*ms) };
        of.iter().map(usage).collect()
    }

    fn cores(costs: &Costs, adapter: &str, kind: Option<Kind>) -> Option<f64> {
        let of = |cost: &Cost| cost.adapter == name(adapter) && cost.kind == kind;
        costs.told().into_iter().find(of).map(|cost| cost.cores)
    }

    #[test]
    fn each_adapter_and_kind_is_learnt_from_its_own_processes() {
        let guesses = [(name("heavy"), (0.5, Some(3))), (name("light"), (0.005, None))].into();
        let mut costs = Costs::new(guesses);
        let classes = classes(&[
            (1, "heavy", Kind::Pull),
            (2, "light", Kind::Pull),
            (3, "light", Kind::Pull),
            (4, "light", Kind::Push),
        ]);
        costs.learn(&usage(&[(1, 0), (2, 0), (3, 0), (4, 0)]), &classes, Duration::ZERO, None);
        assert_eq!(cores(&costs, "heavy", Some(Kind::Pull)), None);
        assert_eq!(cores(&costs, "heavy", None), Some(0.5));
        let most = costs.told().into_iter().map(|cost| cost.sessions_max);
        assert_eq!(most.collect::<Vec<_>>(), [Some(3), None]);
        let own = Duration::from_millis(40);
        costs.learn(&usage(&[(1, 300), (2, 10), (3, 30), (4, 1)]), &classes, own, SECOND);
        // Each with its quarter of the worker's own 40 ms.
        assert_eq!(cores(&costs, "heavy", Some(Kind::Pull)), Some(0.31));
        assert_eq!(cores(&costs, "light", Some(Kind::Pull)), Some(0.03));
        assert_eq!(cores(&costs, "light", Some(Kind::Push)), Some(0.011));
        assert_eq!(cores(&costs, "light", None), Some(0.005));
        assert!((costs.average() - 0.095_25).abs() < 1e-9, "{}", costs.average());
    }

    #[test]
    fn one_that_was_just_started_is_not_measured_yet() {
        let mut costs = Costs::new(BTreeMap::new());
        let classes = classes(&[(1, "sim", Kind::Pull)]);
        costs.learn(&[], &classes, Duration::ZERO, None);
        costs.learn(&usage(&[(1, 900)]), &classes, Duration::ZERO, SECOND);
        assert_eq!(cores(&costs, "sim", Some(Kind::Pull)), None);
        assert_eq!(costs.average(), limits::SESSION_COST);
    }

    #[test]
    fn what_is_learnt_moves_slowly() {
        let mut costs = Costs::new(BTreeMap::new());
        let classes = classes(&[(1, "sim", Kind::Pull)]);
        let mut cpu = 0;
        let mut second = |costs: &mut Costs, ms| {
            cpu += ms;
            costs.learn(&usage(&[(1, cpu)]), &classes, Duration::ZERO, SECOND);
        };
        second(&mut costs, 0);
        second(&mut costs, 100);
        second(&mut costs, 200);
        assert_eq!(cores(&costs, "sim", Some(Kind::Pull)), Some(0.11));
        (0..100).for_each(|_| second(&mut costs, 0));
        assert_eq!(cores(&costs, "sim", Some(Kind::Pull)), Some(MIN_CORES));
    }

    #[test]
    fn memory_is_read_of_a_few_at_a_time_until_all_had_their_turn() {
        let mut costs = Costs::new(BTreeMap::new());
        let all: Vec<(u64, &str, Kind)> = (0..80).map(|key| (key, "sim", Kind::Pull)).collect();
        let classes = classes(&all);
        costs.learn_memory(&[(ChildKey(3), 5 << 20)], &classes);
        let mut seen: Vec<ChildKey> = Vec::new();
        while seen.len() < 80 {
            let next = costs.due_for_memory(&classes);
            assert!((1..=limits::MEMORY_SAMPLE).contains(&next.len()));
            seen.extend(next);
        }
        assert!(seen.is_sorted() && seen.len() == 80);
        assert_eq!(costs.due_for_memory(&classes)[0], ChildKey(0));
        costs.learn_memory(&[(ChildKey(3), 5 << 20), (ChildKey(99), 1)], &classes);
        costs.learn(&usage(&[(3, 0)]), &classes, Duration::ZERO, None);
        costs.learn(&usage(&[(3, 1)]), &classes, Duration::ZERO, SECOND);
        assert_eq!(costs.told()[0].memory, 5 << 20);
    }

    #[test]
    fn memory_is_read_first_of_what_is_new() {
        let mut costs = Costs::new(BTreeMap::new());
        let mut all: Vec<(u64, &str, Kind)> = (0..80).map(|key| (key, "sim", Kind::Pull)).collect();
        let first = costs.due_for_memory(&classes(&all));
        assert_eq!(first.len(), limits::MEMORY_SAMPLE);
        costs.learn_memory(&[(first[0], 5 << 20)], &classes(&all));
        all.push((200, "other", Kind::Push));
        let classes = classes(&all);
        // One more look at the others at most comes before it.
        let next = [costs.due_for_memory(&classes), costs.due_for_memory(&classes)];
        assert!(next.contains(&vec![ChildKey(200)]), "{next:?}");
        costs.learn_memory(&[(ChildKey(200), 7 << 20)], &classes);
        assert!(costs.due_for_memory(&classes).len() > 1, "the others have their turn");
    }

    #[test]
    fn what_cannot_be_read_keeps_nobody_from_their_turn() {
        let mut costs = Costs::new(BTreeMap::new());
        let mut all: Vec<(u64, &str, Kind)> = (0..40).map(|key| (key, "sim", Kind::Pull)).collect();
        all.push((200, "gone", Kind::Push));
        let classes = classes(&all);
        costs.learn_memory(&[(ChildKey(0), 5 << 20)], &classes);
        let mut turns = BTreeMap::new();
        for key in (0..20).flat_map(|_| costs.due_for_memory(&classes)) {
            *turns.entry(key).or_insert(0) += 1;
        }
        assert!(classes.keys().all(|key| turns.get(key) > Some(&2)), "{turns:?}");
    }
}
