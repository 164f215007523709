//! Mixes under whatever order, splitting, lateness and coming and going: the
//! same slots, and never a sample that nobody said.

use proptest::prelude::*;

use super::{
    mix::{Made, SLOT, bytes, noise},
    *,
};
use crate::{
    audio::{Mixer, SourceKey},
    limits::{FRAME_SAMPLES, MIX_RAMP_SAMPLES},
};

/// What one source says in a row, from a position on.
#[derive(Debug, Clone)]
struct Script {
    start: u64,
    parts: Vec<(SlotState, u64)>,
    seed: u64,
}

impl Script {
    fn samples(&self) -> Vec<i16> {
        let count: u64 = self.parts.iter().map(|(_, slots)| slots * SLOT).sum();
        noise(self.seed, 3_000, count as usize)
    }

    /// What it adds to the sum by plain arithmetic, from position 0 on.
    fn added(&self) -> Vec<f64> {
        let samples = self.samples();
        let mut out = vec![0.0; self.start as usize];
        let mut at = 0;
        let open = |state: SlotState| matches!(state, SlotState::Audio | SlotState::Silence);
        for (index, (state, slots)) in self.parts.iter().enumerate() {
            let count = (slots * SLOT) as usize;
            let before = index.checked_sub(1).is_some_and(|index| open(self.parts[index].0));
            let after = self.parts.get(index + 1).is_some_and(|next| open(next.0));
            for inside in 0..count {
                let volume = match state.is_audio() {
                    true => ramp(inside, before) * ramp(count - 1 - inside, after),
                    false => 0.0,
                };
                out.push(f64::from(samples[at + inside]) * volume);
            }
            at += count;
        }
        out
    }
}

/// The volume so many samples from an edge.
fn ramp(from: usize, open: bool) -> f64 {
    if open || from >= MIX_RAMP_SAMPLES {
        return 1.0;
    }
    let t = (from + 1) as f64 / (MIX_RAMP_SAMPLES + 1) as f64;
    3.0 * t * t - 2.0 * t * t * t
}

fn script() -> impl Strategy<Value = Script> {
    use SlotState::{Absent, Audio, Lost, Muted, Silence, Stalled};
    let state = prop::sample::select(vec![Audio, Audio, Silence, Muted, Absent, Lost, Stalled]);
    let parts = prop::collection::vec((state, 1..6u64), 1..8);
    (0..4_000u64, parts, any::<u64>()).prop_map(|(start, mut parts, seed)| {
        parts.dedup_by(|next, last| {
            let same = next.0 == last.0;
            last.1 += if same { next.1 } else { 0 };
            same
        });
        Script { start, parts, seed }
    })
}

/// Hands in pieces of all scripts in an order that `order` makes up, and makes
/// what can be made whenever it likes.
fn play(scripts: &[Script], order: u64) -> Made {
    let mut rng = fastrand::Rng::with_seed(order);
    let mut mixer = Mixer::new(1);
    let mut made = Made::default();
    let keys: Vec<SourceKey> = scripts.iter().map(|it| mixer.join(1, it.start)).collect();
    let mut lists: Vec<Vec<(u64, SlotState, Vec<i16>)>> = scripts.iter().map(pieces).collect();
    lists.iter_mut().for_each(|list| list.reverse());
    while lists.iter().any(|list| !list.is_empty()) {
        let one = rng.usize(..scripts.len());
        let Some((pos, state, samples)) = lists[one].pop() else { continue };
        // Cut in two anywhere.
        let cut = rng.usize(..=samples.len());
        for (from, part) in [(0, &samples[..cut]), (cut, &samples[cut..])] {
            let pos = pos + from as u64;
            match state {
                _ if part.is_empty() => (),
                SlotState::Audio => mixer.audio(keys[one], pos, &bytes(part)),
                _ => mixer.quiet(keys[one], pos, part.len() as u64, state),
            }
            if rng.bool() {
                made.take(&mut mixer, 0);
            }
        }
        if lists[one].is_empty() {
            mixer.leave(keys[one]);
        }
    }
    made.take(&mut mixer, 0);
    made.finish(&mut mixer);
    made
}

fn pieces(script: &Script) -> Vec<(u64, SlotState, Vec<i16>)> {
    let samples = script.samples();
    let mut at = 0;
    let slots = script.parts.iter().flat_map(|(state, slots)| (0..*slots).map(move |_| *state));
    slots
        .map(|state| {
            let from = at;
            at += FRAME_SAMPLES;
            (script.start + from as u64, state, samples[from..at].to_vec())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_mix_is_the_plain_sum_in_whatever_order_it_comes(
        scripts in prop::collection::vec(script(), 1..11), order in any::<u64>(),
    ) {
        let made = play(&scripts, order);
        let first = made.first.unwrap_or_default() as usize;
        let mut sums = vec![0.0; first + made.samples.len()];
        let mut ramps = vec![0.0; sums.len()];
        for script in &scripts {
            for (at, added) in script.added().into_iter().enumerate() {
                prop_assert!(at < sums.len(), "the mix ends before {at}");
                sums[at] += added;
                // Volumes between are rounded.
                ramps[at] += f64::from(added.fract() != 0.0);
            }
        }
        for (at, mixed) in made.samples.iter().enumerate() {
            let (sum, ramps) = (sums[first + at], ramps[first + at]);
            let off = (f64::from(*mixed) - sum).abs();
            prop_assert!(off <= 1.7 * ramps, "{mixed} is not {sum} at {at}");
        }
    }

    #[test]
    fn who_is_late_leaves_no_trace_of_what_was_not_said(
        scripts in prop::collection::vec(script(), 2..6), order in any::<u64>(),
    ) {
        // The last one is not heard of until all is over.
        let (late, others) = scripts.split_last().unwrap();
        let mut mixer = Mixer::new(1);
        let key = mixer.join(1, 0);
        let mut made = Made::default();
        let mut rng = fastrand::Rng::with_seed(order);
        for script in others {
            let one = mixer.join(1, script.start);
            for (pos, state, samples) in pieces(script) {
                match state {
                    SlotState::Audio => mixer.audio(one, pos, &bytes(&samples)),
                    _ => mixer.quiet(one, pos, samples.len() as u64, state),
                }
            }
            mixer.leave(one);
        }
        let end = others.iter().map(|it| it.start + it.added().len() as u64).max().unwrap();
        let mut deadline = 0;
        while deadline < end + 2 * SLOT {
            deadline += rng.u64(1..2_000);
            made.take(&mut mixer, deadline as i64);
        }
        let reference = play(others, order);
        let skip = (reference.first.unwrap() - made.first.unwrap()) as usize;
        let count = reference.samples.len().min(made.samples.len() - skip);
        prop_assert_eq!(&made.samples[skip..skip + count], &reference.samples[..count]);
        for (pos, state, samples) in pieces(late) {
            if state.is_audio() {
                mixer.audio(key, pos, &bytes(&samples));
            }
        }
        let late: u64 = mixer.stats().late_samples;
        prop_assert_eq!(mixer.stats().left_out as usize, made.states.len());
        let audio = |it: &(SlotState, u64)| if it.0.is_audio() { it.1 * SLOT } else { 0 };
        prop_assert!(late <= scripts.last().unwrap().parts.iter().map(audio).sum::<u64>());
    }
}
