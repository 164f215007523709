//! NACKs as strangers write them, and what they get.

use std::time::Duration;

use super::*;
use crate::{
    audio::{Batch, FLAG_RESENT, Origin, Track, TrackWriter},
    worker::core::SessionKey,
};

struct Play {
    shelf: Shelf,
    desk: Desk,
    now: Instant,
    now_us: i64,
}

impl Play {
    /// Batches 0 to 199 of the track `u` in the room `r` under epoch 3.
    fn new() -> Self {
        let (mut shelf, now) = (Shelf::new(1 << 20), Instant::now());
        let origin = Origin { unix_us: 0, rate: limits::SAMPLE_RATE };
        let mut track = Track::new(3, "u", "", origin, 0);
        track.batch_slots = 1;
        let (mut writer, mut pool) = (TrackWriter::new(track), BytesMut::new());
        writer.audio(Some(0), &[7; limits::FRAME_BYTES * 200]);
        while let Some(batch) = writer.next_batch(false, &mut pool) {
            let (room, track) = names();
            let batch = (batch.seq, batch.payload);
            shelf.keep(SessionKey(1), 1, &room, &track, Epoch(3), batch, now);
        }
        Self { shelf, desk: Desk::new(0), now, now_us: 0 }
    }

    fn ask(&mut self, payload: &str) -> Option<Answered> {
        let (room, track) = names();
        let names = (&room, &track);
        self.desk.answer(&mut self.shelf, names, payload.as_bytes(), self.now, self.now_us)
    }

    fn nack(&mut self, who: &str, ranges: &str) -> Answered {
        let text = format!(r#"{{"subscriber":"{who}","epoch":3,"ranges":{ranges}}}"#);
        self.ask(&text).expect("the room is ours")
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.now_us += time.as_micros() as i64;
    }
}

fn names() -> (RoomId, TrackId) {
    (RoomId::parse("r").unwrap(), TrackId::of_user("u"))
}

#[test]
fn what_is_kept_is_sent_again_with_the_flag_and_nothing_else_changed() {
    let mut play = Play::new();
    let answered = play.nack("a", "[[3,2],[9,1]]");
    assert_eq!(answered.reply.status, NackStatus::Ok);
    assert_eq!(answered.reply.held, Some((0, 199)));
    let batches: Vec<Batch> =
        answered.batches.iter().map(|batch| Batch::decode(batch).unwrap()).collect();
    assert_eq!(batches.iter().map(|batch| batch.seq).collect::<Vec<_>>(), [3, 4, 9]);
    assert!(batches.iter().all(|batch| batch.has(FLAG_RESENT) && batch.pcm.len() == 640));
}

#[test]
fn each_number_that_is_not_sent_has_its_reason() {
    let mut play = Play::new();
    play.nack("a", "[[5,1]]");
    let answered = play.nack("a", "[[5,2],[199,3]]");
    assert_eq!(answered.reply.status, NackStatus::Partial);
    let missing = [(5, 1, MissingReason::Held), (200, 2, MissingReason::Unknown)];
    assert_eq!((answered.batches.len(), answered.reply.missing.as_slice()), (2, &missing[..]));
    for _ in 1..limits::RESEND_MAX {
        play.wait(limits::NACK_RETRY);
        play.nack("a", "[[5,1]]");
    }
    play.wait(limits::NACK_RETRY);
    assert_eq!(play.nack("a", "[[5,1]]").reply.missing, [(5, 1, MissingReason::Spent)]);
    assert_eq!(play.nack("b", "[[5,1]]").reply.status, NackStatus::Ok, "others still may");

    play.wait(limits::RING_AGE);
    let (room, track) = names();
    let batch = (200, Bytes::from_static(b"later"));
    play.shelf.keep(SessionKey(1), 1, &room, &track, Epoch(3), batch, play.now);
    play.shelf.expire(play.now);
    assert_eq!(play.nack("a", "[[5,1]]").reply.missing, [(5, 1, MissingReason::Evicted)]);
}

#[test]
fn a_subscriber_has_a_rate_and_another_has_his_own() {
    let mut play = Play::new();
    let rounds = limits::RESEND_BATCHES_PER_SUBSCRIBER_S as usize / 50;
    let mut sent = 0;
    for _ in 0..=rounds {
        sent += play.nack("greedy", "[[0,50]]").batches.len();
        play.wait(Duration::from_micros(1)); // no time to recover
    }
    let answered = play.nack("greedy", "[[100,20]]");
    assert_eq!(answered.reply.status, NackStatus::Throttled);
    assert!((1..=20).contains(&answered.reply.retry_after_ms), "{:?}", answered.reply);
    assert_eq!(sent, 50, "the rate counts what is looked up, not only what is sent");
    assert_eq!(play.nack("modest", "[[0,2]]").batches.len(), 2);
    let wait = answered.reply.retry_after_ms;
    play.wait(Duration::from_millis(wait));
    assert_eq!(play.nack("greedy", "[[100,20]]").reply.status, NackStatus::Ok);
}

#[test]
fn many_names_do_not_fill_the_memory() {
    let mut play = Play::new();
    for name in 0..limits::RESEND_BUCKETS {
        play.nack(&format!("s{name}"), "[[0,1]]");
    }
    let answered = play.nack("one-more", "[[1,1]]");
    assert_eq!(answered.reply.status, NackStatus::Throttled);
    assert_eq!(play.desk.subscribers.len(), limits::RESEND_BUCKETS);
    play.wait(Duration::from_millis(1_001));
    assert_eq!(play.nack("one-more", "[[1,1]]").reply.status, NackStatus::Ok);
    assert_eq!(play.desk.subscribers.len(), 1);
}

#[test]
fn what_cannot_be_read_is_refused_by_name_and_costs_nothing() {
    let mut play = Play::new();
    let long = " ".repeat(limits::NACK_MAX_BYTES + 1);
    let ranges = "[1,1],".repeat(16);
    for (bad, why) in [
        ("", "EOF"),
        ("{}", "missing field"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[]}"#, "1 to 16"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[[1,0]]}"#, "no range"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[[1,65]]}"#, "at most 64"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[[18446744073709551615,1]]}"#, "no range"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[[-1,1]]}"#, "invalid value"),
        (r#"{"subscriber":"a.b","epoch":3,"ranges":[[1,1]]}"#, "token"),
        (&format!(r#"{{"subscriber":"a","epoch":3,"ranges":[{ranges}[1,1]]}}"#), "1 to 16"),
        (&long, "at most 4096"),
    ] {
        let reply = play.ask(bad).unwrap().reply;
        assert_eq!(reply.status, NackStatus::BadRequest, "{bad}");
        assert!(reply.message.contains(why), "{bad}: {}", reply.message);
    }
    assert!(play.desk.subscribers.is_empty());
}

#[test]
fn another_room_is_another_worker_s_and_another_epoch_is_told() {
    let mut play = Play::new();
    let (_, track) = names();
    let stranger = RoomId::parse("s").unwrap();
    let names = (&stranger, &track);
    let payload = br#"{"subscriber":"a","epoch":3,"ranges":[[1,1]]}"#;
    assert_eq!(play.desk.answer(&mut play.shelf, names, payload, play.now, 0), None);
    let reply = play.ask(r#"{"subscriber":"a","epoch":2,"ranges":[[1,1]]}"#).unwrap().reply;
    assert_eq!(
        (reply.status, reply.epoch, reply.held),
        (NackStatus::Epoch, Epoch(3), Some((0, 199)))
    );
}
