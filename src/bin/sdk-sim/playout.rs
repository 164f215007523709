//! What is pushed into the room: queued, played slot by slot, and counted.

use std::collections::VecDeque;

use audio_gateway::limits::{SAMPLE_RATE, SIM_PUSH_HIGH, SIM_PUSH_LOW, SIM_PUSH_MAX};

/// Playback begins when this much is there, so that the sender's and the
/// room's pace need not agree to the millisecond …
const CUSHION: usize = SAMPLE_RATE as usize * 60 / 1_000;
/// … or this many slots after its first sample.
const PATIENCE: u32 = 3;

/// Something to tell the worker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Flow(bool),
    Mark { name: String, cleared: bool },
    Played(u64),
}

/// The queue of pushed audio.
#[derive(Debug)]
pub(crate) struct Playout {
    queue: VecDeque<i16>,
    /// Names and the sample they stand before, counted from the first one.
    marks: VecDeque<(u64, String)>,
    /// Samples that have left the queue, and of those the ones played.
    passed: u64,
    played: u64,
    reported: u64,
    dropped: u64,
    playing: bool,
    paused: bool,
    waited: u32,
    go: bool,
    factor: f32,
}

impl Default for Playout {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            marks: VecDeque::new(),
            passed: 0,
            played: 0,
            reported: 0,
            dropped: 0,
            playing: false,
            paused: false,
            waited: 0,
            go: true,
            factor: 1.0,
        }
    }
}

impl Playout {
    /// Takes s16le samples. What does not fit is dropped.
    pub(crate) fn push(&mut self, pcm: &[u8]) {
        let room = SIM_PUSH_MAX - self.queue.len();
        let (samples, _) = pcm.as_chunks::<2>();
        self.queue.extend(samples.iter().take(room).map(|sample| i16::from_le_bytes(*sample)));
        self.dropped += samples.len().saturating_sub(room) as u64;
    }

    /// Remembers a place. With too many of them the oldest is forgotten.
    pub(crate) fn mark(&mut self, name: String) {
        if self.marks.len() == audio_gateway::limits::SIM_LIST_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((self.passed + self.queue.len() as u64, name));
    }

    /// Forgets what was not played.
    pub(crate) fn clear(&mut self, report: &mut Vec<Report>) {
        self.passed += self.queue.len() as u64;
        self.queue.clear();
        self.playing = false;
        let names = self.marks.drain(..);
        report.extend(names.map(|(_, name)| Report::Mark { name, cleared: true }));
        self.flow(report);
    }

    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(crate) fn gain(&mut self, db: f32) {
        self.factor = 10_f32.powf(db.clamp(-120.0, 40.0) / 20.0);
    }

    pub(crate) fn queued(&self) -> u64 {
        self.queue.len() as u64
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Plays one slot. False where there was nothing to play.
    pub(crate) fn play(&mut self, out: &mut [i16], report: &mut Vec<Report>) -> bool {
        let sounding = !self.paused && self.ready();
        if sounding {
            let count = out.len().min(self.queue.len());
            for (sample, queued) in out.iter_mut().zip(self.queue.drain(..count)) {
                *sample = if self.factor == 1.0 {
                    queued
                } else {
                    (f32::from(queued) * self.factor) as i16
                };
            }
            out[count..].fill(0);
            self.passed += count as u64;
            self.played += count as u64;
        }
        if !self.paused {
            while self.marks.front().is_some_and(|(at, _)| *at <= self.passed) {
                let name = self.marks.pop_front().map(|(_, name)| name).unwrap_or_default();
                report.push(Report::Mark { name, cleared: false });
            }
        }
        // Every 200 ms, and when the queue runs dry.
        let since = self.played - self.reported;
        if since >= u64::from(SAMPLE_RATE) / 5 || (since > 0 && self.queue.is_empty()) {
            self.reported = self.played;
            report.push(Report::Played(self.played));
        }
        self.flow(report);
        sounding
    }

    fn ready(&mut self) -> bool {
        if self.queue.is_empty() {
            self.playing = false;
            self.waited = 0;
        } else if !self.playing {
            self.waited += 1;
            self.playing = self.queue.len() >= CUSHION || self.waited > PATIENCE;
        }
        self.playing
    }

    /// Stop above the high mark, go below the low one.
    fn flow(&mut self, report: &mut Vec<Report>) {
        let go = if self.go {
            self.queue.len() < SIM_PUSH_HIGH
        } else {
            self.queue.len() < SIM_PUSH_LOW
        };
        if go != self.go {
            self.go = go;
            report.push(Report::Flow(go));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(samples: std::ops::Range<i16>) -> Vec<u8> {
        samples.flat_map(i16::to_le_bytes).collect()
    }

    /// Plays `slots` slots; the samples that sounded and the reports.
    fn played(playout: &mut Playout, slots: usize) -> (Vec<i16>, Vec<Report>) {
        let (mut out, mut report) = (Vec::new(), Vec::new());
        for _ in 0..slots {
            let mut slot = [0; 320];
            if playout.play(&mut slot, &mut report) {
                out.extend(slot);
            }
        }
        (out, report)
    }

    #[test]
    fn what_is_pushed_sounds_once_and_in_order() {
        let mut playout = Playout::default();
        playout.push(&bytes(0..320));
        assert!(played(&mut playout, 2).0.is_empty(), "the cushion is not there yet");
        playout.push(&bytes(320..960));
        playout.mark("end".into());
        let (out, report) = played(&mut playout, 5);
        assert_eq!(out, (0..960).collect::<Vec<i16>>());
        let end = Report::Mark { name: "end".into(), cleared: false };
        assert_eq!(report, [end, Report::Played(960)]);
    }

    #[test]
    fn the_last_samples_do_not_wait_for_ever() {
        let mut playout = Playout::default();
        playout.push(&bytes(1..161));
        let (out, report) = played(&mut playout, 6);
        assert_eq!((out[159], out[160], out.len()), (160, 0, 320));
        assert_eq!(report, [Report::Played(160)]);
    }

    #[test]
    fn clear_and_pause() {
        let mut playout = Playout::default();
        playout.push(&bytes(0..1_600));
        playout.mark("m".into());
        playout.pause(true);
        assert!(played(&mut playout, 10).0.is_empty());
        let mut report = Vec::new();
        playout.clear(&mut report);
        assert_eq!(report, [Report::Mark { name: "m".into(), cleared: true }]);
        playout.pause(false);
        assert_eq!(played(&mut playout, 10), (vec![], vec![]));
        playout.mark("at once".into());
        assert_eq!(played(&mut playout, 1).1.len(), 1);
    }

    #[test]
    fn a_sender_that_is_too_fast_is_stopped_and_what_overflows_is_counted() {
        let mut playout = Playout::default();
        for _ in 0..200 {
            playout.push(&bytes(0..320));
        }
        assert_eq!(playout.queued(), SIM_PUSH_MAX as u64);
        assert_eq!(playout.dropped(), 200 * 320 - SIM_PUSH_MAX as u64);
        let (_, report) = played(&mut playout, 120);
        let flows: Vec<_> = report.iter().filter(|r| matches!(r, Report::Flow(_))).collect();
        assert_eq!(flows, [&Report::Flow(false), &Report::Flow(true)]);
    }

    #[test]
    fn gain_is_exact_at_zero_and_clips_above() {
        let mut playout = Playout::default();
        playout.gain(-6.0206);
        playout.push(&bytes(2_000..2_960));
        assert_eq!(played(&mut playout, 1).0[0], 1_000);
        playout.gain(40.0);
        assert_eq!(played(&mut playout, 1).0[0], i16::MAX);
    }
}
