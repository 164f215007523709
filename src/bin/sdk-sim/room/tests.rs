//! Rooms played in no time: what each param does to the frames.

use audio_gateway::{sdk::pipe::Decoder, task::Params};
use serde_json::{Value, json};

use super::*;
use crate::{clock::ZERO, params::parse};

/// When rooms are joined, µs since the Unix epoch.
const UNIX: i64 = 1_767_225_600_007_001;

/// A room and everything it said.
struct Played {
    room: Room,
    out: Outbox,
    fate: Option<Fate>,
}

fn plan(params: &Value) -> Result<Plan, String> {
    parse(&Params(params.as_object().unwrap().clone()))
}

impl Played {
    /// A room whose tracks are all subscribed.
    fn new(params: &Value) -> Self {
        let room = Room::new(plan(params).unwrap(), &[]).unwrap();
        let mut played = Self { room, out: Outbox::default(), fate: None };
        played.room.open(UNIX, &mut played.out);
        for stream in 1..=played.streams() {
            played.tell(ToAdapter::Subscribe { stream, on: true });
        }
        played
    }

    fn streams(&self) -> u16 {
        let present = self.room.plan.people.iter().filter(|person| person.present).count();
        present as u16 + u16::from(self.room.echo.is_some())
    }

    fn tell(&mut self, message: ToAdapter<'_>) {
        let due = self.room.due();
        self.room.hear(message, due, &mut self.out);
    }

    /// Plays slots until the end or so many.
    fn slots(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            if self.fate.is_none() {
                self.fate = self.room.play(self.room.due(), &mut self.out);
            }
        }
        self
    }

    /// What was said since the last time, one line a frame; times in ms since
    /// JOINED, samples by the first one.
    fn said(&mut self) -> Vec<String> {
        let bytes = std::mem::take(&mut self.out.bytes);
        let ms = |pts: i64| (pts - ZERO) as f64 / 1_000.0;
        let mut decoder = Decoder::from_adapter();
        let mut input = bytes.as_slice();
        let mut lines = Vec::new();
        while let Some(frame) = decoder.next(&mut input) {
            lines.push(match FromAdapter::parse(frame).unwrap() {
                FromAdapter::Audio(Audio { stream, pts, pcm }) => {
                    let first = i16::from_le_bytes([pcm[0], pcm[1]]) as u16;
                    format!("{stream} audio {} {first}", ms(pts))
                }
                FromAdapter::Idle { stream, pts } => format!("{stream} idle {}", ms(pts)),
                FromAdapter::Lost { stream, from, to } => {
                    format!("{stream} lost {} {}", ms(from), ms(to))
                }
                FromAdapter::Muted { stream, pts } => format!("{stream} muted {}", ms(pts)),
                FromAdapter::Unmuted { stream, pts } => format!("{stream} unmuted {}", ms(pts)),
                FromAdapter::TrackOpened { stream, pts, track } => {
                    let role = track.role.unwrap_or_default();
                    format!("{stream} opened {} {} {role}", ms(pts), track.user)
                }
                FromAdapter::TrackClosed { stream, pts } => format!("{stream} closed {}", ms(pts)),
                FromAdapter::ParticipantJoined(who) => format!("joined {}", who.user),
                FromAdapter::ParticipantLeft { user } => format!("left {user}"),
                FromAdapter::Joined { now, .. } => format!("inside {}", ms(now)),
                FromAdapter::Played { samples, .. } => format!("played {samples}"),
                FromAdapter::MarkReached { name, .. } => format!("mark {name}"),
                other => format!("{other:?}"),
            });
        }
        decoder.end();
        lines
    }
}

