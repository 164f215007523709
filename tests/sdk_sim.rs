//! The simulated room as its worker meets it: a process that speaks the pipe.

mod adapter;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    process::{Command, Output},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use adapter::Adapter;
use audio_gateway::sdk::pipe::{Audio, FromAdapter, MediaClock, ToAdapter};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

fn sim() -> Adapter {
    Adapter::start(&mut Command::new(env!("CARGO_BIN_EXE_sdk-sim")))
}

fn joined(params: &Value) -> Adapter {
    let mut sim = sim();
    sim.join(params, true);
    sim
}

/// The whole of a room: samples by stream, BYE's reason. Each frame is checked
/// to follow the one before.
fn heard(sim: &mut Adapter) -> (BTreeMap<u16, Vec<u16>>, Option<String>) {
    let (mut samples, mut ends, mut bye) = (BTreeMap::new(), BTreeMap::new(), None);
    sim.finish(|message| match message {
        FromAdapter::Audio(Audio { stream, pts, pcm }) => {
            assert_eq!(
                ends.insert(*stream, pts + pcm.len() as i64 * 125 / 4).unwrap_or(*pts),
                *pts
            );
            let pcm = pcm.as_chunks::<2>().0.iter().map(|sample| u16::from_le_bytes(*sample));
            samples.entry(*stream).or_insert_with(Vec::new).extend(pcm);
        }
        FromAdapter::Bye { reason } => bye = Some(reason.clone()),
        _ => (),
    });
    (samples, bye)
}

fn is_ramp(samples: &[u16]) -> bool {
    samples.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1))
}

#[test]
fn a_second_of_ramps_comes_exact_and_in_real_time() {
    let began = Instant::now();
    let mut sim = joined(&json!({"participants": 3, "source": "ramp", "seconds": 1}));
    let (samples, bye) = heard(&mut sim);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(samples.len(), 3);
    for (stream, samples) in samples {
        // Slots may pass before SUBSCRIBE has come, but never half of one.
        assert!(samples.len() <= 16_000 && samples.len() % 320 == 0, "{}", samples.len());
        assert_eq!(samples[0], 9_973 * (stream - 1));
        assert!(is_ramp(&samples), "stream {stream}");
    }
    assert_eq!(bye.as_deref(), Some("the room has ended"));
    let counters = sim.counters.unwrap();
    assert_eq!((counters.garbage_bytes, counters.lost, counters.unknown), (0, 0, 0));
    let (status, log) = sim.wait();
    assert_eq!(status.code(), Some(0));
    assert!(log.lines().count() <= 3, "{log}");
}

#[test]
fn slots_larger_than_the_pipe_come_whole() {
    let params = json!({"participants": 256, "source": "ramp", "frame_ms": 60, "seconds": 0.3});
    let mut sim = joined(&params);
    let (samples, _) = heard(&mut sim);
    assert!(samples.len() == 256 && samples.values().all(|samples| is_ramp(samples)));
    assert_eq!(sim.counters.unwrap().garbage_bytes, 0);
}

#[test]
fn the_end_of_stdin_and_leave_both_end_it() {
    for by_word in [true, false] {
        let mut sim = joined(&json!({}));
        sim.until("audio", |message| matches!(message, FromAdapter::Audio(_)));
        if by_word {
            sim.tell(&ToAdapter::Leave { reason: "cancelled".into() });
        } else {
            sim.close();
        }
        assert!(heard(&mut sim).1.is_some());
        assert_eq!(sim.wait().0.code(), Some(0));
    }
    // Also before it was asked to join.
    let mut early = sim();
    early.close();
    assert!(heard(&mut early).1.is_some());
    assert_eq!(early.wait().0.code(), Some(0));
}

#[test]
fn user_ids_of_any_kind_come_through_unchanged() {
    let users = ["", "..", "*", ">", "a b", "😀", "a\0b", "a\r\nb", &"x".repeat(5_000)];
    let mut sim = joined(&json!({"users": users, "seconds": 0.1}));
    let mut opened = Vec::new();
    sim.finish(|message| {
        if let FromAdapter::TrackOpened { track, .. } = message {
            opened.push(track.user.clone());
        }
    });
    assert_eq!(opened, users);
}

#[test]
fn what_cannot_be_joined_says_why_and_exits() {
    for (params, text, code) in [
        (json!({"particpants": 3}), "participants", 2),
        (json!({"source": {"wav": "/etc/passwd"}}), "--media-dir", 2),
        (json!({"fail_join": "banned", "join_delay_ms": 5}), "banned", 1),
    ] {
        let mut sim = joined(&params);
        let mut errors = Vec::new();
        sim.finish(|message| match message {
            FromAdapter::Error { message, fatal: true } => errors.push(message.clone()),
            message => panic!("{message:?}"),
        });
        assert!(errors.len() == 1 && errors[0].contains(text), "{errors:?}");
        assert_eq!(sim.wait().0.code(), Some(code));
    }
}

