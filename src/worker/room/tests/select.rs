//! What is pulled changes while the room runs.

use super::*;

fn roles(roles: &[&str]) -> Pull {
    Pull { roles: roles.iter().map(ToString::to_string).collect(), ..Pull::default() }
}

/// A room of which the hosts are pulled: `h` is one, on stream 1, `g` a guest, on
/// stream 2.
fn hosts() -> Play {
    let mut play = Play::new(Mode::Framed, roles(&["host"]));
    play.join(0);
    for (stream, user, role) in [(1, "h", "host"), (2, "g", "guest")] {
        let track = TrackInfo { user: user.into(), role: Some(role.into()) };
        play.say(0, &FromAdapter::TrackOpened { stream, pts: PTS, track });
    }
    assert_eq!(asked(&mut play), ["Subscribe { 1, true }"]);
    play
}

/// What the adapter was asked for since the last time.
fn asked(play: &mut Play) -> Vec<String> {
    let told = std::mem::take(&mut play.told);
    told.into_iter().filter(|told| told.starts_with("Subscribe")).collect()
}

fn update(play: &mut Play, at: i64, pull: Pull) -> Vec<String> {
    play.room.update(pull, ORIGIN + at, &mut play.fx);
    play.collect();
    asked(play)
}

fn says(play: &mut Play, stream: u16, (from, to): (i64, i64)) {
    let mut pts = from;
    while pts < to {
        let pcm = play.pcm(320);
        play.say(to, &FromAdapter::Audio(Audio { stream, pts: PTS + pts, pcm: &pcm }));
        pts += SLOT_US;
    }
    play.sweep(to);
}

/// Who came and went since the last time.
fn news(play: &mut Play) -> Vec<String> {
    let said = |news: &RoomNews| match news {
        RoomNews::TrackOpened { user, role, .. } => Some(format!("+{user} {role}")),
        RoomNews::TrackClosed { user, .. } => Some(format!("-{user}")),
        RoomNews::Muted { track } => Some(format!("mute {track}")),
        _ => None,
    };
    std::mem::take(&mut play.news).iter().filter_map(said).collect()
}

#[test]
fn another_role_is_wanted_and_the_first_no_longer() {
    let mut play = hosts();
    says(&mut play, 1, (0, 200_000));
    assert_eq!(news(&mut play), ["+h host"]);
    let told = update(&mut play, 210_000, roles(&["guest"]));
    assert_eq!(told, ["Subscribe { 1, false }", "Subscribe { 2, true }"]);
    assert_eq!(news(&mut play), ["-h", "+g guest"]);
    // What was on its way is nobody's fault.
    says(&mut play, 1, (200_000, 400_000));
    says(&mut play, 2, (220_000, 400_000));
    play.sweep(600_000);
    assert_eq!(play.fx.tally.refused, 0);
    let h: Vec<u64> = play.batches("h").iter().map(|batch| batch.runs.slots().into()).collect();
    assert_eq!(h.iter().sum::<u64>(), 11, "ten of audio, and one that says it is away");
    let last = play.batches("h").last().unwrap();
    assert_eq!(last.runs.iter().last().unwrap().state, SlotState::Absent);
    assert!(!last.has(FLAG_LAST), "it may be wanted again");
    assert!(play.batches("g").iter().any(|batch| batch.runs.audio_slots() > 0));

    // Back again: its sequence runs on, and the time between is absent.
    let told = update(&mut play, 1_010_000, Pull::default());
    assert_eq!(told, ["Subscribe { 1, true }"]);
    assert_eq!(news(&mut play), ["+h host"]);
    says(&mut play, 1, (1_020_000, 1_200_000));
    play.sweep(1_400_000);
    let mut states: Vec<SlotState> =
        play.batches("h").iter().flat_map(|it| it.runs.iter()).map(|run| run.state).collect();
    states.dedup();
    // Nothing of what it said while nobody wanted it, and nothing is missing.
    assert_eq!(states, [SlotState::Audio, SlotState::Absent, SlotState::Audio, SlotState::Stalled]);
    let audio: u8 = play.batches("h").iter().map(|batch| batch.runs.audio_slots()).sum();
    assert_eq!(audio, 10 + 9);
}