#[test]
fn people_are_announced_and_heard_once_subscribed() {
    let mut room = Room::new(plan(&json!({"participants": 2, "source": "ramp"})).unwrap(), &[])
        .map(|room| Played { room, out: Outbox::default(), fate: None })
        .unwrap();
    room.room.open(UNIX, &mut room.out);
    assert_eq!(
        room.said(),
        [
            "inside 0",
            "joined user-0",
            "1 opened 0 user-0 host",
            "joined user-1",
            "2 opened 0 user-1 guest"
        ]
    );
    assert_eq!(room.slots(2).said(), [""; 0], "nobody asked");
    room.tell(ToAdapter::Subscribe { stream: 2, on: true });
    assert_eq!(room.slots(2).said(), ["2 audio 40 9973", "2 audio 60 10293"]);
    room.tell(ToAdapter::Subscribe { stream: 2, on: false });
    assert_eq!(room.slots(1).said(), [""; 0]);
    room.tell(ToAdapter::Subscribe { stream: 2, on: true });
    assert_eq!(room.slots(1).said(), ["2 audio 100 10933"], "the hole shows");
    room.tell(ToAdapter::Subscribe { stream: 3, on: true });
    assert!(room.said()[0].contains("stream 3 is not open"));
}

#[test]
fn what_is_not_sent_shows_as_a_hole_in_the_ramp() {
    let mut room = Played::new(&json!({
        "source": "ramp",
        "mute": {"user": "user-0", "at_s": 0.02, "for_s": 0.02},
        "idle": {"at_s": 0.04, "for_s": 0.02},
        "lost": [{"at_s": 0.06, "for_s": 0.02}],
        "stall": {"at_s": 0.1, "for_s": 0.04, "burst": false},
    }));
    room.said();
    assert_eq!(
        room.slots(8).said(),
        [
            "1 audio 0 0",
            "1 muted 20",
            "1 idle 40",
            "1 unmuted 40",
            "1 idle 60",
            "1 lost 60 80",
            "1 audio 80 1280",
            "1 audio 140 2240", // 100 and 120 are withheld
        ]
    );
}

#[test]
fn a_burst_holds_every_sample() {
    let mut room = Played::new(&json!({"source": "ramp", "stall": {"at_s": 0.02, "for_s": 0.06}}));
    room.said();
    assert_eq!(room.room.due(), 20_000);
    assert_eq!(room.slots(1).room.due(), 80_000);
    let said = room.slots(4).said();
    assert_eq!(said[..3], ["1 audio 0 0", "1 audio 20 320", "1 audio 40 640"]);
}

#[test]
fn people_come_go_and_come_back() {
    let mut room = Played::new(&json!({
        "source": "ramp",
        "leave": {"user": "user-0", "at_s": 0.02},
        "join": [{"user": "user-0", "at_s": 0.06}, {"user": "late", "at_s": 0.04}],
    }));
    room.said();
    assert_eq!(
        room.slots(4).said(),
        [
            "1 audio 0 0",
            "1 closed 20",
            "left user-0",
            "joined late",
            "2 opened 40 late guest",
            "joined user-0",
            "1 opened 60 user-0 host"
        ]
    );
    room.tell(ToAdapter::Subscribe { stream: 1, on: true });
    assert_eq!(room.slots(1).said(), ["1 audio 80 1280"]);
}

#[test]
fn a_clock_step_moves_the_timestamps_and_no_sample() {
    let mut room =
        Played::new(&json!({"source": "ramp", "clock_step": {"at_s": 0.02, "by_ms": 1_000}}));
    room.said();
    assert_eq!(room.slots(2).said(), ["1 audio 0 0", "1 audio 1020 320"]);
}