#[test]
fn it_dies_in_every_way_that_is_asked_of_it() {
    let (_, bye) = heard(&mut joined(&json!({"exit_after_s": 0.05})));
    assert_eq!(bye, None);
    let crashed = joined(&json!({"crash_after_s": 0.05})).wait().0;
    assert_eq!(crashed.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!crashed.core_dumped());
    assert_eq!(joined(&json!({"crash_after_s": 0.05, "crash_code": 9})).wait().0.code(), Some(9));

    // One that hangs still dies of SIGTERM …
    let mut hanging = joined(&json!({"hang_after_s": 0.02}));
    hanging.until("audio", |message| matches!(message, FromAdapter::Audio(_)));
    hanging.close();
    kill_process(hanging.pid(), Signal::TERM).unwrap();
    assert_eq!(hanging.wait().0.signal(), Some(Signal::TERM.as_raw()));

    // … unless it ignores that.
    let mut deaf = joined(&json!({"ignore_sigterm": true}));
    deaf.until("audio", |message| matches!(message, FromAdapter::Audio(_)));
    kill_process(deaf.pid(), Signal::TERM).unwrap();
    deaf.tell(&ToAdapter::Ping);
    deaf.until("STATS", |message| matches!(message, FromAdapter::Stats { .. }));
    kill_process(deaf.pid(), Signal::KILL).unwrap();
    assert_eq!(deaf.wait().0.signal(), Some(Signal::KILL.as_raw()));
}

#[test]
fn unix_time_is_the_time_by_the_wall() {
    let unix = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
    let before = unix();
    let mut sim = joined(&json!({"source": "ramp", "clock": "unix", "seconds": 0.2}));
    let (mut now, mut slots) = (0, Vec::new());
    sim.finish(|message| match message {
        FromAdapter::Joined { now: pts, clock } => {
            assert_eq!(*clock, MediaClock::Unix);
            now = *pts;
        }
        FromAdapter::Audio(Audio { pts, pcm, .. }) => {
            slots.push((*pts, u16::from_le_bytes([pcm[0], pcm[1]])));
        }
        _ => (),
    });
    assert!((before..=unix()).contains(&now), "{before} {now}");
    assert!(slots.len() > 2 && slots[0].0 >= now);
    for (pts, first) in slots {
        assert_eq!((pts % 20_000, first), (0, (pts / 1_000 * 16) as u16));
    }
}

#[test]
fn garbage_on_stdout_harms_no_frame() {
    let garbage: Vec<_> =
        (0..40).map(|i| json!({"at_s": f64::from(i) * 0.02, "bytes": 777})).collect();
    let mut sim = joined(&json!({"source": "ramp", "seconds": 0.8, "garbage": garbage}));
    let (samples, bye) = heard(&mut sim);
    assert!(is_ramp(&samples[&1]) && bye.is_some());
    let counters = sim.counters.unwrap();
    assert_eq!((counters.garbage_bytes, counters.lost), (40 * 777, 0));
}

#[test]
fn what_is_pushed_comes_back_and_is_accounted_for() {
    let mut sim = joined(&json!({"echo": true}));
    sim.until("the echo", |message| matches!(message, FromAdapter::TrackOpened { stream: 2, .. }));
    let pushed: Vec<u16> = (0..3_200).collect();
    let pcm: Vec<u8> = pushed.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    for (index, pcm) in pcm.chunks(640).enumerate() {
        let pts = index as i64 * 20_000;
        sim.tell(&ToAdapter::Audio(Audio { stream: 0, pts, pcm }));
    }
    sim.tell(&ToAdapter::Mark { name: "end".into() });
    let (mut echo, mut marked, mut played) = (Vec::new(), false, 0);
    sim.until("PLAYED and the mark", |message| {
        match message {
            FromAdapter::Audio(Audio { stream: 2, pcm, .. }) => {
                let samples = pcm.as_chunks::<2>().0.iter();
                echo.extend(samples.map(|sample| u16::from_le_bytes(*sample)));
            }
            FromAdapter::MarkReached { name, cleared } => {
                marked = name == "end" && !cleared && echo.len() == pushed.len();
            }
            FromAdapter::Played { samples, .. } => played = *samples,
            _ => (),
        }
        marked && played == 3_200
    });
    assert_eq!(echo, pushed);
}

#[test]
fn the_command_line_explains_itself() {
    let run = |arg: &str| -> Output {
        Command::new(env!("CARGO_BIN_EXE_sdk-sim")).arg(arg).output().expect("it starts")
    };
    let help = run("--help");
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--media-dir"));
    let wrong = run("--nonsense");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("unknown argument --nonsense"));
}
