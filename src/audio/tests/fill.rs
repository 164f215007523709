//! What a consumer hears.

use std::time::Duration;

use super::super::{Batch, Delivered, Fill, Filler, Format, Piece, Runs, SlotState, Sound};
use super::{batch, ramp};

fn at(pos: u64, states: &[(SlotState, u8)]) -> Delivered {
    let mut runs = Runs::default();
    for &(state, count) in states {
        runs.push(state, count);
    }
    let pcm = ramp(pos, usize::from(runs.audio_slots()) * 320).into();
    Delivered { batch: Batch { pos, runs, pcm, ..batch(1, 0, 1) }, jump: 0, missing: None }
}

fn heard(fill: Fill, batches: &[Delivered]) -> (Vec<Piece>, u64) {
    let (mut filler, mut out) = (Filler::new(fill), Vec::new());
    for batch in batches {
        filler.push(batch, &mut out);
    }
    (out, filler.discontinuities())
}

/// Position and length in samples of each piece.
fn spans(pieces: &[Piece]) -> Vec<(u64, usize)> {
    pieces.iter().map(|piece| (piece.pos, piece.sound.len() / 2)).collect()
}

use SlotState::{Audio, Muted, Silence, Stalled};

#[test]
fn zeros_are_as_long_as_the_time_line() {
    let batches = [
        at(1_000, &[(Audio, 2), (Muted, 1)]),
        // a gap of 5 slots and 7 samples, then an overlap of 100 samples
        at(1_960 + 1_607, &[(Audio, 1)]),
        at(3_787, &[(Audio, 1)]),
    ];
    let (pieces, discontinuities) = heard(Fill::Zeros, &batches);
    let mut next = 1_000;
    for piece in &pieces {
        assert_eq!(piece.pos, next);
        next += piece.sound.len() as u64 / 2;
    }
    assert_eq!((next, discontinuities), (3_787 + 320, 0));
    let mut pcm = Vec::new();
    for piece in &pieces {
        piece.sound.write_to(&mut pcm).unwrap();
    }
    assert_eq!(pcm.len(), (next as usize - 1_000) * 2);
    assert_eq!(pcm[..1_280], ramp(1_000, 640)[..]);
    assert!(pcm[1_280..(3_567 - 1_000) * 2].iter().all(|byte| *byte == 0));
    assert_eq!(pcm[(3_567 - 1_000) * 2..][..640], ramp(3_567, 320)[..]);
    assert_eq!(pcm[(3_887 - 1_000) * 2..], ramp(3_887, 220)[..]);
}

#[test]
fn audio_is_passed_on_without_copying() {
    let delivered = at(0, &[(Audio, 3)]);
    let (pieces, _) = heard(Fill::Skip, std::slice::from_ref(&delivered));
    let Sound::Audio(pcm) = &pieces[0].sound else { panic!("{pieces:?}") };
    assert_eq!(pcm.as_ptr(), delivered.batch.pcm.as_ptr());
}

#[test]
fn skip_keeps_pauses_and_leaves_the_rest_out() {
    let batches = [
        at(0, &[(Audio, 1), (Silence, 10), (Audio, 1)]),
        at(12 * 320, &[(Silence, 10), (Stalled, 1)]),
        at(50 * 320, &[(Silence, 10)]),
        at(60 * 320, &[(Silence, 10)]),
    ];
    let (pieces, _) = heard(Fill::Skip, &batches);
    assert_eq!(
        spans(&pieces),
        // 200 ms of pause whole, 200 ms whole, and the first 300 of 400 ms.
        [
            (0, 320),
            (320, 3_200),
            (11 * 320, 320),
            (12 * 320, 3_200),
            (50 * 320, 3_200),
            (60 * 320, 1_600)
        ]
    );
}

#[test]
fn keep_alive_is_never_quiet_for_longer() {
    let every = Duration::from_millis(500);
    let batches = [at(0, &[(Audio, 1), (Muted, 49)]), at(150 * 320, &[(Stalled, 10), (Audio, 1)])];
    let (pieces, _) = heard(Fill::KeepAlive(every), &batches);
    let mut end = 0;
    for piece in &pieces {
        assert!(piece.pos + 320 - end <= 8_000, "{:?}", spans(&pieces));
        end = piece.pos + piece.sound.len() as u64 / 2;
    }
    assert_eq!((pieces.len(), end), (2 + 6, 161 * 320));
}

#[test]
fn a_jump_without_measure_is_not_filled() {
    let far = 1 << 61;
    let batches = [at(0, &[(Audio, 1)]), at(far, &[(Audio, 1)]), at(320, &[(Audio, 1)])];
    for fill in [Fill::Zeros, Fill::Skip, Fill::KeepAlive(Duration::MAX)] {
        let (pieces, discontinuities) = heard(fill, &batches);
        assert_eq!(spans(&pieces), [(0, 320), (far, 320), (320, 320)]);
        assert_eq!(discontinuities, 2);
        assert_eq!(pieces[0].format, Format::default());
    }
}
