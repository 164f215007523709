//! A room read as its adapter's protocol: bytes in, slots and events out.

mod clock;
mod drift;
mod in_a_row;
mod leave;
mod mixes;
mod raw;
mod select;

use std::collections::BTreeMap;

use super::*;
use crate::{
    audio::{Batch, FLAG_DISCONTINUITY, FLAG_LAST, SlotState},
    sdk::pipe::{
        Audio, FromAdapter, Hello, MediaClock, Participant, ToAdapter, Track as TrackInfo,
    },
};

/// The room's origin, µs since the Unix epoch.
const ORIGIN: i64 = 1_000_000_000;
/// What the adapter's clock shows at the origin, µs.
const PTS: i64 = 77_000_000;
const SLOT_US: i64 = 20_000;
const SWEEP: i64 = 200_000;

/// A room with its adapter; time is µs since the room's origin.
struct Play {
    room: Room,
    fx: Effects,
    encoder: Encoder,
    /// What was published, by user, or by track where that has none.
    heard: BTreeMap<String, Vec<Batch>>,
    news: Vec<RoomNews>,
    words: Vec<Word>,
    /// What the adapter was told.
    told: Vec<String>,
    sample: u16,
}

impl Play {
    fn new(mode: Mode, pull: Pull) -> Self {
        let spec = Spec {
            room: RoomId::parse("r").unwrap(),
            task: TaskId::parse("t").unwrap(),
            epoch: Epoch(5),
            origin_us: ORIGIN,
            worker: WorkerId::parse("w").unwrap(),
            mode,
            params: Params::default(),
            pull: Some(pull),
            push: None,
            held: false,
            taken_over: false,
        };
        Self {
            room: Room::new(spec, ORIGIN),
            fx: Effects::default(),
            encoder: Encoder::default(),
            heard: BTreeMap::new(),
            news: Vec::new(),
            words: Vec::new(),
            told: Vec::new(),
            sample: 0,
        }
    }

    fn framed() -> Self {
        Self::new(Mode::Framed, Pull::default())
    }

    /// A room joined at the origin, with the track of `u` on stream 1.
    fn joined() -> Self {
        let mut play = Self::framed();
        play.join(0);
        play.open(0, 1, "u");
        play
    }

    fn join(&mut self, at: i64) {
        self.greet(at, MediaClock::Own);
        self.say(at, &FromAdapter::Joined { now: PTS + at, clock: MediaClock::Own });
    }

    fn greet(&mut self, at: i64, clock: MediaClock) {
        self.encoder = Encoder::default();
        self.room.attach(ORIGIN + at, &mut self.fx);
        let (name, version) = ("a".into(), String::new());
        self.say(at, &FromAdapter::Hello(Hello { protocol: 1, name, version, clock }));
    }

    fn open(&mut self, at: i64, stream: u16, user: &str) {
        let track = TrackInfo { user: user.into(), role: None };
        self.say(at, &FromAdapter::TrackOpened { stream, pts: PTS + at, track });
    }

    fn say(&mut self, at: i64, message: &FromAdapter<'_>) {
        let mut bytes = Vec::new();
        self.encoder.write(message, &mut bytes).unwrap();
        self.bytes(at, &bytes);
    }

    fn bytes(&mut self, at: i64, bytes: &[u8]) {
        self.room.take(bytes, ORIGIN + at, &mut self.fx);
        self.collect();
    }

    /// Frames of a ramp, captured from `from` up to `to`, written at `at`.
    fn ramp(&mut self, at: i64, (from, to): (i64, i64)) {
        let mut pts = from;
        while pts < to {
            let pcm = self.pcm(320);
            self.say(at, &FromAdapter::Audio(Audio { stream: 1, pts: PTS + pts, pcm: &pcm }));
            pts += SLOT_US;
        }
    }

    fn pcm(&mut self, samples: u16) -> Vec<u8> {
        let first = self.sample;
        self.sample = first.wrapping_add(samples);
        (0..samples).flat_map(|at| first.wrapping_add(at).wrapping_add(1).to_le_bytes()).collect()
    }

    fn sweep(&mut self, at: i64) {
        self.room.settle(ORIGIN + at, true, &mut self.fx);
        self.collect();
    }

