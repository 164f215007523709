//! Who leaves and comes back, in time and too late.

use super::*;

fn person(play: &mut Play, at: i64, role: &str) {
    let role = Some(role.to_owned());
    let who = Participant { user: "u".into(), name: Some("U".into()), role };
    play.say(at, &FromAdapter::ParticipantJoined(who));
}

fn leave(play: &mut Play, at: i64) {
    play.say(at, &FromAdapter::TrackClosed { stream: 1, pts: PTS + at });
    play.say(at, &FromAdapter::ParticipantLeft { user: "u".into() });
}

/// Somebody who spoke for 200 ms.
fn spoken() -> Play {
    let mut play = Play::framed();
    play.join(0);
    person(&mut play, 0, "host");
    play.open(0, 1, "u");
    play.ramp(200_000, (0, 200_000));
    play.sweep(200_000);
    play
}

#[test]
fn a_reconnect_within_two_seconds_is_no_leave() {
    let mut play = spoken();
    play.ramp(300_000, (200_000, 300_000));
    let before = play.batches("u").len();
    leave(&mut play, 300_000);
    let said: u64 = play.runs().iter().map(|run| run.1).sum();
    assert_eq!(said, 15, "what was said goes out at once");
    assert!(play.batches("u").len() > before);
    for sweep in 2..=11 {
        play.sweep(sweep * SWEEP);
    }
    person(&mut play, 2_290_000, "host");
    play.open(2_300_000, 2, "u");
    for frame in 0..10 {
        let pts = PTS + 2_300_000 + frame * SLOT_US;
        let pcm = play.pcm(320);
        play.say(2_500_000, &FromAdapter::Audio(Audio { stream: 2, pts, pcm: &pcm }));
    }
    play.sweep(2_600_000);
    let runs = [(SlotState::Audio, 15), (SlotState::Absent, 100), (SlotState::Audio, 10)];
    assert_eq!(play.runs(), runs, "and the time line is whole");
    assert_eq!(play.news.len(), 2, "{:?}", play.news);
}

#[test]
fn a_leave_is_told_when_it_is_one_with_the_time_at_which_it_was() {
    let mut play = spoken();
    leave(&mut play, 300_000);
    for sweep in 2..=11 {
        play.sweep(sweep * SWEEP);
    }
    assert_eq!(play.news.len(), 2, "not yet: {:?}", play.news);
    play.room.settle(ORIGIN + 2_400_000, true, &mut play.fx);
    let told: Vec<_> = play
        .fx
        .notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::News { what: RoomNews::Gap { .. }, .. } | Notice::Word(_) => None,
            Notice::News { pos, time, what } => Some((*pos, *time, what.clone())),
        })
        .collect();
    let (track, user) = (TrackId::of_user("u"), "u".to_owned());
    let closed = RoomNews::TrackClosed { track, user: user.clone() };
    let left = RoomNews::ParticipantLeft { user };
    let at = ORIGIN + 300_000;
    assert_eq!(told, [(4_800, at, closed), (4_800, at, left)]);
    play.collect();
    assert_eq!(play.runs().last().map(|run| run.0), Some(SlotState::Absent));
}

#[test]
fn who_comes_back_as_somebody_else_has_left() {
    let mut play = spoken();
    leave(&mut play, 300_000);
    person(&mut play, 400_000, "guest");
    let of_people: Vec<_> = play
        .news
        .iter()
        .filter(|news| !matches!(news, RoomNews::TrackOpened { .. }))
        .map(|news| serde_json::to_value(news).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(of_people, ["participant_joined", "participant_left", "participant_joined"]);
}

#[test]
fn after_a_crash_those_are_told_who_are_not_there_again() {
    let mut play = Play::joined();
    let comes = |user: &str| {
        let (user, name, role) = (user.to_owned(), None, None);
        FromAdapter::ParticipantJoined(Participant { user, name, role })
    };
    play.say(0, &comes("a"));
    play.say(0, &comes("b"));
    play.room.detach(ORIGIN + 250_000);
    // However long the next one takes, nobody has left who is not known to have.
    for sweep in 2..=20 {
        play.sweep(sweep * SWEEP);
    }
    play.join(4_200_000);
    play.say(4_300_000, &comes("a"));
    let people = |play: &Play| {
        let of = |news: &RoomNews| match news {
            RoomNews::ParticipantJoined { user, .. } => Some(format!("+{user}")),
            RoomNews::ParticipantLeft { user } => Some(format!("-{user}")),
            _ => None,
        };
        play.news.iter().filter_map(of).collect::<Vec<_>>()
    };
    play.sweep(6_000_000);
    assert_eq!(people(&play), ["+a", "+b"], "an SDK may take a moment to say who is there");
    play.sweep(6_300_000);
    assert_eq!(people(&play), ["+a", "+b", "-b"]);
}

#[test]
fn the_end_of_the_epoch_waits_for_nobody() {
    let mut play = spoken();
    leave(&mut play, 300_000);
    play.room.close(ORIGIN + 400_000, &mut play.fx);
    play.collect();
    assert!(play.batches("u").last().unwrap().has(FLAG_LAST), "its last batch says so");
    let events =
        |play: &Play, of: fn(&RoomNews) -> bool| play.news.iter().filter(|it| of(it)).count();
    assert_eq!(events(&play, |it| matches!(it, RoomNews::TrackClosed { .. })), 1);
    assert_eq!(events(&play, |it| matches!(it, RoomNews::ParticipantLeft { .. })), 1);
}

#[test]
fn a_mute_flushes_what_was_said_before_it() {
    let mut play = spoken();
    play.ramp(260_000, (200_000, 260_000));
    play.say(260_000, &FromAdapter::Muted { stream: 1, pts: PTS + 260_000 });
    assert_eq!(play.runs(), [(SlotState::Audio, 13)], "without a sweep");
}

#[test]
fn however_many_leave_at_once_no_more_are_kept_than_may_be() {
    let mut play = Play::framed();
    play.join(0);
    let many = limits::TRACKS_KEPT + 50;
    for user in 0..many {
        let at = 1_000 * user as i64;
        play.open(at, 1, &format!("u-{user}"));
        play.say(at, &FromAdapter::TrackClosed { stream: 1, pts: PTS + at });
    }
    assert_eq!(play.room.tracks.len(), limits::TRACKS_KEPT);
    let closed = play.news.iter().filter(|it| matches!(it, RoomNews::TrackClosed { .. }));
    assert_eq!(closed.count(), 50, "the first to leave");
}
