//! Frames that come in one read are what they would be one by one.

use proptest::prelude::*;

use super::*;

/// What an adapter does next.
#[derive(Debug, Clone)]
enum Act {
    /// Frames of a stream, each so many bytes long; the first is this much, in
    /// µs, from where the one before it ended. Every so manieth is silent.
    Frames {
        stream: u16,
        bytes: usize,
        count: usize,
        off: i64,
        silent: usize,
    },
    /// It loses frames of its own before it goes on.
    Skip(u32),
    Mute(u16, bool),
    Idle(u16, i64),
    Lost(u16, i64),
    /// Time passes before the rest of it comes, in µs; then all is swept.
    Pass(i64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let off = prop_oneof![
        8 => Just(0),
        3 => -12_000..12_000_i64,
        1 => -260_000..260_000_i64,
        1 => -12_000_000..12_000_000_i64,
    ];
    let bytes = prop_oneof![1 => Just(320_usize), 6 => Just(640), 1 => Just(1_280)];
    let frames = (1..3_u16, bytes, 1..25_usize, off, 1..40_usize).prop_map(
        |(stream, bytes, count, off, silent)| Act::Frames { stream, bytes, count, off, silent },
    );
    let act = prop_oneof![
        8 => frames,
        1 => (1..5_u32).prop_map(Act::Skip),
        1 => (1..4_u16, any::<bool>()).prop_map(|(stream, muted)| Act::Mute(stream, muted)),
        1 => (1..3_u16, 0..300_000_i64).prop_map(|(stream, by)| Act::Idle(stream, by)),
        1 => (1..3_u16, 0..300_000_i64).prop_map(|(stream, by)| Act::Lost(stream, by)),
        5 => prop_oneof![4 => Just(SWEEP), 1 => 1..2_000_000_i64].prop_map(Act::Pass),
    ];
    proptest::collection::vec(act, 1..60)
}

/// What a room made of it where it was read in one piece, or frame by frame.
fn heard(acts: &[Act], clock: MediaClock, one_by_one: bool) -> String {
    let mut play = Play::framed();
    let base = if clock == MediaClock::Unix { ORIGIN } else { PTS };
    play.greet(0, clock);
    play.say(0, &FromAdapter::Joined { now: base, clock });
    for (stream, user) in [(1, "u"), (2, "v")] {
        let track = TrackInfo { user: user.into(), role: None };
        play.say(0, &FromAdapter::TrackOpened { stream, pts: base, track });
    }
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let (mut ends, mut now, mut said) = ([base; 4], 0, String::new());
    for act in acts.iter().chain([&Act::Pass(SWEEP)]) {
        let mut messages = Vec::new();
        match *act {
            Act::Frames { stream, bytes, count, off, silent } => {
                let end = &mut ends[usize::from(stream)];
                *end += off;
                for at in 0..count {
                    let pcm = match (at + 1) % silent {
                        0 => vec![0; bytes],
                        _ => play.pcm(bytes as u16 / 2),
                    };
                    messages.push((stream, *end, pcm));
                    *end += bytes as i64 * 1_000 / 32;
                }
            }
            Act::Skip(count) => {
                for _ in 0..count {
                    play.encoder.write(&FromAdapter::Flow { go: true }, &mut Vec::new()).unwrap();
                }
            }
            Act::Mute(stream, muted) => {
                let pts = ends[usize::from(stream)];
                frames.push(match muted {
                    true => encoded(&mut play, &FromAdapter::Muted { stream, pts }),
                    false => encoded(&mut play, &FromAdapter::Unmuted { stream, pts }),
                });
            }
            Act::Idle(stream, by) => {
                let pts = &mut ends[usize::from(stream)];
                *pts += by;
                let pts = *pts;
                frames.push(encoded(&mut play, &FromAdapter::Idle { stream, pts }));
            }
            Act::Lost(stream, by) => {
                let end = &mut ends[usize::from(stream)];
                let (from, to) = (*end, *end + by);
                *end = to;
                frames.push(encoded(&mut play, &FromAdapter::Lost { stream, from, to }));
            }
            Act::Pass(by) => {
                now += by;
                let read = std::mem::take(&mut frames);
                match one_by_one {
                    true => read.iter().for_each(|frame| {
                        play.room.take(frame, ORIGIN + now, &mut play.fx);
                    }),
                    false => play.room.take(&read.concat(), ORIGIN + now, &mut play.fx),
                }
                play.room.settle(ORIGIN + now, true, &mut play.fx);
                let Effects { batches, notices, stdin, tally, .. } = &mut play.fx;
                said += &format!("{now}: {batches:?} {notices:?} {stdin:?} {tally:?}\n");
                batches.clear();
                notices.clear();
                stdin.clear();
            }
        }
        for (stream, pts, pcm) in messages {
            let audio = FromAdapter::Audio(Audio { stream, pts, pcm: &pcm });
            frames.push(encoded(&mut play, &audio));
        }
    }
    said
}

fn encoded(play: &mut Play, message: &FromAdapter<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    play.encoder.write(message, &mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn what_comes_in_one_read_is_what_it_is_frame_by_frame(acts in acts(), unix: bool) {
        let clock = if unix { MediaClock::Unix } else { MediaClock::Own };
        let (whole, single) = (heard(&acts, clock, false), heard(&acts, clock, true));
        for (whole, single) in whole.lines().zip(single.lines()) {
            prop_assert!(whole == single, "{}", differ(whole, single));
        }
    }
}

/// Where two lines first differ.
fn differ(whole: &str, single: &str) -> String {
    let at = whole.bytes().zip(single.bytes()).take_while(|(one, other)| one == other).count();
    let from = at.saturating_sub(300);
    let cut = |line: &str| line.get(from..(at + 300).min(line.len())).map(str::to_owned);
    format!("in one read {:?}\none by one {:?}", cut(whole), cut(single))
}