    fn late_sweep(&mut self, at: i64) {
        self.room.settle(ORIGIN + at, false, &mut self.fx);
        self.collect();
    }

    fn collect(&mut self) {
        for out in self.fx.batches.drain(..) {
            let batch = Batch::decode(&out.batch.payload).unwrap();
            assert_eq!((batch.seq, batch.epoch), (out.batch.seq, 5));
            assert_eq!(out.address.to_string(), format!("audio.live.r.{}", out.track));
            let mix = batch.user.is_empty();
            let name = if mix { out.track.to_string() } else { batch.user.clone() };
            let name = if out.track.as_str() == "=YWxs" { "=YWxs".into() } else { name };
            self.heard.entry(name).or_default().push(batch);
        }
        for notice in self.fx.notices.drain(..) {
            match notice {
                Notice::News { what, .. } => self.news.push(what),
                Notice::Word(word) => self.words.push(word),
            }
        }
        let stdin = std::mem::take(&mut self.fx.stdin);
        let (mut input, mut decoder) = (&stdin[..], Decoder::to_adapter());
        while let Some(frame) = decoder.next(&mut input) {
            self.told.push(format!("{:?}", ToAdapter::parse(frame).unwrap()));
        }
    }

    /// The batches of a user, which must follow each other.
    fn batches(&self, user: &str) -> &[Batch] {
        let batches = self.heard.get(user).map_or(&[][..], Vec::as_slice);
        for (at, pair) in batches.windows(2).enumerate() {
            assert_eq!(pair[0].seq + 1, pair[1].seq, "seq at {at}");
            assert_eq!(pair[0].end(), pair[1].pos, "pos at {at}");
        }
        batches
    }

    fn lengths(&self) -> Vec<u8> {
        self.batches("u").iter().map(|batch| batch.runs.slots()).collect()
    }

    /// States and slot counts in a row, from the first batch to the last.
    fn runs(&self) -> Vec<(SlotState, u64)> {
        let mut runs: Vec<(SlotState, u64)> = Vec::new();
        for run in self.batches("u").iter().flat_map(|batch| batch.runs.iter()) {
            match runs.last_mut() {
                Some(last) if last.0 == run.state => last.1 += u64::from(run.count),
                _ => runs.push((run.state, run.count.into())),
            }
        }
        runs
    }
}

#[test]
fn a_room_is_joined_in_the_order_of_the_protocol() {
    let mut play = Play::joined();
    assert!(play.told[0].starts_with("Welcome"), "{:?}", play.told);
    assert!(play.told[1].starts_with("Join "), "{:?}", play.told);
    assert!(play.told[2].starts_with("Subscribe { 1, true"), "{:?}", play.told);
    assert_eq!(play.words, [Word::Joined]);
    let track = TrackId::of_user("u");
    let (user, role) = ("u".to_owned(), String::new());
    assert_eq!(play.news, [RoomNews::TrackOpened { track, user, role }]);
    play.room.leave("enough", &mut play.fx);
    play.collect();
    assert!(play.told[3].contains("enough"), "{:?}", play.told);
    assert_eq!(play.room.period().as_micros() as i64, SWEEP);
}

#[test]
fn a_ramp_comes_in_batches_of_ten_and_what_is_early_is_the_next_one_s() {
    let mut play = Play::joined();
    // A frame too few, and one too many: whoever sweeps is told.
    let ends = [200_000, 400_000, 580_000, 600_000, 820_000, 1_000_000, 1_240_000];
    let [none, full, soon] =
        [(false, false), (true, false), (false, true)].map(|(full, soon)| Found { full, soon });
    assert_eq!(play.room.found(), none);
    let (mut from, mut found) = (0, Vec::new());
    for to in ends {
        play.ramp(to, (from, to));
        found.push(play.room.found());
        if found.last() == Some(&full) {
            play.sweep(to);
        }
        from = to;
    }
    assert_eq!(found, [full, full, soon, full, full, full, full]);
    assert_eq!(play.lengths(), [10, 10, 10, 10, 10, 10, 2]);
    assert_eq!(play.batches("u")[0].pos, 0);
    assert_eq!(play.batches("u")[0].time, ORIGIN);
    let mut next = 1u16;
    for pcm in play.batches("u").iter().flat_map(|batch| batch.pcm.chunks(2)) {
        assert_eq!(u16::from_le_bytes([pcm[0], pcm[1]]), next);
        next = next.wrapping_add(1);
    }
    assert_eq!((play.fx.tally.frames, play.room.rest()), (62, 0));
}