#[test]
fn rooms_of_unix_time_agree_on_every_sample() {
    for source in ["ramp", "tone"] {
        // One joins 1.2345 s after the other, in the middle of a slot.
        let params = json!({"source": source, "clock": "unix", "participants": 2});
        let heard = |unix: i64| {
            let room = Room::new(plan(&params).unwrap(), &[]).unwrap();
            let mut played = Played { room, out: Outbox::default(), fate: None };
            played.room.open(unix, &mut played.out);
            (1..=2).for_each(|stream| played.tell(ToAdapter::Subscribe { stream, on: true }));
            played.slots(100).said()
        };
        let (first, second) = (heard(UNIX), heard(UNIX + 1_234_500));
        let audio = |said: &[String]| -> Vec<String> {
            said.iter().filter(|line| line.contains("audio")).cloned().collect()
        };
        let (first, second) = (audio(&first), audio(&second));
        // 62 slots of each of the two were before the second came.
        assert_eq!(first[2 * 62..], second[..2 * 38], "{source}");
    }
}

#[test]
fn a_ramp_of_unix_time_tells_the_number_of_the_sample() {
    let mut room = Played::new(&json!({
        "source": "ramp", "clock": "unix", "echo": true,
        "participants": 2, "stall": {"at_s": 0.02, "for_s": 0.02, "burst": false},
    }));
    let said = room.slots(3).said();
    let ms = (UNIX + 12_999 - ZERO) as f64 / 1_000.0;
    assert_eq!(said[0], format!("inside {}", ms - 12.999));
    let number = (UNIX + 12_999) / 1_000 * 16;
    let ramp = |after: i64, index: i64| (number + after + 9_973 * index) as u16;
    let audio: Vec<_> = said.iter().filter(|line| line.contains("audio")).collect();
    let want = [
        format!("1 audio {ms} {}", ramp(0, 0)),
        format!("2 audio {ms} {}", ramp(0, 1)),
        format!("1 audio {} {}", ms + 40.0, ramp(640, 0)),
        format!("2 audio {} {}", ms + 40.0, ramp(640, 1)),
    ];
    assert_eq!(audio, want.iter().collect::<Vec<_>>());
    // The echo is on the same clock.
    assert!(said.contains(&format!("3 idle {}", ms + 20.0)), "{said:?}");
}

#[test]
fn longer_and_shorter_frames() {
    for (ms, samples) in [(10, 160), (40, 640), (60, 960)] {
        let mut room = Played::new(&json!({"source": "ramp", "frame_ms": ms}));
        room.said();
        assert_eq!(
            room.slots(2).said(),
            ["1 audio 0 0".to_owned(), format!("1 audio {ms} {samples}")]
        );
    }
}

#[test]
fn a_room_ends_on_the_sample_and_dies_as_planned() {
    let mut room = Played::new(&json!({"seconds": 0.1, "crash_after_s": 0.2}));
    assert_eq!(room.slots(4).fate, None);
    assert_eq!(room.slots(9).fate, Some(Fate::Ended));
    assert_eq!(room.said().iter().filter(|line| line.contains("audio")).count(), 5);
    for (params, fate) in [
        (json!({"crash_after_s": 0.02}), Fate::Crash(None)),
        (json!({"crash_after_s": 0.02, "crash_code": 7}), Fate::Crash(Some(7))),
        (json!({"exit_after_s": 0.02}), Fate::Exit),
        (json!({"hang_after_s": 0.02}), Fate::Hang),
    ] {
        assert_eq!(Played::new(&params).slots(1).fate, Some(fate));
    }
}

#[test]
fn what_is_pushed_comes_back_as_the_echo() {
    let mut room = Played::new(&json!({"source": "ramp", "echo": true}));
    assert!(room.said().contains(&"2 opened 0 echo ".to_owned()));
    let pcm: Vec<u8> = (500..1_460_i16).flat_map(i16::to_le_bytes).collect();
    for pcm in pcm.chunks(640) {
        room.tell(ToAdapter::Audio(Audio { stream: 0, pts: 0, pcm }));
    }
    room.tell(ToAdapter::Mark { name: "done".into() });
    let mut said = room.slots(4).said();
    said.retain(|line| !line.starts_with('1'));
    assert_eq!(
        said,
        [
            "2 audio 0 500",
            "2 audio 20 820",
            "2 audio 40 1140",
            "mark done",
            "played 960",
            "2 idle 80"
        ]
    );
    room.tell(ToAdapter::Ping);
    assert!(room.said()[0].contains("queued: 0"));
}

