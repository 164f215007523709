//! When a listener asks, how often, and when it is no use any more.

use super::*;

/// One batch lost, and the way to the worker measured as this long.
fn measured(trip: Duration) -> Play {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 2);
    play.pass(trip);
    play.again(7, 1);
    play.answer(&reply(NackStatus::Ok, 7, &[]));
    play
}

/// When the next NACKs go out, in ms from now, each without an answer.
fn asked(play: &mut Play, most: usize) -> Vec<u128> {
    let (begin, mut at) = (play.now, Vec::new());
    while at.len() < most && play.now < begin + limits::REORDER_DEADLINE * 2 {
        while !play.asks.is_empty() {
            at.push((play.now - begin).as_millis());
            play.answer(&Answer::Late);
        }
        play.pass(ms(1));
        // It speaks, so that nothing else is asked.
        play.with(|ears, now, out| ears.connected(true, now, out));
    }
    at
}

#[test]
fn it_is_asked_again_as_fast_as_the_way_there_and_back_allows() {
    // 100 ms, and twice as much to be sure: doubled each time.
    let mut play = measured(ms(100));
    play.batch(7, 4);
    assert_eq!(play.asks[0].within, ms(300));
    assert_eq!(asked(&mut play, 4), [0, 300, 900, 2_100]);
    // A near worker is asked sooner, never at once.
    let mut play = measured(ms(2));
    play.batch(7, 4);
    assert_eq!(asked(&mut play, 4), [0, 50, 150, 350]);
    // What was not measured is as it was.
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 2);
    assert_eq!(asked(&mut play, 3), [0, 250, 750]);
}

#[test]
fn only_what_was_asked_for_once_measures_the_way() {
    let mut play = measured(ms(2));
    play.batch(7, 4);
    play.answer(&Answer::Late);
    play.pass(ms(51));
    assert_eq!(play.asks.len(), 1, "asked again");
    play.pass(ms(1_000));
    play.again(7, 3);
    play.answer(&Answer::Late);
    play.batch(7, 6);
    assert_eq!(play.asks[0].within, limits::NACK_RETRY_MIN);
}

#[test]
fn nothing_is_asked_for_that_would_come_too_late() {
    let options = ListenOptions { deadline: ms(400), ..ListenOptions::default() };
    let mut play = Play::fresh(options);
    play.batch(7, 0);
    play.batch(7, 2);
    assert_eq!(play.asks[0].nack.deadline_ms, 400);
    play.pass(ms(100));
    play.again(7, 1);
    play.answer(&reply(NackStatus::Ok, 7, &[]));
    play.batch(7, 4);
    let mut deadlines = Vec::new();
    for _ in 0..100 {
        while !play.asks.is_empty() {
            deadlines.push(play.asks[0].nack.deadline_ms);
            play.answer(&Answer::Late);
        }
        play.pass(ms(4));
    }
    // Again after 300 ms it would come after 400: not in time.
    assert_eq!(deadlines, [400]);
    assert_eq!(play.ears.stats().lost, 1);
    // With the way measured shorter it is asked while that is of use.
    for seq in 5..30 {
        play.batch(7, seq);
    }
}

#[test]
fn what_is_throttled_to_its_end_says_so() {
    let options = ListenOptions { deadline: ms(1_000), ..ListenOptions::default() };
    let mut play = Play::fresh(options);
    play.batch(7, 0);
    play.batch(7, 2);
    let mut said = Vec::new();
    for seq in 3..9 {
        while !play.asks.is_empty() {
            let throttled = NackReply {
                status: NackStatus::Throttled,
                epoch: Epoch(7),
                held: None,
                missing: vec![(1, 1, MissingReason::Throttled)],
                retry_after_ms: 400,
                spread_ms: 0,
                message: String::new(),
            };
            play.answer(&Answer::Reply(throttled));
        }
        said.extend(play.pass(ms(200)));
        said.extend(play.batch(7, seq));
    }
    assert_eq!(said[0], "gap 7:1+1 throttled");
}

#[test]
fn one_of_a_crowd_waits_a_moment_and_each_another_one() {
    let waits: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|name| {
            let mut play = Play::settled();
            let subscriber = SubscriberId::parse(name).unwrap();
            let options = ListenOptions { subscriber, ..ListenOptions::default() };
            play.ears = Ears::new(&options, play.now);
            play.batch(7, 0);
            play.batch(7, 2);
            assert_eq!(play.asks.len(), 1, "nobody said yet that there is a crowd");
            let spread = NackReply {
                status: NackStatus::Ok,
                epoch: Epoch(7),
                held: None,
                missing: Vec::new(),
                retry_after_ms: 0,
                spread_ms: 5_000,
                message: String::new(),
            };
            play.again(7, 1);
            play.answer(&Answer::Reply(spread));
            play.batch(7, 4);
            let begin = play.now;
            while play.asks.is_empty() {
                play.pass(ms(1));
            }
            play.now - begin
        })
        .collect();
    assert!(waits.iter().all(|wait| *wait <= limits::NACK_SPREAD_MAX + HOLD), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
}
