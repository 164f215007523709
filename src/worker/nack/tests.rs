//! NACKs as strangers write them, and what they get.

use std::time::Duration;

use super::*;
use crate::{
    audio::{Batch, FLAG_RESENT, Origin, Track, TrackWriter},
    worker::core::SessionKey,
};

struct Play {
    /// A batch of one slot.
    batch: Bytes,
    shelf: Shelf,
    desk: Desk,
    /// When what is asked next came.
    came: Instant,
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
        let mut last = Bytes::new();
        while let Some(batch) = writer.next_batch(false, &mut pool) {
            last = batch.payload.clone();
            let (room, track) = names();
            let batch = (batch.seq, batch.payload);
            shelf.keep(SessionKey(1), 1, &room, &track, Epoch(3), batch, now);
        }
        Self { batch: last, shelf, desk: Desk::new(0), came: now, now, now_us: 0 }
    }

    fn ask(&mut self, payload: &str) -> Option<Answered> {
        let (room, track) = names();
        let asking =
            Asking { room: &room, track: &track, payload: payload.as_bytes(), came: self.came };
        self.desk.answer(&mut self.shelf, asking, self.now, self.now_us)
    }

    fn nack(&mut self, who: &str, ranges: &str) -> Answered {
        let text = format!(r#"{{"subscriber":"{who}","epoch":3,"ranges":{ranges}}}"#);
        self.ask(&text).expect("the room is ours")
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.came = self.now;
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
    for _ in 0..rounds {
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
        ("", "empty"),
        ("[]", "no JSON object"),
        ("{}", "missing field"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[]}"#, "1 to 16"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[[1,0]]}"#, "no range"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[[1,65]]}"#, "at most 64"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[[18446744073709551615,1]]}"#, "no range"),
        (r#"{"subscriber":"a","epoch":3,"ranges":[[-1,1]]}"#, "`ranges[0][0]`: invalid value"),
        (r#"{"subscriber":"a.b","epoch":3,"ranges":[[1,1]]}"#, "token"),
        (&format!(r#"{{"subscriber":"a","epoch":3,"ranges":[{ranges}[1,1]]}}"#), "1 to 16"),
        (&long, "longer than the 4096 bytes"),
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
    let payload = br#"{"subscriber":"a","epoch":3,"ranges":[[1,1]]}"#;
    let asking = Asking { room: &stranger, track: &track, payload, came: play.now };
    assert_eq!(play.desk.answer(&mut play.shelf, asking, play.now, 0), None);
    let reply = play.ask(r#"{"subscriber":"a","epoch":2,"ranges":[[1,1]]}"#).unwrap().reply;
    assert_eq!(
        (reply.status, reply.epoch, reply.held),
        (NackStatus::Epoch, Epoch(3), Some((0, 199)))
    );
    // One that is asked for a later epoch than it had has lost the room since.
    assert_eq!(play.ask(r#"{"subscriber":"a","epoch":4,"ranges":[[1,1]]}"#), None);
}

#[test]
fn who_asks_without_end_has_a_share_of_what_is_said_and_few_words() {
    let mut play = Play::new();
    let (mut said, mut sent, mut answers) = (0, 0, 0);
    let (room, track) = names();
    // A hundred batches of one slot a second, and a NACK each millisecond under
    // one name: what it may have in any case, and then its share.
    for ms in 0..120_000_u64 {
        play.wait(Duration::from_millis(1));
        if ms % 10 == 0 {
            let seq = 200 + ms / 10;
            let batch = (seq, play.batch.clone());
            said += batch.1.len() as u64 * 20;
            // As if twenty rooms said as much: three times a twentieth is the most.
            play.desk.published(batch.1.len() * 20, play.now_us);
            play.shelf.keep(SessionKey(1), 1, &room, &track, Epoch(3), batch, play.now);
            play.shelf.expire(play.now);
        }
        let last = 200 + ms / 10;
        // Each of the last half second, in turn, as often as it is sent at all.
        let one = last - ms % 10 * 5;
        let text = format!(r#"{{"subscriber":"greedy","epoch":3,"ranges":[[{one},1]]}}"#);
        if let Some(answered) = play.ask(&text) {
            answers += 1;
            sent += answered.batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
        }
        if ms == 60_000 {
            // Another one is served all the while.
            assert_eq!(play.nack("modest", &format!("[[{last},1]]")).batches.len(), 1);
        }
    }
    let percent = sent * 100 / said;
    assert!((7..10).contains(&percent), "{percent} % of {said} bytes, {answers} answers");
    let desk = play.desk.stats();
    assert!(desk.ignored + answers == 120_000 && desk.late == 0, "{desk:?}");
}

#[test]
fn what_came_too_late_is_not_sent() {
    let mut play = Play::new();
    let text = r#"{"subscriber":"a","epoch":3,"deadline_ms":100,"ranges":[[5,1]]}"#;
    let answered = play.ask(text).expect("in time");
    assert_eq!(answered.until, Some(play.came + Duration::from_millis(100)));
    play.now += Duration::from_millis(101);
    assert_eq!(play.ask(text), None);
    assert_eq!(play.desk.stats().late, 1);
    let whenever = r#"{"subscriber":"a","epoch":3,"ranges":[[6,1]]}"#;
    assert_eq!(play.ask(whenever).expect("whenever").until, None);
}

#[test]
fn a_crowd_is_told_to_spread() {
    let mut play = Play::new();
    let spread =
        |play: &mut Play, name: usize| play.nack(&format!("s{name}"), "[[5,1]]").reply.spread_ms;
    assert!((1..limits::NACK_CROWD).all(|name| spread(&mut play, name) == 0));
    assert!(spread(&mut play, 99) > 0);
    assert_eq!(play.nack("s99", "[[6,1]]").reply.spread_ms, 0, "of another batch it is alone");
}