#[test]
fn who_takes_a_room_over_is_heard_once_it_overlaps_with_who_leaves() {
    for (taken_over, batches) in [(false, 1), (true, 2)] {
        let mut play = Play::joined();
        play.room.spec.taken_over = taken_over;
        let mut heard = 0;
        while !play.room.is_heard() {
            let from = heard * SWEEP;
            play.ramp(from + SWEEP, (from, from + SWEEP));
            play.sweep(from + SWEEP);
            heard += 1;
        }
        assert_eq!(heard, batches);
    }
}

#[test]
fn before_a_hand_over_a_frame_waits_for_the_last_batch() {
    let mut play = Play::joined();
    play.ramp(200_000, (0, 200_000));
    play.room.keep_back(true);
    assert_eq!(play.room.found(), Found { full: false, soon: true });
    play.ramp(220_000, (200_000, 220_000));
    assert_eq!(play.room.found(), Found { full: true, soon: false });
    play.sweep(220_000);
    assert_eq!((play.lengths(), play.room.rest()), (vec![10], 0));
    // Nothing is between the last frame and the successor's first.
    play.room.close(ORIGIN + 230_000, &mut play.fx);
    play.collect();
    assert_eq!(play.runs(), [(SlotState::Audio, 11)]);
    assert!(play.batches("u")[1].has(FLAG_LAST));
}

#[test]
fn who_is_a_frame_behind_another_speaker_is_waited_for_and_who_is_silent_is_not() {
    let mut play = Play::joined();
    play.open(0, 2, "v");
    let say = |play: &mut Play, stream, (from, to): (i64, i64)| {
        for pts in (from..to).step_by(20_000) {
            let audio = Audio { stream, pts: PTS + pts, pcm: &[1; 640] };
            play.say(to, &FromAdapter::Audio(audio));
        }
    };
    say(&mut play, 1, (0, 200_000));
    assert_eq!(play.room.found(), Found { full: true, soon: false });
    say(&mut play, 2, (0, 180_000));
    assert_eq!(play.room.found(), Found { full: true, soon: true });
    say(&mut play, 2, (180_000, 200_000));
    play.sweep(200_000);
    assert_eq!(play.room.rest(), 0);
    // Both are out of step by half a batch: each look takes what there is.
    say(&mut play, 1, (200_000, 400_000));
    say(&mut play, 2, (200_000, 320_000));
    assert_eq!(play.room.found(), Found { full: true, soon: false });
    play.sweep(400_000);
    assert_eq!(play.heard["v"].last().map(|batch| batch.runs.slots()), Some(6));
}

#[test]
fn an_adapter_a_little_late_costs_nothing_and_a_stalled_one_its_own_audio() {
    let mut play = Play::joined();
    play.ramp(200_000, (0, 200_000));
    play.sweep(200_000);
    play.late_sweep(400_000); // we are late ourselves
    assert_eq!(play.lengths(), [10]);
    play.sweep(400_000); // nothing: one slot, not all that is missing
    assert_eq!(play.runs(), [(SlotState::Audio, 10), (SlotState::Stalled, 1)]);
    play.late_sweep(800_000);
    play.sweep(1_000_000); // up to a sweep ago
    assert_eq!(play.runs(), [(SlotState::Audio, 10), (SlotState::Stalled, 30)]);

    // The burst fills no more than what is not told yet.
    play.ramp(1_200_000, (200_000, 1_200_000));
    play.sweep(1_200_000);
    let runs = [(SlotState::Audio, 10), (SlotState::Stalled, 30), (SlotState::Audio, 20)];
    assert_eq!(play.runs(), runs);
    let track = TrackId::of_user("u");
    let gap = RoomNews::Gap { track, slots: 30, state: SlotState::Stalled.to_wire() };
    assert_eq!(play.news.last(), Some(&gap));
}

