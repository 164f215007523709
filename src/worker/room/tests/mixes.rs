//! Rooms that are mixed.

use super::*;
use crate::{
    task::{Mix, Voices},
    worker::room::wanted::Wanted,
};

/// A second of what was published of a track, by position.
fn line(play: &Play, track: &str, channel: usize) -> BTreeMap<u64, i16> {
    let mut line = BTreeMap::new();
    for batch in play.batches(track) {
        let ch = usize::from(batch.format.channels);
        for slot in batch.slots() {
            let zeros = [0; 1_280];
            let pcm = slot.pcm.unwrap_or(&zeros[..640 * ch]);
            let samples = pcm.chunks(2).skip(channel).step_by(ch);
            let samples = samples.map(|two| i16::from_le_bytes([two[0], two[1]]));
            line.extend((slot.pos..).zip(samples));
        }
    }
    line
}

/// Holds a mix against the sum of tracks, over a stretch in seconds.
#[track_caller]
fn is_sum(play: &Play, (mix, channel): (&str, usize), tracks: &[&str], (from, to): (f64, f64)) {
    let mixed = line(play, mix, channel);
    let lines: Vec<_> = tracks.iter().map(|track| line(play, track, 0)).collect();
    for pos in (from * 16_000.0) as u64..(to * 16_000.0) as u64 {
        let sum: i16 = lines.iter().filter_map(|line| line.get(&pos)).sum();
        assert_eq!(mixed.get(&pos), Some(&sum), "at {pos}");
    }
}

fn pull(mix: &str, participants: bool) -> Pull {
    let mix = serde_json::from_str(mix).unwrap();
    Pull { mix, participants, ..Pull::default() }
}

/// A room with the mixes, joined by `users` with their roles.
fn joined(pull: Pull, users: &[(&str, &str)]) -> Play {
    let mut play = Play::new(Mode::Framed, pull);
    play.join(0);
    for (stream, (user, role)) in (1..).zip(users) {
        let track = TrackInfo { user: (*user).into(), role: Some((*role).into()) };
        play.say(0, &FromAdapter::TrackOpened { stream, pts: PTS, track });
    }
    play
}

impl Play {
    /// Noise on a stream between two moments, heard of in time, off the
    /// others' grids by some samples a stream.
    fn noise(&mut self, stream: u16, (from, to): (i64, i64)) {
        let mut rng = fastrand::Rng::with_seed((from as u64) << 8 | u64::from(stream));
        let off = i64::from(stream - 1) * 3_000;
        let mut pts = from;
        while pts < to {
            let pcm: Vec<u8> =
                (0..320).flat_map(|_| rng.i16(-4_000..4_000).to_le_bytes()).collect();
            let audio = Audio { stream, pts: PTS + pts + off, pcm: &pcm };
            self.say(to, &FromAdapter::Audio(audio));
            pts += SLOT_US;
        }
    }

    /// Sweeps with noise on these streams, from one to another.
    fn talk(&mut self, streams: &[u16], sweeps: std::ops::Range<i64>) {
        for sweep in sweeps {
            for stream in streams {
                self.noise(*stream, (sweep * SWEEP, (sweep + 1) * SWEEP));
            }
            self.sweep((sweep + 1) * SWEEP);
        }
    }

    fn states(&self, track: &str) -> Vec<(SlotState, u64)> {
        let mut runs: Vec<(SlotState, u64)> = Vec::new();
        for run in self.batches(track).iter().flat_map(|batch| batch.runs.iter()) {
            match runs.last_mut() {
                Some(last) if last.0 == run.state => last.1 += u64::from(run.count),
                _ => runs.push((run.state, run.count.into())),
            }
        }
        runs
    }
}

