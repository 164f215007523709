//! Adapters whose clock shows Unix time.

use super::*;

/// A room whose adapter joins at `at` and says then, or in HELLO, that its
/// clock shows Unix time; it is `off` µs off.
fn joined(at: i64, off: i64, in_hello: bool) -> Play {
    let mut play = Play::framed();
    let own = MediaClock::Own;
    let (hello, joined) = if in_hello { (MediaClock::Unix, own) } else { (own, MediaClock::Unix) };
    play.greet(at, hello);
    let now = ORIGIN + at + off;
    play.say(at, &FromAdapter::Joined { now, clock: joined });
    let track = TrackInfo { user: "u".into(), role: None };
    play.say(at, &FromAdapter::TrackOpened { stream: 1, pts: now, track });
    play
}

fn audio(play: &mut Play, at: i64, pts: i64) {
    let pcm = play.pcm(3_200);
    for (slot, pcm) in (0..).zip(pcm.chunks(640)) {
        let pts = pts + slot * SLOT_US;
        play.say(at, &FromAdapter::Audio(Audio { stream: 1, pts, pcm }));
    }
    play.sweep(at);
    play.sweep(at + SWEEP);
}

fn strayed(play: &Play) -> usize {
    let of_it = |news: &&RoomNews| matches!(news, RoomNews::AdapterError { message } if message.contains("Unix time"));
    play.news.iter().filter(of_it).count()
}

#[test]
fn unix_time_is_placed_by_the_origin_whenever_it_comes() {
    // JOINED is heard half a second late, or by a clock that is behind.
    for (in_hello, late) in [(true, 500_000), (false, 0), (false, -300_000)] {
        let mut play = joined(1_000_000 + late, -late, in_hello);
        audio(&mut play, 1_400_000 + late, ORIGIN + 1_200_000);
        assert_eq!(play.batches("u")[0].pos, 19_200, "{late} µs late");
        assert_eq!(strayed(&play), 0);
    }
    // A clock of its own is placed by when that was.
    let mut play = Play::framed();
    play.greet(1_500_000, MediaClock::Own);
    let now = PTS + 1_000_000;
    play.say(1_500_000, &FromAdapter::Joined { now, clock: MediaClock::Own });
    let track = TrackInfo { user: "u".into(), role: None };
    play.say(1_500_000, &FromAdapter::TrackOpened { stream: 1, pts: now, track });
    audio(&mut play, 1_900_000, PTS + 1_200_000);
    assert_eq!(play.batches("u")[0].pos, 19_200 + 8_000);
}

#[test]
fn a_clock_that_is_far_off_is_told_and_placed_by_when_it_comes() {
    let hour = 3_600_000_000;
    for off in [hour, -hour] {
        let mut play = joined(1_000_000, off, true);
        assert_eq!(strayed(&play), 1, "{:?}", play.news);
        audio(&mut play, 1_200_000, ORIGIN + 1_000_000 + off);
        assert_eq!(play.batches("u")[0].pos, 16_000);
        assert_eq!(strayed(&play), 1, "told once");
    }
}

#[test]
fn a_clock_that_is_set_right_is_believed_again() {
    let mut play = joined(1_000_000, 0, true);
    audio(&mut play, 1_200_000, ORIGIN + 1_000_000);
    // A minute ahead: by when it comes, then, and told.
    audio(&mut play, 1_600_000, ORIGIN + 61_400_000);
    assert_eq!((play.room.timeline.as_ref().unwrap().keeps_its_word(), strayed(&play)), (false, 1));
    audio(&mut play, 2_000_000, ORIGIN + 1_800_000);
    assert!(play.room.timeline.as_ref().unwrap().keeps_its_word());
    assert_eq!(strayed(&play), 1);
}
