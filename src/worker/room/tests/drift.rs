//! Clocks that run fast, slow or in steps.

use super::*;
use crate::bus::messages::{Cause, Clock};

/// An adapter whose clock is off by so many ppm, and who speaks for 4 s and is
/// quiet for one; read every 200 ms for so many seconds.
struct Skewed {
    play: Play,
    ppm: i64,
    answers: bool,
    frame: i64,
    /// Bytes of samples said, without the zeros.
    said: Vec<u8>,
}

impl Skewed {
    fn new(ppm: i64, answers: bool) -> Self {
        Self { play: Play::joined(), ppm, answers, frame: 0, said: Vec::new() }
    }

    /// What the clock reads so long after it joined.
    fn clock(&self, at: i64) -> i64 {
        PTS + at + at * self.ppm / 1_000_000
    }

    fn run(&mut self, from_s: i64, to_s: i64) {
        for at in (from_s * 1_000_000 + SWEEP..=to_s * 1_000_000).step_by(SWEEP as usize) {
            while PTS + (self.frame + 1) * SLOT_US <= self.clock(at) {
                let quiet = self.frame % 250 >= 200;
                let pcm = if quiet { vec![0; 640] } else { self.play.pcm(320) };
                if !quiet {
                    self.said.extend(&pcm);
                }
                let pts = PTS + self.frame * SLOT_US;
                self.play.say(at, &FromAdapter::Audio(Audio { stream: 1, pts, pcm: &pcm }));
                self.frame += 1;
            }
            self.play.sweep(at);
            if self.answers && self.play.told.iter().any(|told| told == "Ping") {
                self.play.told.clear();
                let now = self.clock(at);
                self.play.say(at + 1, &FromAdapter::Stats { now, stats: Default::default() });
            }
        }
    }

    /// Where the last slot stands against the wall, in ms.
    fn ahead(&self, at_s: i64) -> i64 {
        (self.play.batches("u").last().unwrap().end() as i64 - at_s * 16_000) / 16
    }
}

#[test]
fn a_clock_that_runs_fast_or_slow_is_followed_in_silence_and_no_sample_is_touched() {
    for (ppm, answers) in [(2_000, true), (-2_000, true), (2_000, false), (-2_000, false)] {
        let mut skewed = Skewed::new(ppm, answers);
        skewed.run(0, 120);
        // Left alone it would be 240 ms.
        let ahead = skewed.ahead(120);
        assert!((-100..=60).contains(&ahead), "{ppm} ppm: {ahead} ms");
        let heard: Vec<u8> =
            skewed.play.batches("u").iter().flat_map(|batch| batch.pcm.to_vec()).collect();
        assert!(skewed.said.starts_with(&heard) && skewed.said.len() - heard.len() < 6_400);
        let told: Vec<_> = skewed
            .play
            .news
            .iter()
            .filter_map(|news| match news {
                RoomNews::Discontinuity { by_samples, cause, .. } => Some((*by_samples, *cause)),
                _ => None,
            })
            .collect();
        assert!(told.len() >= 8, "{ppm} ppm: {told:?}");
        let one = (-ppm.signum() * 320, Cause::Drift);
        assert!(told.iter().all(|it| *it == one), "{ppm} ppm: {told:?}");
        let flagged = skewed.play.batches("u").iter().filter(|it| it.has(FLAG_DISCONTINUITY));
        assert_eq!(flagged.count(), told.len());
    }
}

#[test]
fn a_clock_event_tells_the_time_every_five_seconds() {
    let mut skewed = Skewed::new(200, true);
    skewed.run(0, 121);
    let clocks: Vec<Clock> = skewed
        .play
        .news
        .iter()
        .filter_map(|news| match news {
            RoomNews::Clock(clock) => Some(*clock),
            _ => None,
        })
        .collect();
    assert_eq!(clocks.len(), 24);
    let last = clocks.last().unwrap();
    let ppm = last.drift_ppm.unwrap();
    assert!((ppm - 200.0).abs() < 10.0, "{ppm}");
    assert_eq!(clocks[5].drift_ppm, None, "too soon to say");
    let at = clocks.iter().map(|it| it.adapter_us.unwrap()).collect::<Vec<_>>();
    assert!(at.windows(2).all(|two| (two[1] - two[0] - 5_001_000).abs() < 50), "{at:?}");
    assert!((0..=40).contains(&last.delay_ms.unwrap()), "{last:?}");
}

