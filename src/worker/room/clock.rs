//! A room's time: what the adapter's clock says, where it steps, and how its
//! drift is made good.

use super::{Effects, Room, Stage, position};
use crate::{
    audio::Drift,
    bus::messages::{Clock, RoomNews},
    limits,
    sdk::{adapter::Mode, pipe::ToAdapter},
};

/// [`limits::CLOCK_EVERY`] in µs.
const EVERY_US: i64 = limits::CLOCK_EVERY.as_micros() as i64;

/// What is known of the adapter's clock beside the time line.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When it is told, and asked, next.
    due: Option<i64>,
    /// When it was asked and has not answered.
    asked: Option<i64>,
    /// What it read last, and when.
    read: Option<(i64, i64)>,
    /// Drift of an adapter without timestamps: its samples are its clock.
    pub(super) raw: Option<Drift>,
}

impl Room {
    /// The position of a timestamp of a stream.
    pub(super) fn observe(&mut self, stream: u16, pts: i64, now: i64, fx: &mut Effects) -> i64 {
        self.observe_end(stream, pts, 0, now, fx)
    }

    /// The position of a timestamp that lies so many samples behind what was
    /// said before. Where the clock steps, all tracks follow it and say so.
    pub(super) fn observe_end(
        &mut self,
        stream: u16,
        pts: i64,
        span: i64,
        now: i64,
        fx: &mut Effects,
    ) -> i64 {
        let wall = self.origin.position(now);
        let Some(line) = &mut self.timeline else { return wall };
        let track = self.streams.get(usize::from(stream)).copied().flatten();
        let due = track.and_then(|index| self.tracks[index].writer.due());
        if line.has_stepped(pts, wall, due) {
            let open = self.tracks.iter().filter(|track| track.stream.is_some());
            let newest = open.filter_map(|track| track.writer.due()).max();
            if let Some(by) = line.step(pts, wall, due, newest, span) {
                // Those that are closed, too: they may be opened again.
                for track in &mut self.tracks {
                    track.writer.stepped(-by);
                }
            }
        }
        let before = line.keeps_its_word();
        let at = line.observe(pts, wall);
        if before && !line.keeps_its_word() {
            self.tell(now, strayed(pts, now), fx);
        }
        at
    }

    /// The positions of a span. One that begins before what was said last and
    /// ends behind it is no step of the clock.
    pub(super) fn observe_span(
        &mut self,
        stream: u16,
        (from, to): (i64, i64),
        now: i64,
        fx: &mut Effects,
    ) -> (i64, i64) {
        let track = self.streams.get(usize::from(stream)).copied().flatten();
        let due = track.and_then(|index| self.tracks[index].writer.due());
        let over = due.zip(self.timeline.as_ref()).and_then(|(due, line)| {
            let (from, to) = (line.position(from), line.position(to));
            (from < due && due <= to).then_some(due)
        });
        match over {
            Some(due) => (due, self.observe(stream, to, now, fx)),
            None => (self.observe(stream, from, now, fx), self.observe(stream, to, now, fx)),
        }
    }

    /// The adapter has joined, and says what its clock reads.
    pub(super) fn clock_joined(&mut self, pts: i64, now: i64) {
        self.watch = Watch { read: Some((pts, now)), ..Watch::default() };
    }

    /// The adapter answers what its clock reads. It did so as it was asked: what
    /// was lost on the way back does not matter.
    pub(super) fn clock_read(&mut self, pts: i64) {
        let Some(asked) = self.watch.asked.take() else { return };
        let wall = self.origin.position(asked);
        if let Some(line) = &mut self.timeline {
            line.read(pts, wall);
            self.watch.read = Some((pts, asked));
        }
    }

    /// Samples of an adapter without timestamps came.
    pub(super) fn clock_raw(&mut self, end: i64, wall: i64) {
        let rate = self.origin.rate;
        self.watch.raw.get_or_insert_with(|| Drift::new(rate, wall)).heard(end, wall);
    }

    /// Tells what time it is and asks the adapter's clock, where that is due.
    pub(super) fn tell_clock(&mut self, now: i64, fx: &mut Effects) {
        if self.stage != Stage::Joined || self.deaf || self.spec.pull.is_none() {
            return;
        }
        let due = self.watch.due;
        if due.is_some_and(|due| now < due) {
            return;
        }
        self.watch.due = Some(due.unwrap_or(now).max(now - EVERY_US) + EVERY_US);
        let wall = self.origin.position(now);
        // Who has just joined is only asked.
        if due.is_some()
            && let Some(drift) = self.drift()
        {
            let ms = |samples: i64| samples * 1_000 / i64::from(self.origin.rate);
            let clock = Clock {
                adapter_us: self.watch.read.map(|(pts, at)| pts.saturating_add(now - at)),
                drift_ppm: drift.ppm(),
                delay_ms: drift.delay().map(ms),
                corrected_samples: drift.corrected(),
            };
            fx.news(position(wall), now, RoomNews::Clock(clock));
        }
        if self.spec.mode == Mode::Framed {
            self.say(&ToAdapter::Ping, fx);
            self.watch.asked = Some(now);
        }
    }

    fn drift(&self) -> Option<&Drift> {
        self.timeline.as_ref().map(crate::audio::Timeline::drift).or(self.watch.raw.as_ref())
    }

    /// Makes drift good where all tracks are quiet at one position of what is
    /// not published yet: a slot more or less there, for all of them.
    pub(super) fn follow_drift(&mut self, now: i64) {
        let wall = self.origin.position(now);
        let by = match (&self.timeline, &self.watch.raw) {
            (Some(line), _) => line.correction(wall),
            (None, Some(raw)) => raw.due(wall),
            (None, None) => 0,
        };
        if by == 0 {
            return;
        }
        let open = || self.tracks.iter().filter(|track| track.is_open());
        let mut quiet = open().flat_map(|track| track.writer.quiet());
        let found = quiet.find(|at| open().all(|track| track.writer.is_quiet(*at)));
        drop(quiet);
        let Some(at) = found else { return };
        for track in &mut self.tracks {
            track.writer.correct(at, by);
        }
        match (&mut self.timeline, &mut self.watch.raw) {
            (Some(line), _) => line.correct(by, wall),
            (None, Some(raw)) => raw.correct(by, wall),
            (None, None) => (),
        }
    }
}

/// What is told of a clock that is not what it was said to be.
pub(super) fn strayed(pts: i64, now: i64) -> RoomNews {
    let off = pts.saturating_sub(now) / 1_000_000;
    let message = format!(
        "its clock is to show Unix time and is {off} s off: its audio is placed by when it comes"
    );
    RoomNews::AdapterError { message }
}
