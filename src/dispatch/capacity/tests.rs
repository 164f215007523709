//! The sums, and that no storm of assignments fills a worker above its brim.

use proptest::prelude::*;

use super::*;

fn load() -> Load {
    Load {
        cores: 2.0,
        cores_used: 0.6,
        memory: 1 << 30,
        memory_used: 0,
        sessions_max: 1_000,
        session_cost: 0.1,
        ..Load::default()
    }
}

fn sim() -> AdapterName {
    AdapterName::parse("sim").unwrap()
}

fn free(load: &Load, sessions: usize, unseen: usize) -> usize {
    let need = Need::of(load, &sim(), Kind::Pull);
    let hidden = (0..unseen).fold(Need::default(), |sum, _| sum.and(need));
    Budget::of(load, hidden, sessions).count(&need)
}

#[test]
fn what_was_just_given_away_is_kept_free() {
    assert_eq!(free(&load(), 0, 0), 10);
    assert_eq!(free(&load(), 4, 4), 6);
    assert_eq!(free(&load(), 20, 20), 0);
}

#[test]
fn each_of_the_four_can_be_the_bottleneck() {
    assert_eq!(free(&Load { sessions_max: 7, ..load() }, 5, 0), 2);
    assert_eq!(free(&Load { memory_used: 800 << 20, ..load() }, 0, 0), 2);
    assert_eq!(free(&Load { memory_used: 800 << 20, ..load() }, 0, 2), 0);
    assert_eq!(free(&Load { memory: 0, ..load() }, 0, 0), 10);
    assert_eq!(free(&Load { cores_used: 1.7, ..load() }, 0, 0), 0);
    let each = limits::SESSION_FDS;
    let tight = Load { fds: 100 * each, fds_used: 77 * each, ..load() };
    assert_eq!(free(&tight, 0, 0), 3);
    assert_eq!(free(&tight, 0, 2), 1);
}

#[test]
fn what_an_adapter_takes_is_what_was_measured_of_its_kind() {
    let cost =
        |kind, cores, memory| Cost { adapter: sim(), kind, cores, memory, sessions_max: None };
    let load =
        Load { costs: vec![cost(Some(Kind::Pull), 0.2, 1 << 24), cost(None, 0.5, 0)], ..load() };
    let need = |kind| Need::of(&load, &sim(), kind);
    assert_eq!((need(Kind::Pull).cores, need(Kind::Pull).memory), (0.2, 1 << 24));
    assert_eq!((need(Kind::Push).cores, need(Kind::Push).memory), (0.5, limits::SESSION_MEMORY));
    let other = AdapterName::parse("other").unwrap();
    assert_eq!(Need::of(&load, &other, Kind::Pull).cores, 0.1);
}

#[test]
fn an_adapter_has_no_more_places_than_it_may_run_sessions() {
    let other = AdapterName::parse("other").unwrap();
    let cost = |sessions_max| Cost {
        adapter: sim(),
        kind: None,
        cores: 0.1,
        memory: 0,
        sessions_max: Some(sessions_max),
    };
    let load = Load { costs: vec![cost(3)], ..load() };
    let budget = Budget::of(&load, Need::default(), 4);
    let need = Need::of(&load, &sim(), Kind::Pull);
    let here = [sim(), other.clone(), other.clone(), sim()];
    let mut left = Left::of(budget, &load, here.iter());
    assert_eq!((left.count(&need, &sim()), left.count(&need, &other)), (1, 10));
    left.take(&need, &other);
    assert!(left.may_run(&sim()));
    left.take(&need, &sim());
    assert_eq!((left.count(&need, &sim()), left.count(&need, &other)), (0, 8));
    assert!(!left.may_run(&sim()) && left.may_run(&other));
    // More run than were allowed: its configuration was changed.
    let load = Load { costs: vec![cost(1)], ..load };
    assert!(!Left::of(budget, &load, here.iter()).may_run(&sim()));
}

#[test]
fn numbers_from_outside_do_no_harm() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0] {
        assert!(free(&Load { session_cost: odd, ..load() }, 0, 0) > 0);
        assert_eq!(free(&Load { cores: odd, ..load() }, 0, 0), 0);
        let _ = free(&Load { cores_used: odd, ..load() }, 0, 9);
        let cost =
            Cost { adapter: sim(), kind: None, cores: odd, memory: u64::MAX, sessions_max: None };
        let costs = vec![cost];
        assert_eq!(free(&Load { costs, ..load() }, 0, 2), 0);
    }
}