#[test]
fn a_muted_track_says_so_as_time_passes() {
    let mut play = Play::joined();
    play.ramp(200_000, (0, 200_000));
    play.sweep(200_000);
    play.say(300_000, &FromAdapter::Muted { stream: 1, pts: PTS + 300_000 });
    for sweep in 2..=6 {
        play.sweep(sweep * SWEEP);
    }
    play.say(1_250_000, &FromAdapter::Unmuted { stream: 1, pts: PTS + 1_240_000 });
    play.ramp(1_400_000, (1_240_000, 1_400_000));
    play.sweep(1_400_000);
    let runs = play.runs();
    assert_eq!(runs[0], (SlotState::Audio, 10));
    let states: Vec<_> = runs.iter().map(|run| run.0).collect();
    use SlotState::{Audio, Muted, Stalled};
    // Between the last frame and MUTED the adapter said nothing.
    assert_eq!(states, [Audio, Stalled, Muted, Audio], "{runs:?}");
    assert_eq!(runs.iter().map(|run| run.1).sum::<u64>(), 70);
    let silent = play.batches("u").windows(2).map(|two| two[1].time - two[0].time).max();
    assert!(silent <= Some(2 * SWEEP), "a track speaks every sweep");
    let track = TrackId::of_user("u");
    assert!(play.news.contains(&RoomNews::Muted { track: track.clone() }));
    assert!(play.news.contains(&RoomNews::Unmuted { track }));
}

#[test]
fn idle_is_silence_and_lost_is_lost() {
    let mut play = Play::joined();
    // Who begins with silence is not accused of it.
    for end in [200_000, 400_000] {
        play.say(end, &FromAdapter::Idle { stream: 1, pts: PTS + end });
        play.sweep(end);
    }
    play.say(600_000, &FromAdapter::Lost { stream: 1, from: PTS + 400_000, to: PTS + 460_000 });
    play.ramp(600_000, (460_000, 600_000));
    play.sweep(600_000);
    play.ramp(800_000, (600_000, 800_000));
    play.sweep(800_000);
    let runs = [(SlotState::Silence, 10), (SlotState::Lost, 3), (SlotState::Audio, 17)];
    assert_eq!(play.runs(), runs);
    let track = TrackId::of_user("u");
    assert_eq!(play.news.last(), Some(&RoomNews::Gap { track, slots: 3, state: 4 }));
}

#[test]
fn garbage_costs_itself_alone_and_what_breaks_the_protocol_is_told() {
    let mut play = Play::joined();
    play.bytes(100_000, b"[sdk] a line on stdout\n");
    play.ramp(200_000, (0, 200_000));
    // Audio of a track nobody opened, and an odd length.
    play.say(200_000, &FromAdapter::Audio(Audio { stream: 9, pts: PTS, pcm: &[0; 640] }));
    play.say(200_000, &FromAdapter::TrackClosed { stream: 9, pts: PTS });
    play.sweep(200_000);
    assert_eq!(play.runs(), [(SlotState::Audio, 10)]);
    assert_eq!(play.fx.tally.refused, 2);
    assert_eq!(play.words, [Word::Joined]);

    let frame = |kind: u8, flags: u8| {
        let mut bytes = vec![0x53, 0x47, 1, kind, 0, flags];
        bytes.resize(24, 0);
        bytes
    };
    play.bytes(400_000, &frame(12, 0)); // PLAYED without its numbers
    assert!(matches!(play.news.last(), Some(RoomNews::AdapterError { .. })));
    play.bytes(400_000, &frame(40, 0x80)); // must be understood
    assert!(matches!(play.words[..], [Word::Joined, Word::Broken(_)]), "{:?}", play.words);
}

#[test]
fn who_speaks_another_protocol_is_not_let_in() {
    let mut play = Play::framed();
    play.room.attach(ORIGIN, &mut play.fx);
    let hello =
        Hello { protocol: 2, name: "new".into(), version: String::new(), clock: MediaClock::Own };
    play.say(0, &FromAdapter::Hello(hello));
    assert!(matches!(&play.words[..], [Word::Broken(why)] if why.contains("protocol 2")));
    assert_eq!(play.told, [""; 0]);
}