#[test]
fn a_number_that_is_used_again_is_nobody_elses() {
    let mut play = hosts();
    says(&mut play, 1, (0, 200_000));
    update(&mut play, 210_000, roles(&["guest"]));
    play.say(300_000, &FromAdapter::TrackClosed { stream: 1, pts: PTS + 300_000 });
    let track = |user: &str| TrackInfo { user: user.into(), role: Some("host".into()) };
    let opened = |stream, pts, user| FromAdapter::TrackOpened { stream, pts, track: track(user) };
    play.say(400_000, &opened(3, PTS + 400_000, "h"));
    update(&mut play, 500_000, roles(&["host"]));
    says(&mut play, 3, (500_000, 700_000));
    // The number that `h` had is somebody's who has just come.
    play.say(710_000, &opened(1, PTS + 710_000, "i"));
    says(&mut play, 3, (700_000, 900_000));
    play.sweep(3_000_000);
    assert_eq!(news(&mut play), ["+h host", "-h", "+g guest", "-g", "+h host", "+i host"]);
    assert_eq!(play.fx.tally.refused, 0);
    let audio: u8 = play.batches("h").iter().map(|batch| batch.runs.audio_slots()).sum();
    assert_eq!(audio, 10 + 20);
}

#[test]
fn what_is_wanted_already_is_left_alone() {
    let mut play = hosts();
    says(&mut play, 1, (0, 200_000));
    assert_eq!(update(&mut play, 210_000, roles(&["host", "owner"])), [""; 0]);
    assert_eq!(update(&mut play, 220_000, roles(&["host"])), [""; 0]);
    says(&mut play, 1, (200_000, 400_000));
    assert_eq!(news(&mut play), ["+h host"]);
    assert!(play.batches("h").iter().all(|batch| batch.runs.audio_slots() == batch.runs.slots()));
}

#[test]
fn who_has_left_or_comes_meanwhile_is_known() {
    let mut play = hosts();
    play.say(100_000, &FromAdapter::TrackClosed { stream: 2, pts: PTS + 100_000 });
    assert_eq!(update(&mut play, 200_000, roles(&["guest"])), ["Subscribe { 1, false }"]);
    let track = TrackInfo { user: "g2".into(), role: Some("guest".into()) };
    play.say(300_000, &FromAdapter::TrackOpened { stream: 2, pts: PTS + 300_000, track });
    assert_eq!(asked(&mut play), ["Subscribe { 2, true }"]);
    // The host leaves, unheard, and is not there when hosts are wanted again.
    play.say(400_000, &FromAdapter::TrackClosed { stream: 1, pts: PTS + 400_000 });
    assert_eq!(update(&mut play, 500_000, roles(&["host"])), ["Subscribe { 2, false }"]);
    assert_eq!(news(&mut play), ["+h host", "-h", "+g2 guest", "-g2"]);
    assert_eq!(play.fx.tally.refused, 0);
}

#[test]
fn who_muted_unheard_is_muted_when_wanted() {
    let mut play = hosts();
    play.say(100_000, &FromAdapter::Muted { stream: 2, pts: PTS + 100_000 });
    update(&mut play, 200_000, Pull::default());
    assert_eq!(news(&mut play), ["+h host", "+g guest", "mute g"]);
    for sweep in 2..6 {
        play.sweep(sweep * SWEEP);
    }
    let states: Vec<SlotState> =
        play.batches("g").iter().flat_map(|it| it.runs.iter()).map(|run| run.state).collect();
    assert!(states.contains(&SlotState::Muted), "{states:?}");
    assert!(!states.contains(&SlotState::Stalled), "{states:?}");
}

#[test]
fn a_track_that_waits_for_its_adapter_ends_where_it_is_not_wanted() {
    let mut play = hosts();
    says(&mut play, 1, (0, 200_000));
    play.room.detach(ORIGIN + 250_000);
    assert_eq!(update(&mut play, 300_000, roles(&["guest"])), [""; 0]);
    assert_eq!(news(&mut play), ["+h host", "-h"]);
    // The next adapter has both, and is asked for the guest alone.
    play.join(500_000);
    asked(&mut play);
    for (stream, user, role) in [(1, "h", "host"), (2, "g", "guest")] {
        let track = TrackInfo { user: user.into(), role: Some(role.into()) };
        play.say(500_000, &FromAdapter::TrackOpened { stream, pts: PTS + 500_000, track });
    }
    assert_eq!(asked(&mut play), ["Subscribe { 2, true }"]);
}
