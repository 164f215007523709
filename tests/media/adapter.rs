//! An adapter in the room, as the bytes it writes and reads on its pipe.

use audio_gateway::sdk::pipe::{
    Audio, Decoder, Encoder, FromAdapter, Hello, MediaClock, Participant, ToAdapter, Track,
};
use fastrand::Rng;

use super::{
    ORIGIN,
    truth::{Act, Person, SLOT_US},
};

/// What is wrong with an adapter, in µs since the origin.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Its clock runs so much fast.
    pub ppm: i64,
    /// It writes nothing from … to …, and then all of it.
    pub stalls: Vec<(i64, i64)>,
    /// What it hears from … to … it loses, and says so.
    pub lost: Vec<(i64, i64)>,
    /// … and does not say so.
    pub holes: Vec<(i64, i64)>,
    /// Its clock steps at … by ….
    pub steps: Vec<(i64, i64)>,
    /// Prints on its stdout at ….
    pub garbage: Vec<i64>,
    /// It is in the room so long after its start.
    pub join_us: i64,
}

#[derive(Debug)]
struct Seen {
    stream: u16,
    subscribed: bool,
    muted: bool,
    /// Since when it was not subscribed, where nothing was told of that.
    untold: Option<i64>,
}

/// See the module.
#[derive(Debug)]
pub struct Adapter {
    pub clock: MediaClock,
    pub faults: Faults,
    encoder: Encoder,
    ears: Decoder,
    zero: i64,
    started: i64,
    told_to_join: bool,
    pub joined: bool,
    /// The next slot of the room's time.
    slot: i64,
    tracks: Vec<Option<Seen>>,
    /// Asked what its clock reads at this time.
    pinged: Option<i64>,
    pub dead: bool,
    /// Slots of audio that it has written, by person.
    pub wrote: Vec<(usize, i64)>,
}

impl Adapter {
    pub fn new(clock: MediaClock, faults: Faults, people: usize, now: i64, rng: &mut Rng) -> Self {
        // A clock of its own counts from anywhere, in whole samples.
        let zero = match clock {
            MediaClock::Unix => ORIGIN,
            MediaClock::Own => rng.i64(0..1 << 20) * 125,
        };
        Self {
            clock,
            faults,
            encoder: Encoder::default(),
            ears: Decoder::to_adapter(),
            zero,
            started: now,
            told_to_join: false,
            joined: false,
            slot: 0,
            tracks: (0..people).map(|_| None).collect(),
            pinged: None,
            dead: false,
            wrote: Vec::new(),
        }
    }

    /// The room's own time at a time by the wall.
    pub fn media(&self, now: i64) -> i64 {
        now + now * self.faults.ppm / 1_000_000
    }

    /// What its clock shows at a time of the room's.
    fn pts(&self, media: i64) -> i64 {
        let steps = self.faults.steps.iter().filter(|(at, _)| *at <= media);
        self.zero + media + steps.map(|(_, by)| by).sum::<i64>()
    }

    /// Takes what the worker wrote.
    pub fn hear(&mut self, bytes: &[u8], now: i64, rng: &mut Rng) {
        let mut ears = std::mem::replace(&mut self.ears, Decoder::to_adapter());
        let mut input = bytes;
        while let Some(frame) = ears.next(&mut input) {
            match ToAdapter::parse(frame).unwrap() {
                ToAdapter::Join(_) => self.told_to_join = true,
                ToAdapter::Subscribe { stream, on } => {
                    for track in self.tracks.iter_mut().flatten() {
                        if track.stream == stream {
                            track.subscribed = on;
                        }
                    }
                }
                ToAdapter::Ping => self.pinged = Some(now + rng.i64(0..30_000)),
                _ => (),
            }
        }
        self.ears = ears;
    }