#[test]
fn only_the_roles_asked_for_are_subscribed() {
    let pull = Pull { roles: vec!["host".into()], ..Pull::default() };
    let mut play = Play::new(Mode::Framed, pull);
    play.join(0);
    for (user, role) in [("h", "host"), ("g", "guest")] {
        let who = Participant { user: user.into(), name: None, role: Some(role.into()) };
        play.say(0, &FromAdapter::ParticipantJoined(who));
    }
    play.open(0, 1, "g");
    play.open(0, 2, "h");
    assert!(play.told[2].starts_with("Subscribe { 2"), "{:?}", play.told);
    assert_eq!(play.told.len(), 3);
    play.say(0, &FromAdapter::Audio(Audio { stream: 1, pts: PTS, pcm: &[1; 640] }));
    play.sweep(200_000);
    assert_eq!(play.heard.keys().collect::<Vec<_>>(), ["h"]);
    assert_eq!(play.batches("h")[0].role, "host");
}

#[test]
fn a_user_has_one_track_at_a_time() {
    let mut play = Play::joined();
    play.open(0, 2, "u");
    assert!(
        matches!(play.news.last(), Some(RoomNews::AdapterError { message }) if message.contains("stream 2")),
        "{:?}",
        play.news
    );
    play.ramp(200_000, (0, 200_000));
    play.sweep(200_000);
    assert_eq!(play.lengths(), [10]);
}

#[test]
fn who_comes_back_goes_on_counting() {
    let mut play = Play::joined();
    play.ramp(200_000, (0, 200_000));
    play.sweep(200_000);
    play.say(300_000, &FromAdapter::TrackClosed { stream: 1, pts: PTS + 300_000 });
    for sweep in 2..=12 {
        play.sweep(sweep * SWEEP);
    }
    let closed = play.batches("u").len();
    assert!(matches!(play.news.last(), Some(RoomNews::TrackClosed { .. })), "{:?}", play.news);
    for sweep in 13..20 {
        play.sweep(sweep * SWEEP);
    }
    assert_eq!(play.batches("u").len(), closed, "a closed track says nothing");
    play.open(4_000_000, 1, "u");
    play.ramp(4_200_000, (4_000_000, 4_200_000));
    for sweep in 21..=22 {
        play.sweep(sweep * SWEEP);
    }
    let runs = play.runs();
    assert_eq!(runs[0], (SlotState::Audio, 10));
    let to_the_end = runs.iter().map(|run| run.1).sum::<u64>();
    let after = runs.iter().rev().take_while(|run| run.0 != SlotState::Audio);
    assert_eq!(to_the_end - after.map(|run| run.1).sum::<u64>(), 210, "{runs:?}");
    assert!(!play.batches("u").iter().any(|batch| batch.has(FLAG_LAST)));
}

#[test]
fn a_crash_leaves_an_absence_and_the_next_adapter_goes_on() {
    let mut play = Play::joined();
    play.ramp(200_000, (0, 200_000));
    play.sweep(200_000);
    play.room.detach(ORIGIN + 250_000);
    for sweep in 2..=5 {
        play.sweep(sweep * SWEEP);
    }
    play.join(1_000_000);
    play.open(1_000_000, 1, "u");
    play.ramp(1_200_000, (1_000_000, 1_200_000));
    play.sweep(1_200_000);
    let runs = [(SlotState::Audio, 10), (SlotState::Absent, 40), (SlotState::Audio, 10)];
    assert_eq!(play.runs(), runs);
    assert_eq!(play.news.len(), 1, "it was never closed: {:?}", play.news);

    // A track that nobody opens again is closed in the end.
    play.room.detach(ORIGIN + 1_400_000);
    play.join(1_600_000);
    play.sweep(1_800_000);
    play.sweep(12_000_000);
    let closed = |news: &RoomNews| matches!(news, RoomNews::TrackClosed { .. });
    assert!(play.news.iter().any(closed), "{:?}", play.news);
}

#[test]
fn the_end_of_the_epoch_is_said_once_on_each_track() {
    let mut play = Play::joined();
    play.ramp(100_000, (0, 100_000));
    play.room.close(ORIGIN + 100_000, &mut play.fx);
    play.collect();
    let last: Vec<_> = play.batches("u").iter().map(|batch| batch.has(FLAG_LAST)).collect();
    assert_eq!(last, [true]);
    assert!(matches!(play.news.last(), Some(RoomNews::TrackClosed { .. })));
}