#[test]
fn full_at_four_fifths_and_open_again_at_seven_tenths() {
    let at = |share: f64| {
        let load = Load { cores: 10.0, cores_used: 10.0 * share, session_cost: 0.1, ..load() };
        Budget::of(&load, Need::default(), 0)
    };
    let average = Need::average(&load());
    let mut full = false;
    let mut story = Vec::new();
    for share in [0.5, 0.78, 0.795, 0.78, 0.75, 0.71, 0.7, 0.69, 0.75, 0.79, 0.81, 0.6] {
        full = at(share).is_full(full, &average);
        story.push(full);
    }
    let (yes, no) = (true, false);
    assert_eq!(story, [no, no, yes, yes, yes, yes, yes, no, no, no, yes, no]);
    assert_eq!(at(0.5).closed().count(&average), 0);
}

#[test]
fn memory_and_descriptors_fill_a_worker_too() {
    let idle = Load { cores_used: 0.0, ..load() };
    let average = Need::average(&idle);
    let by_memory = Load { memory_used: 815 << 20, ..idle.clone() };
    let by_fds = Load { fds: 100, fds_used: 80, ..idle.clone() };
    for (load, full) in [(idle, false), (by_memory, true), (by_fds, true)] {
        let budget = Budget::of(&load, Need::default(), 0);
        assert_eq!(budget.is_full(false, &average), full, "{load:?}");
    }
}

/// A session in the storm: what it takes, and in how many ticks that shows.
#[derive(Debug, Clone)]
struct Coming {
    heavy: bool,
    shows_in: u8,
    leaves_in: u8,
}

fn coming() -> impl Strategy<Value = Coming> {
    (any::<bool>(), 0_u8..20, 20_u8..200).prop_map(|(heavy, shows_in, leaves_in)| Coming {
        heavy,
        shows_in,
        leaves_in,
    })
}

proptest! {
    /// Whatever comes, whenever it shows in the load: what a worker runs never
    /// takes more than the brim, in any of the four.
    #[test]
    fn a_storm_never_overfills(
        storm in prop::collection::vec(prop::collection::vec(coming(), 0..40), 1..60),
        cores in 0.5_f64..16.0,
        memory in 1_u64 << 26..1 << 34,
        fds in 64_u64..4_096,
        sessions_max in 1_usize..200,
    ) {
        let heavy = AdapterName::parse("heavy").unwrap();
        let light = AdapterName::parse("light").unwrap();
        let cost = |adapter: &AdapterName, cores, memory| {
            let (adapter, kind) = (adapter.clone(), Some(Kind::Pull));
            Cost { adapter, kind, cores, memory, sessions_max: None }
        };
        let costs = vec![cost(&heavy, 0.3, 200 << 20), cost(&light, 0.004, 4 << 20)];
        let mut live: Vec<Coming> = Vec::new();
        let mut full = false;
        for arrivals in storm {
            live.retain(|session| session.leaves_in > 0);
            for session in &mut live {
                session.shows_in = session.shows_in.saturating_sub(1);
                session.leaves_in -= 1;
            }
            let base = Load { cores, memory, fds, sessions_max, costs: costs.clone(),
                session_cost: 0.05, ..Load::default() };
            let need = |session: &Coming| {
                Need::of(&base, if session.heavy { &heavy } else { &light }, Kind::Pull)
            };
            let sum = |shown: bool| {
                live.iter().filter(|session| (session.shows_in == 0) == shown).map(need)
                    .fold(Need::default(), Need::and)
            };
            let shown = sum(true);
            let load = Load { cores_used: shown.cores, memory_used: shown.memory,
                fds_used: shown.fds, ..base.clone() };
            let mut budget = Budget::of(&load, sum(false), live.len());
            full = budget.is_full(full, &Need::average(&load));
            if full {
                budget = budget.closed();
            }
            for session in arrivals {
                if budget.count(&need(&session)) > 0 {
                    budget.take(&need(&session));
                    live.push(session);
                }
            }
            let all = live.iter().map(need).fold(Need::default(), Need::and);
            prop_assert!(all.cores <= limits::FULL * cores + 1e-6);
            prop_assert!(all.memory as f64 <= limits::FULL * memory as f64 + 1.0);
            prop_assert!(all.fds as f64 <= limits::FULL * fds as f64 + 1.0);
            prop_assert!(live.len() <= sessions_max);
        }
    }

    /// What fits is what can be taken: no fewer, no more.
    #[test]
    fn as_many_fit_as_were_counted(used in 0.0_f64..2.0, each in 0.001_f64..0.5) {
        let load = Load { cores_used: used, session_cost: each, memory: 0, ..load() };
        let need = Need::average(&load);
        let mut budget = Budget::of(&load, Need::default(), 0);
        let counted = budget.count(&need);
        let mut taken = 0;
        while budget.count(&need) > 0 {
            budget.take(&need);
            taken += 1;
        }
        prop_assert_eq!(counted, taken);
    }
}
