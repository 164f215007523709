//! The simulated room: slot by slot, what its participants say and what goes
//! wrong. It is told the time and reads no clock.

use std::path::PathBuf;

use audio_gateway::{
    limits::SIM_LATE_MAX,
    sdk::pipe::{Audio, FromAdapter, MediaClock, Participant, Stats, ToAdapter, Track as Opened},
};

use crate::{
    clock::Clock,
    outbox::Outbox,
    params::{Fate, Plan},
    playout::{Playout, Report},
    source::Source,
    track::{Slot, Track},
};

/// The user whose track is what was pushed.
const ECHO: &str = "echo";

/// A room that was joined.
pub(crate) struct Room {
    plan: Plan,
    clock: Clock,
    tracks: Vec<Track>,
    /// The stream of the echo, and whether it is subscribed.
    echo: Option<(u16, bool)>,
    playout: Playout,
    /// The slot that is written next, and when.
    slot: i64,
    due: i64,
    /// How many of the plan's fates, moves and pieces of garbage have been.
    moved: usize,
    littered: usize,
    flooded: i64,
    /// Samples that nobody took in time.
    late: u64,
    samples: Vec<i16>,
    pcm: Vec<u8>,
    reports: Vec<Report>,
}

impl Room {
    /// Makes the room of a plan.
    ///
    /// # Errors
    /// Where a source cannot be played: a line that says why and the mend.
    pub(crate) fn new(plan: Plan, media_dirs: &[PathBuf]) -> Result<Self, String> {
        let mut tracks = Vec::with_capacity(plan.people.len());
        for (index, person) in plan.people.iter().enumerate() {
            let source = Source::open(&person.source, index, plan.repeat, media_dirs)?;
            let (user, role) = (person.user.clone(), person.role.clone());
            tracks.push(Track::new(index as u16 + 1, user, role, source));
        }
        Ok(Self {
            clock: Clock::new(&plan),
            due: 0,
            echo: plan.echo.then_some((tracks.len() as u16 + 1, false)),
            tracks,
            playout: Playout::default(),
            slot: 0,
            moved: 0,
            littered: 0,
            flooded: 0,
            late: 0,
            samples: vec![0; (plan.frame_us * 16 / 1_000) as usize],
            pcm: Vec::new(),
            reports: Vec::new(),
            plan,
        })
    }

    /// Why it cannot be joined, where that is the plan.
    pub(crate) fn refuses(&mut self) -> Option<String> {
        self.plan.fail_join.take()
    }

    /// Joins, at this time by the wall, and says who is there at the start.
    pub(crate) fn open(&mut self, unix_us: i64, out: &mut Outbox) {
        self.clock.start(unix_us);
        self.due = self.clock.due(0);
        let clock = if self.plan.unix { MediaClock::Unix } else { MediaClock::Own };
        out.send(&FromAdapter::Joined { now: self.clock.now(0), clock });
        if let Some(slot) = self.clock.epoch() {
            self.tracks.iter_mut().for_each(|track| track.count_from(slot));
        }
        let now = self.clock.pts(0);
        for (track, person) in self.tracks.iter_mut().zip(&self.plan.people) {
            if person.present {
                track.enter(now, out);
            }
        }
        if let Some((stream, _)) = self.echo {
            let user = ECHO.to_owned();
            let who = Participant { user: user.clone(), name: None, role: None };
            out.send(&FromAdapter::ParticipantJoined(who));
            let track = Opened { user, role: None };
            out.send(&FromAdapter::TrackOpened { stream, pts: now, track });
        }
    }

    /// When the next slot is written, in µs since JOINED.
    pub(crate) fn due(&self) -> i64 {
        self.due
    }

    /// Does what the worker says, `real` µs after JOINED.
    pub(crate) fn hear(&mut self, message: ToAdapter<'_>, real: i64, out: &mut Outbox) {
        match message {
            ToAdapter::Subscribe { stream, on } => self.subscribe(stream, on, out),
            ToAdapter::Audio(audio) => self.playout.push(audio.pcm),
            ToAdapter::Mark { name } => self.playout.mark(name),
            ToAdapter::Clear => self.playout.clear(&mut self.reports),
            ToAdapter::Pause => self.playout.pause(true),
            ToAdapter::Resume => self.playout.pause(false),
            ToAdapter::Gain { db } => self.playout.gain(db),
            ToAdapter::Ping => {
                let stats = Stats {
                    dropped: self.playout.dropped() + self.late,
                    queued: self.playout.queued(),
                    ..Stats::default()
                };
                out.send(&FromAdapter::Stats { now: self.clock.now(real), stats });
            }
            ToAdapter::Token { .. } => out.say("took a new token"),
            ToAdapter::Welcome(_) | ToAdapter::Join(_) | ToAdapter::Leave { .. } => {
                let message = "already in a room".to_owned();
                out.send(&FromAdapter::Error { message, fatal: false });
            }
        }
        self.tell(out);
    }

    fn subscribe(&mut self, stream: u16, on: bool, out: &mut Outbox) {
        let known = match (self.tracks.get_mut(usize::from(stream) - 1), &mut self.echo) {
            (Some(track), _) => track.subscribe(on),
            (None, Some((echo, subscribed))) if *echo == stream => {
                *subscribed = on;
                true
            }
            (None, _) => false,
        };
        if !known && on {
            let message = format!("stream {stream} is not open");
            out.send(&FromAdapter::Error { message, fatal: false });
        }
    }