#[test]
fn garbage_stands_between_frames() {
    let mut room = Played::new(&json!({
        "source": "ramp", "stderr_flood": 10_000,
        "garbage": [{"at_s": 0.02, "bytes": 500}, {"at_s": 0, "bytes": 3}],
    }));
    assert_eq!(room.slots(3).out.log.len(), 600);
    let said = room.said();
    let audio: Vec<_> = said.iter().filter(|line| line.contains("audio")).collect();
    assert_eq!(audio, ["1 audio 0 0", "1 audio 20 320", "1 audio 40 640"]);
}

#[test]
fn what_nobody_takes_in_time_is_lost_and_said_so() {
    let mut room = Played::new(&json!({"source": "ramp"}));
    room.said();
    room.fate = room.room.play(5_000_000, &mut room.out);
    assert_eq!(room.said(), ["1 lost 0 5000"]);
    assert_eq!(room.slots(1).said(), ["1 audio 5000 14464"]);
    assert_eq!(room.room.due(), 5_040_000);
}

#[test]
fn params_that_cannot_be_are_refused_by_name() {
    let many: Vec<_> = (0..300).map(|i| format!("u{i}")).collect();
    let cases = [
        (json!({"particpants": 2}), "params.\"particpants\"", "one of `participants`"),
        (json!({"participants": "two"}), "params.\"participants\"", "expected"),
        (json!({"participants": 0}), "params.participants", "1 to 256"),
        (json!({"participants": 1e9 as u64}), "params.participants", "1 to 256"),
        (json!({"users": many}), "params.participants", "1 to 256"),
        (json!({"users": ["a", "a"]}), "params.users", "twice"),
        (json!({"participants": 256, "echo": true}), "params.users", "at most 256"),
        (json!({"users": ["a"], "participants": 2}), "params.participants", "differs"),
        (json!({"seconds": -1}), "params.\"seconds\"", "0 to 604800"),
        (json!({"frame_ms": 30}), "params.frame_ms", "10, 20, 40 or 60"),
        (json!({"bundle": 0}), "params.bundle", "1 to 50"),
        (json!({"source": "music"}), "params.\"source\"", "\"ramp\""),
        (json!({"source": []}), "params.source", "empty"),
        (json!({"mute": {"user": "x", "at_s": 0, "for_s": 1}}), "params.mute", "called \"x\""),
        (json!({"mute": {"at_s": 0}}), "params.\"mute\"", "for_s"),
        (json!({"stall": {"at_s": 0, "for_s": 1, "bust": true}}), "params.\"stall\"", "burst"),
        (json!({"stall": vec![json!({"at_s": 0, "for_s": 1}); 65]}), "params.\"stall\"", "64"),
        (json!({"clock": "gps"}), "params.\"clock\"", "`unix`"),
        (json!({"fail_join": 3}), "params.\"fail_join\"", "message"),
    ];
    for (params, names, mends) in cases {
        let error = plan(&params).unwrap_err();
        assert!(error.contains(names) && error.contains(mends), "{params}: {error}");
    }
    let error = Room::new(plan(&json!({"source": {"wav": "x"}})).unwrap(), &[]).err().unwrap();
    assert!(error.contains("--media-dir"), "{error}");
}

#[test]
fn every_param_is_in_the_documentation() {
    let error = plan(&json!({"?": 0})).unwrap_err();
    let (_, names) = error.split_once("one of ").unwrap();
    let rows: Vec<_> = include_str!("../../../../docs/sim.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let known: Vec<_> = names.split('`').skip(1).step_by(2).collect();
    assert_eq!(known.len(), rows.len(), "{known:?} {rows:?}");
    assert!(known.iter().all(|name| rows.contains(name)), "{known:?} {rows:?}");
}