#[test]
fn stalls_and_bursts_are_no_drift() {
    let mut skewed = Skewed::new(0, false);
    skewed.run(0, 30);
    for minute in 0..3 {
        // Held up for 3 s, then all of it at once.
        let from = 30 + minute * 20;
        for at in (from * 1_000_000 + SWEEP..(from + 3) * 1_000_000).step_by(SWEEP as usize) {
            skewed.play.sweep(at);
        }
        skewed.run(from + 3, from + 20);
    }
    let drifts = skewed
        .play
        .news
        .iter()
        .filter(|news| matches!(news, RoomNews::Discontinuity { cause: Cause::Drift, .. }));
    assert_eq!(drifts.count(), 0);
    assert_eq!(skewed.ahead(90), -20, "one frame is kept back");
}

#[test]
fn a_step_is_flagged_told_and_costs_no_sample() {
    for by in [-7_200_000_000, -5_000_000, -300_000, 300_000, 5_000_000, 7_200_000_000] {
        let mut play = Play::joined();
        play.ramp(200_000, (0, 200_000));
        play.sweep(200_000);
        play.ramp(400_000, (200_000, 300_000));
        for frame in 0..5 {
            let pts = PTS + 300_000 + by + frame * SLOT_US;
            let pcm = play.pcm(320);
            play.say(400_000, &FromAdapter::Audio(Audio { stream: 1, pts, pcm: &pcm }));
        }
        play.sweep(400_000);
        assert_eq!(play.runs(), [(SlotState::Audio, 20)], "{by}");
        let flagged: Vec<_> =
            play.batches("u").iter().filter(|it| it.has(FLAG_DISCONTINUITY)).collect();
        assert_eq!(flagged.iter().map(|it| it.pos).collect::<Vec<_>>(), [4_800], "{by}");
        let track = TrackId::of_user("u");
        let by_samples = by / 1_000 * 16;
        let told = RoomNews::Discontinuity { track, by_samples, cause: Cause::Step };
        assert!(play.news.contains(&told), "{by}: {:?}", play.news);
        // Who comes later stands where the others do.
        let pts = PTS + by + 600_000;
        let user = TrackInfo { user: "v".into(), role: None };
        play.say(620_000, &FromAdapter::TrackOpened { stream: 2, pts, track: user });
        play.say(620_000, &FromAdapter::Audio(Audio { stream: 2, pts, pcm: &[1; 640] }));
        play.sweep(800_000);
        assert_eq!(play.batches("v")[0].pos, 9_600, "{by}");
    }
}

#[test]
fn tracks_whose_clocks_differ_do_not_drag_each_other_about() {
    let mut play = Play::joined();
    play.open(0, 2, "v");
    let say = |play: &mut Play, stream, at: i64, pts: i64| {
        let pcm = [7; 640];
        play.say(at, &FromAdapter::Audio(Audio { stream, pts: PTS + pts, pcm: &pcm }));
    };
    for frame in 0..500 {
        let at = (frame + 1) * SLOT_US;
        say(&mut play, 1, at, frame * SLOT_US);
        // The second is set right by 700 ms after a while.
        let off = if frame < 100 { 0 } else { 700_000 };
        say(&mut play, 2, at, frame * SLOT_US - off);
        if frame % 10 == 9 {
            play.sweep(at);
        }
    }
    for user in ["u", "v"] {
        let batches = play.batches(user);
        let flagged = batches.iter().filter(|it| it.has(FLAG_DISCONTINUITY)).count();
        assert!(flagged <= 2, "{user}: {flagged}");
    }
}