    /// Writes what is due by now.
    pub fn write(&mut self, people: &[Person], now: i64, out: &mut Vec<u8>) {
        if self.dead {
            return;
        }
        if self.started >= 0 {
            self.started = i64::MIN;
            let (name, version) = ("sim".into(), String::new());
            let hello = Hello { protocol: 1, name, version, clock: self.clock };
            self.say(&FromAdapter::Hello(hello), out);
            self.faults.join_us += now;
        }
        if !self.joined {
            if !self.told_to_join || now < self.faults.join_us {
                return;
            }
            self.joined = true;
            let media = self.media(now);
            let reading = self.pts(media);
            self.say(&FromAdapter::Joined { now: reading, clock: MediaClock::Own }, out);
            self.slot = media / SLOT_US + 1;
        }
        if self.faults.stalls.iter().any(|(from, to)| (*from..*to).contains(&now)) {
            return;
        }
        if let Some(at) = self.pinged.filter(|at| *at <= now) {
            self.pinged = None;
            let now = self.pts(self.media(at));
            self.say(&FromAdapter::Stats { now, stats: Default::default() }, out);
        }
        while (self.slot + 1) * SLOT_US <= self.media(now) {
            self.slot(people, out);
            self.slot += 1;
        }
    }

    fn slot(&mut self, people: &[Person], out: &mut Vec<u8>) {
        let media = self.slot * SLOT_US;
        if self.faults.garbage.iter().any(|at| (*at..at + SLOT_US).contains(&media)) {
            out.extend_from_slice(b"[sdk] 53 47 SG\x53\x47\x01 a line on stdout\n");
        }
        let within =
            |list: &[(i64, i64)]| list.iter().any(|(from, to)| (*from..*to).contains(&media));
        let (lost, hole) = (within(&self.faults.lost), within(&self.faults.holes));
        let (pts, end) = (self.pts(media), self.pts(media) + SLOT_US);
        for (at, person) in people.iter().enumerate() {
            let act = person.at(self.slot);
            self.come_or_go(at, person, act, pts, out);
            let Some(track) = &mut self.tracks[at] else { continue };
            if !track.subscribed {
                continue;
            }
            if hole {
                track.untold.get_or_insert(pts);
                continue;
            }
            let stream = track.stream;
            let untold = track.untold.take().filter(|from| *from < pts);
            // IDLE would account for what came before, too; AUDIO leaves a hole.
            if let Some(from) = untold.filter(|_| act != Act::Talk) {
                self.say(&FromAdapter::Lost { stream, from, to: pts }, out);
            }
            match act {
                _ if lost => self.say(&FromAdapter::Lost { stream, from: pts, to: end }, out),
                Act::Talk => {
                    self.wrote.push((at, self.slot));
                    let pcm = person.pcm(self.slot);
                    self.say(&FromAdapter::Audio(Audio { stream, pts, pcm }), out);
                }
                Act::Zeros => {
                    self.say(&FromAdapter::Audio(Audio { stream, pts, pcm: &[0; 640] }), out);
                }
                // What some send all the same, nobody is to hear.
                Act::Muted if at % 2 == 1 => {
                    let pcm = person.pcm(self.slot);
                    self.say(&FromAdapter::Audio(Audio { stream, pts, pcm }), out);
                }
                Act::Idle | Act::Muted => self.say(&FromAdapter::Idle { stream, pts: end }, out),
                Act::Away => (),
            }
        }
    }

    fn come_or_go(&mut self, at: usize, person: &Person, act: Act, pts: i64, out: &mut Vec<u8>) {
        let user = person.user.clone();
        if act == Act::Away {
            if let Some(track) = self.tracks[at].take() {
                self.say(&FromAdapter::TrackClosed { stream: track.stream, pts }, out);
                self.say(&FromAdapter::ParticipantLeft { user }, out);
            }
            return;
        }
        if self.tracks[at].is_none() {
            let used = |stream: &u16| self.tracks.iter().flatten().any(|it| it.stream == *stream);
            let stream = (1..=256).find(|stream| !used(stream)).unwrap();
            self.tracks[at] =
                Some(Seen { stream, subscribed: false, muted: false, untold: Some(pts) });
            let who = Participant { user: user.clone(), name: None, role: None };
            self.say(&FromAdapter::ParticipantJoined(who), out);
            let track = Track { user, role: None };
            self.say(&FromAdapter::TrackOpened { stream, pts, track }, out);
        }
        let Some(track) = &mut self.tracks[at] else { return };
        let (stream, muted) = (track.stream, act == Act::Muted);
        if track.muted != muted {
            track.muted = muted;
            if muted {
                self.say(&FromAdapter::Muted { stream, pts }, out);
            } else {
                self.say(&FromAdapter::Unmuted { stream, pts }, out);
            }
        }
    }

    fn say(&mut self, message: &FromAdapter<'_>, out: &mut Vec<u8>) {
        self.encoder.write(message, out).unwrap();
    }
}