#[test]
fn a_mix_is_a_track_and_the_sum_of_the_others() {
    let mut play = joined(pull(r#"["all"]"#, true), &[("u", "host"), ("v", "guest")]);
    play.talk(&[1, 2], 0..10);
    is_sum(&play, ("all", 0), &["u", "v"], (0.02, 1.9));
    let batches = play.batches("all");
    let lengths: Vec<_> = batches.iter().map(|batch| batch.runs.slots()).collect();
    assert_eq!(lengths[1..], [10; 9], "{lengths:?}");
    assert_eq!((batches[0].pos % 320, batches[0].seq, batches[0].user.as_str()), (0, 0, ""));
    assert_eq!(play.fx.tally.mix_left_out, 0);
    let (track, none) = (TrackId::parse("all").unwrap(), String::new());
    let opened = RoomNews::TrackOpened { track: track.clone(), user: none.clone(), role: none };
    assert_eq!(play.news[0], opened);
    play.room.close(ORIGIN + 2_000_000, &mut play.fx);
    play.collect();
    assert!(play.batches("all").last().unwrap().has(FLAG_LAST));
    is_sum(&play, ("all", 0), &["u", "v"], (0.02, 1.98));
    let closed = RoomNews::TrackClosed { track, user: String::new() };
    assert_eq!(play.news.last(), Some(&closed));
}

#[test]
fn what_is_only_mixed_is_on_the_bus_as_the_mix_alone() {
    let mut play = joined(pull(r#"["all"]"#, false), &[("u", "host"), ("v", "guest")]);
    play.talk(&[1, 2], 0..2);
    assert!(play.room.is_heard());
    assert_eq!(play.heard.keys().collect::<Vec<_>>(), ["all"]);
    assert!(play.told.iter().filter(|it| it.starts_with("Subscribe")).count() == 2);
    assert_eq!(play.states("all")[0].0, SlotState::Audio);
    // What the mix lacks is told all the same.
    for sweep in 3..7 {
        play.noise(2, (sweep * SWEEP - SWEEP, sweep * SWEEP));
        play.sweep(sweep * SWEEP);
    }
    play.talk(&[1, 2], 6..9);
    let track = TrackId::of_user("u");
    let gap = |news: &RoomNews| matches!(news, RoomNews::Gap { track: it, .. } if *it == track);
    assert!(play.news.iter().any(gap), "{:?}", play.news);
    let opened = play.news.iter().filter(|it| matches!(it, RoomNews::TrackOpened { .. })).count();
    assert_eq!(opened, 1);
    play.room.close(ORIGIN + 2_000_000, &mut play.fx);
    play.collect();
    assert_eq!(play.heard.len(), 1);
}

#[test]
fn roles_are_left_and_right_and_one_may_be_in_several() {
    let mixes = r#"[{"name":"call","channels":[{"roles":["broker"]},{"roles":["customer"]}]},
        {"name":"but-b","channels":[{"except_users":["b"]}]}, "all"]"#;
    let users = [("b", "broker"), ("c", "customer"), ("all", "customer")];
    let mut play = joined(pull(mixes, true), &users);
    play.talk(&[1, 2, 3], 0..6);
    is_sum(&play, ("call", 0), &["b"], (0.03, 1.0));
    is_sum(&play, ("call", 1), &["c", "=YWxs"], (0.03, 1.0));
    is_sum(&play, ("but-b", 0), &["c", "=YWxs"], (0.03, 1.0));
    is_sum(&play, ("all", 0), &["b", "c", "=YWxs"], (0.03, 1.0));
    let formats: Vec<_> =
        ["call", "but-b"].map(|it| play.batches(it)[0].format.channels).into_iter().collect();
    assert_eq!(formats, [2, 1]);
}

#[test]
fn nobody_there_is_a_mix_of_absence_that_speaks_every_sweep() {
    let mut play = joined(pull(r#"["all"]"#, true), &[]);
    for sweep in 1..=10 {
        play.sweep(sweep * SWEEP);
    }
    assert!(!play.room.is_heard());
    assert_eq!(play.states("all").len(), 1);
    assert_eq!(play.states("all")[0].0, SlotState::Absent);
    assert!(play.batches("all").len() >= 9, "{}", play.batches("all").len());
    // Who comes is in it from the first sample on.
    let track = TrackInfo { user: "u".into(), role: None };
    play.say(2_000_000, &FromAdapter::TrackOpened { stream: 1, pts: PTS + 2_000_000, track });
    play.talk(&[1], 10..15);
    is_sum(&play, ("all", 0), &["u"], (2.005, 2.8));
    assert_eq!(play.fx.tally.mix_late_samples, 0);
    assert!(play.room.is_heard());
}

#[test]
fn who_stalls_holds_the_mix_up_for_a_sweep_and_no_longer() {
    let mut play = joined(pull(r#"["all"]"#, true), &[("u", ""), ("v", "")]);
    play.talk(&[1, 2], 0..5);
    play.talk(&[1], 5..10);
    is_sum(&play, ("all", 0), &["u"], (1.02, 1.7));
    // It comes back, in its time.
    play.talk(&[1, 2], 10..15);
    is_sum(&play, ("all", 0), &["u", "v"], (2.02, 2.9));
    let silent = play.batches("all").windows(2).map(|two| two[1].time - two[0].time).max();
    assert!(silent <= Some(2 * SWEEP), "{silent:?}");
    // All stall, and the mix says so.
    for sweep in 16..20 {
        play.sweep(sweep * SWEEP);
    }
    assert_eq!(play.states("all").last().unwrap().0, SlotState::Stalled);
}

#[test]
fn muted_people_cost_a_mix_nothing_and_a_crash_is_an_absence() {
    let mut play = joined(pull(r#"["all"]"#, true), &[("u", ""), ("v", "")]);
    play.talk(&[1, 2], 0..3);
    play.say(600_000, &FromAdapter::Muted { stream: 2, pts: PTS + 603_000 });
    for sweep in 3..6 {
        play.noise(1, (sweep * SWEEP, (sweep + 1) * SWEEP));
        let pts = PTS + (sweep + 1) * SWEEP + 3_000;
        play.say((sweep + 1) * SWEEP, &FromAdapter::Idle { stream: 2, pts });
        play.sweep((sweep + 1) * SWEEP);
    }
    is_sum(&play, ("all", 0), &["u"], (0.61, 1.1));
    assert_eq!(play.fx.tally.mix_left_out, 0);
    play.room.detach(ORIGIN + 1_250_000);
    for sweep in 7..12 {
        play.sweep(sweep * SWEEP);
    }
    assert_eq!(play.states("all").last().unwrap().0, SlotState::Absent);
    play.join(2_400_000);
    let track = TrackInfo { user: "u".into(), role: None };
    play.say(2_400_000, &FromAdapter::TrackOpened { stream: 1, pts: PTS + 2_400_000, track });
    play.talk(&[1], 12..16);
    is_sum(&play, ("all", 0), &["u"], (2.41, 3.1));
    assert_eq!(play.batches("all")[0].seq, 0, "one track throughout, which the rest follows");
}

#[test]
fn selection_is_asked_again_when_the_task_changes() {
    let both = pull(r#"["all"]"#, true);
    let wanted = |pull: &Pull, user: &str, role: &str| {
        let Wanted { own, channels } = Wanted::of(pull, user, role);
        (own, channels)
    };
    assert_eq!(wanted(&both, "u", ""), (true, vec![1]));
    let host = Pull { roles: vec!["host".into()], ..both };
    assert_eq!(wanted(&host, "u", "guest"), (false, vec![1]));
    let voices = |roles: &[&str]| Voices {
        roles: roles.iter().map(|role| (*role).into()).collect(),
        ..Voices::default()
    };
    let name = TrackId::parse("call").unwrap();
    let channels = vec![voices(&["host"]), voices(&[])];
    let call = Pull { mix: vec![Mix { name, channels }], participants: false, ..Pull::default() };
    assert_eq!(wanted(&call, "u", "host"), (false, vec![3]));
    assert_eq!(wanted(&call, "u", "guest"), (false, vec![2]));
    assert!(!Wanted::of(&Pull { mix: vec![], ..call }, "u", "host").any());

    // A track that is in a mix leaves it and comes into another.
    let mixes =
        r#"[{"name":"a","channels":[{"users":["u"]}]}, {"name":"b","channels":[{"users":["v"]}]}]"#;
    let mut play = joined(pull(mixes, true), &[("u", "")]);
    play.talk(&[1], 0..4);
    let Room { tracks, mixes, .. } = &mut play.room;
    mixes.select(&mut tracks[0], &Wanted { own: true, channels: vec![0, 1] }, 12_800);
    play.talk(&[1], 4..8);
    is_sum(&play, ("a", 0), &["u"], (0.03, 0.75));
    is_sum(&play, ("b", 0), &["u"], (0.83, 1.5));
    assert_eq!(play.states("a").last().unwrap().0, SlotState::Absent);
}

#[test]
fn a_raw_adapter_is_mixed_from_its_first_sample_on() {
    let mode =
        Mode::Raw { direction: Direction::Pull, participant: "stream".into(), realtime: true };
    let mut play = Play::new(mode, pull(r#"["all"]"#, true));
    play.room.attach(ORIGIN, &mut play.fx);
    for sweep in 1..6 {
        let pcm = play.pcm(3_200);
        play.bytes(sweep * SWEEP, &pcm);
        play.sweep(sweep * SWEEP);
    }
    is_sum(&play, ("all", 0), &["stream"], (0.005, 0.95));
}

#[test]
fn who_takes_a_room_over_is_silent_until_all_are_in_its_mix() {
    let mut play = Play::new(Mode::Framed, pull(r#"["all"]"#, true));
    play.room.spec.taken_over = true;
    play.join(0);
    for (stream, user) in [(1, "u"), (2, "v")] {
        play.open(0, stream, user);
    }
    play.talk(&[1], 0..2);
    assert!(!play.room.is_heard());
    play.talk(&[1, 2], 2..5);
    assert!(play.room.is_heard());
    let states = play.states("all");
    assert_eq!(states[0].0, SlotState::Absent, "{states:?}");
    assert_eq!(states[1].0, SlotState::Audio, "{states:?}");
    let begin = states[0].1 as f64 * 0.02;
    assert!((0.4..0.45).contains(&begin), "{begin} s");
    is_sum(&play, ("all", 0), &["u", "v"], (begin, 0.9));
}

#[test]
fn who_hands_a_room_over_ends_in_the_middle_of_the_sum() {
    for handed in [true, false] {
        let mut play = joined(pull(r#"["all"]"#, true), &[("u", ""), ("v", "")]);
        play.talk(&[1, 2], 0..5);
        if handed {
            play.room.leave("another worker has it", &mut play.fx);
        }
        play.room.close(ORIGIN + 1_000_000, &mut play.fx);
        play.collect();
        let end = play.batches("all").last().unwrap().end();
        assert_eq!(end == 16_000, handed, "{end}");
        let [mixed, u, v] = ["all", "u", "v"].map(|track| line(&play, track, 0));
        let same = (15_920..16_000).filter(|pos| mixed[pos] == u[pos] + v[pos]).count();
        assert_eq!(same == 80, handed, "{same} samples of the last 5 ms");
        assert!(play.batches("all").last().unwrap().has(FLAG_LAST));
    }
}

fn update(play: &mut Play, at: i64, pull: Pull) -> Vec<String> {
    play.room.update(pull, ORIGIN + at, &mut play.fx);
    play.collect();
    let said = |news: &RoomNews| match news {
        RoomNews::TrackOpened { track, .. } => Some(format!("+{track}")),
        RoomNews::TrackClosed { track, .. } => Some(format!("-{track}")),
        _ => None,
    };
    std::mem::take(&mut play.news).iter().filter_map(said).collect()
}

#[test]
fn mixes_come_and_go_while_the_room_runs_and_the_others_do_not_notice() {
    let mut play = joined(pull(r#"["all"]"#, true), &[("u", ""), ("v", "")]);
    play.talk(&[1, 2], 0..5);
    play.news.clear();
    let two = r#"[{"name":"b","channels":[{"users":["v"]}]}, "all"]"#;
    assert_eq!(update(&mut play, 1_000_000, pull(two, true)), ["+b"]);
    play.talk(&[1, 2], 5..10);
    is_sum(&play, ("all", 0), &["u", "v"], (0.02, 1.9));
    is_sum(&play, ("b", 0), &["v"], (1.03, 1.9));
    assert_eq!(update(&mut play, 2_000_000, pull(r#"["b"]"#, true)), ["-all"]);
    play.talk(&[1, 2], 10..15);
    assert_eq!(play.states("all").last().unwrap(), &(SlotState::Absent, 1));
    // `b` is everybody now, and `all` is back, in two channels.
    let stereo = r#"[{"name":"all","channels":[{"users":["u"]},{"users":["v"]}]}, "b"]"#;
    assert_eq!(update(&mut play, 3_000_000, pull(stereo, true)), ["+all"]);
    let before = play.heard.remove("all").unwrap();
    play.talk(&[1, 2], 15..20);
    is_sum(&play, ("b", 0), &["u", "v"], (2.03, 3.9));
    is_sum(&play, ("all", 0), &["u"], (3.03, 3.9));
    is_sum(&play, ("all", 1), &["v"], (3.03, 3.9));
    assert_eq!(play.batches("all")[0].seq, before.last().unwrap().seq + 1, "it counts on");
}

#[test]
fn a_mix_does_not_begin_before_it_was_wanted() {
    let mut play = joined(pull("[]", true), &[("u", "host"), ("v", "guest")]);
    play.talk(&[1, 2], 0..5);
    let hosts = Pull { roles: vec!["host".into()], ..pull("[]", true) };
    update(&mut play, 1_000_000, hosts);
    play.talk(&[1], 5..15);
    // Who is wanted again has been away since, and was in no mix meanwhile.
    update(&mut play, 3_000_000, pull(r#"["all"]"#, true));
    play.talk(&[1, 2], 15..20);
    let first = play.batches("all")[0].pos;
    assert!((44_800..=48_000).contains(&first), "{first}");
    assert_eq!(play.states("all").len(), 1, "{:?}", play.states("all"));
    is_sum(&play, ("all", 0), &["u", "v"], (3.03, 3.9));
}

#[test]
fn tracks_leave_the_bus_and_come_back_and_stay_in_their_mix() {
    let mut play = joined(pull(r#"["all"]"#, true), &[("u", ""), ("v", "")]);
    play.talk(&[1, 2], 0..5);
    play.news.clear();
    assert_eq!(update(&mut play, 1_000_000, pull(r#"["all"]"#, false)), ["-u", "-v"]);
    let last = play.batches("u").last().unwrap().clone();
    assert_eq!(last.runs.iter().last().unwrap().state, SlotState::Absent);
    play.talk(&[1, 2], 5..10);
    assert_eq!(play.batches("u").last().unwrap().seq, last.seq);
    assert_eq!(update(&mut play, 2_000_000, pull(r#"["all"]"#, true)), ["+u", "+v"]);
    let early = play.heard.remove("u").unwrap();
    play.heard.remove("v");
    play.talk(&[1, 2], 10..15);
    assert_eq!(play.batches("u")[0].seq, early.last().unwrap().seq + 1);
    assert!(!play.told.iter().any(|it| it.ends_with("false }") && it.starts_with("Subscribe")));
    // Without a break in the mix.
    let runs = play.states("all");
    assert_eq!(runs.len(), 1, "{runs:?}");
    is_sum(&play, ("all", 0), &["u", "v"], (2.02, 2.9));
}

#[test]
fn a_user_gives_way_to_a_mix_of_its_name() {
    let mut play = joined(pull("[]", true), &[("u", ""), ("all", "")]);
    play.talk(&[1, 2], 0..3);
    play.news.clear();
    let news = update(&mut play, 600_000, pull(r#"["all"]"#, true));
    assert_eq!(news, ["-all", "+all", "+=YWxs"]);
    let before = play.heard.remove("all").unwrap();
    play.talk(&[1, 2], 3..8);
    is_sum(&play, ("all", 0), &["u", "=YWxs"], (0.64, 1.5));
    assert_eq!(play.batches("all")[0].seq, before.last().unwrap().seq + 1, "nobody takes it twice");
    // It gets its track back, and that counts on as well.
    let news = update(&mut play, 1_600_000, pull("[]", true));
    assert_eq!(news, ["-=YWxs", "-all", "+all"]);
    let before = play.heard.remove("all").unwrap();
    play.talk(&[1, 2], 8..10);
    let first = &play.batches("all")[0];
    assert_eq!((first.user.as_str(), first.seq), ("all", before.last().unwrap().seq + 1));
}