    /// Writes the slot that is due at `real`; says whether the end has come.
    pub(crate) fn play(&mut self, real: i64, out: &mut Outbox) -> Option<Fate> {
        if real - self.due > SIM_LATE_MAX.as_micros() as i64 {
            self.lose(real, out);
            return self.fate();
        }
        let begin = self.clock.begin(self.slot);
        let span = (self.clock.pts(self.slot), self.clock.pts(self.slot) + self.plan.frame_us);
        self.move_people(begin, span.0, out);
        let withheld = self.plan.stalls.iter().any(|stall| !stall.burst && stall.covers(begin));
        for track in &mut self.tracks {
            if track.has_ended() {
                track.leave(span.0, out);
            }
            let muted = self.plan.mutes.iter().any(|mute| mute.covers(&track.user, begin));
            let idle = self.plan.idles.iter().any(|idle| idle.covers(&track.user, begin));
            let lost = self.plan.losses.iter().any(|lost| lost.covers(&track.user, begin));
            let what = match () {
                () if withheld => Slot::Withheld,
                () if lost => Slot::Lost,
                () if muted || idle => Slot::Idle,
                () => Slot::Audio,
            };
            track.mute(muted, span.0, out);
            track.play(self.slot, what, span, &mut self.samples, &mut self.pcm, out);
        }
        self.play_pushed(span, withheld, out);
        self.litter(begin, out);
        self.slot += 1;
        self.due = self.clock.due(self.slot);
        self.fate()
    }

    fn move_people(&mut self, begin: i64, pts: i64, out: &mut Outbox) {
        while let Some((at, user, coming)) = self.plan.moves.get(self.moved)
            && *at <= begin
        {
            self.moved += 1;
            if let Some(track) = self.tracks.iter_mut().find(|track| track.user == *user) {
                if *coming { track.enter(pts, out) } else { track.leave(pts, out) }
            }
        }
    }

    /// Plays what was pushed, and lets it be heard where that was asked for.
    fn play_pushed(&mut self, (pts, end): (i64, i64), withheld: bool, out: &mut Outbox) {
        let sounding = self.playout.play(&mut self.samples, &mut self.reports);
        if let Some((stream, true)) = self.echo
            && !withheld
        {
            self.pcm.clear();
            self.pcm.extend(self.samples.iter().flat_map(|sample| sample.to_le_bytes()));
            out.send(&match sounding {
                true => FromAdapter::Audio(Audio { stream, pts, pcm: &self.pcm }),
                false => FromAdapter::Idle { stream, pts: end },
            });
        }
        self.tell(out);
    }

    fn tell(&mut self, out: &mut Outbox) {
        let pts = self.clock.pts(self.slot);
        for report in self.reports.drain(..) {
            out.send(&match report {
                Report::Flow(go) => FromAdapter::Flow { go },
                Report::Mark { name, cleared } => FromAdapter::MarkReached { name, cleared },
                Report::Played(samples) => FromAdapter::Played { samples, pts },
            });
        }
    }

    /// Garbage on stdout between frames, and chatter on stderr.
    fn litter(&mut self, begin: i64, out: &mut Outbox) {
        while let Some(garbage) = self.plan.garbage.get(self.littered)
            && garbage.at_s.0 <= begin
        {
            self.littered += 1;
            let mut random = fastrand::Rng::with_seed(self.littered as u64);
            let text = b"[edge] SG stream up\r\n".iter().copied();
            let noise = text.chain(std::iter::repeat_with(|| random.u8(..)));
            out.bytes.extend(noise.take(garbage.bytes as usize));
        }
        let wanted = i64::from(self.plan.stderr_flood) * (begin + self.plan.frame_us) / 1_000_000;
        let line = b"sdk-sim: this line is one of very many that nobody asked for, as SDKs do\n";
        let count = (wanted - self.flooded).clamp(0, 1 << 20) as usize;
        out.log.extend(line.iter().cycle().take(count));
        self.flooded = wanted;
    }

    /// Nobody took the audio for too long: what is late is lost, and said so.
    fn lose(&mut self, real: i64, out: &mut Outbox) {
        let first = self.slot;
        while self.due <= real {
            self.slot += 1;
            self.due = self.clock.due(self.slot);
        }
        let (from, to) = (self.clock.pts(first), self.clock.pts(self.slot));
        let samples = (self.slot - first) as u64 * self.samples.len() as u64;
        let span = (from, to.max(from));
        for track in self.tracks.iter_mut().filter(|track| track.is_heard()) {
            self.late += samples;
            track.play(first, Slot::Lost, span, &mut self.samples, &mut self.pcm, out);
        }
        out.say(&format!("nobody read for long: {samples} samples of each track are lost"));
    }

    fn fate(&self) -> Option<Fate> {
        let begin = self.clock.begin(self.slot);
        let planned = self.plan.fates.first().filter(|(at, _)| *at <= begin);
        let over = self.echo.is_none() && self.tracks.iter().all(Track::has_ended);
        planned.map(|(_, fate)| *fate).or(over.then_some(Fate::Ended))
    }
}

#[cfg(test)]
mod tests;
