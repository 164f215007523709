//! The bounds of what is sent again, and of what is kept to be heard again.

use std::time::Duration;

#[cfg(doc)]
use super::PUBLISH_QUEUE;

// ---- retransmission ----

/// How long a worker keeps each batch for retransmission.
pub const RING_AGE: Duration = Duration::from_secs(10);
/// Most bytes all rings of a worker may hold together: 10 s of 2,000 rooms of
/// one speaker are 660 MB; beyond that the oldest batches go first.
pub const RING_BYTES: usize = 768 * 1024 * 1024;
/// Ranges in one NACK.
pub const NACK_MAX_RANGES: usize = 16;
/// Batches asked for in one NACK.
pub const NACK_MAX_BATCHES: u64 = 64;
/// Largest NACK request in bytes: 16 ranges of two 20-digit numbers and a name.
pub const NACK_MAX_BYTES: usize = 4 * 1024;
/// How often one batch is sent again to one subscriber.
pub const RESEND_MAX: u8 = 3;
/// A subscriber that asks for a batch again within this time is not answered:
/// what it asked for is on its way.
pub const RESEND_WINDOW: Duration = Duration::from_millis(20);
/// Subscribers one batch is sent again to; each is remembered with 32 bytes.
pub const RESEND_SUBSCRIBERS: usize = 256;
/// Answers to NACKs a worker gives in a second; above that it says `throttled`.
pub const RESEND_BATCHES_PER_S: u32 = 20_000;
/// Batches a subscriber may have sent again in a second: the 10 s window of 16
/// tracks at once, so that a consumer that was cut off catches up at once.
pub const RESEND_BATCHES_PER_SUBSCRIBER_S: u32 = 1_000;
/// Of what a worker publishes, a subscriber may have this share again, in
/// percent of the bytes, in the long run: a consumer that loses 5 % of all a
/// worker says needs 5.3. Together with its credit it is below 10 % of a
/// worker's egress within four minutes: 8 % × (240 s + 60 s) ÷ 240 s.
pub const RESEND_SHARE: u64 = 8;
/// Time over which a subscriber that asks for nothing saves up its share: 4.8 s
/// of all the worker says, for when it was cut off.
pub const RESEND_CREDIT: Duration = Duration::from_secs(60);
/// Bytes a subscriber may have in any case: the ring's ten seconds of nine
/// speakers, however small the worker …
pub const RESEND_CREDIT_MIN: u64 = 3 * 1024 * 1024;
/// … and bytes a second: one more track, so that half of one may be lost.
pub const RESEND_BYTES_PER_S: u64 = 33_000;
/// Of what it publishes, a worker sends this share again in the long run, to all
/// subscribers together: a dozen that lose 5 % each, or six that take all they can …
pub const RESEND_ALL_SHARE: u64 = 50;
/// … at least so many bytes a second …
pub const RESEND_ALL_BYTES_PER_S: u64 = 1024 * 1024;
/// … and at once: twenty consumers of a room of nine that was cut off from all.
pub const RESEND_ALL_CREDIT_MIN: u64 = 64 * 1024 * 1024;
/// A subscriber that has spent its share is told so this often; what it asks in
/// between is not answered: answers are egress too.
pub const THROTTLED_AGAIN: Duration = Duration::from_millis(50);
/// Subscribers whose rate is watched at once; one more has to wait a second.
pub const RESEND_BUCKETS: usize = 4_096;
/// Slots a listener holds back per track while it waits for a missing batch,
/// and batches a hole may span before its beginning is given up: twice the
/// ring's age, also where each batch is a single slot.
pub const REORDER_MAX_SLOTS: usize = 1_000;
/// How long a listener waits for a retransmission before it declares a gap.
pub const REORDER_DEADLINE: Duration = Duration::from_secs(10);
/// A worker that hands its room over and is silent this long is not waited for
/// any more: two batches of its tracks.
pub const HANDOVER_SILENT: Duration = Duration::from_millis(400);
/// Slots of each track that a worker publishes of a room that it takes over
/// before it says that it is heard, and the other one leaves: [`HANDOVER_SILENT`],
/// so late may what the other one's adapter says be on a host where hundreds of
/// others are just started.
pub const HANDOVER_OVERLAP: u64 = 20;
/// Longest a listener holds a new epoch back while the old one is heard: what is
/// missing of either has come by then, or will not.
pub const HANDOVER_MAX: Duration = Duration::from_secs(1);
/// How long a listener waits for the answer to a NACK before it asks again, as
/// long as it has not measured how long one takes.
pub const NACK_RETRY: Duration = Duration::from_millis(250);
/// The least it waits, however near the worker is: so that a worker that answers
/// a loss once within [`RESEND_WINDOW`] is not asked twice in it, and a busy
/// machine is not taken for a loss.
pub const NACK_RETRY_MIN: Duration = Duration::from_millis(50);
/// Subscribers that lost the same batch from which on they are told to spread
/// what they ask: fewer cost nothing.
pub const NACK_CROWD: usize = 16;
/// Time over which a crowd spreads its NACKs, for each of them: twenty times
/// what sending one batch again takes the worker and the server …
pub const NACK_SPREAD: Duration = Duration::from_micros(200);
/// … and in all at most: half a batch, so that recovery stays within half a second.
pub const NACK_SPREAD_MAX: Duration = Duration::from_millis(100);
/// NACKs a second about one room that a worker looks at: sixteen listeners that
/// lose one in twenty of all batches of 256 tracks. What is above is left
/// unread: it would take the audio thread's time.
pub const NACKS_PER_ROOM_S: u32 = 1_024;
/// Longest a new track's first sound is held back for what came before it.
pub const PREROLL_WAIT: Duration = Duration::from_secs(3);

// ---- recorded rooms ----

/// Batches queued from the audio threads to the lane of recorded rooms: as
/// [`PUBLISH_QUEUE`]. A full queue drops the batch; the ring still has it.
pub const RECORD_QUEUE: usize = 4_096;
/// Batches on their way to the stream without its acknowledgement: at the 1 to 3
/// ms one takes, 80,000 a second.
pub const RECORD_WINDOW: usize = 256;
/// Bytes of batches that wait for the stream: the rings' ten seconds of 500
/// recorded tracks, or two minutes of 40. Their memory is the rings' own as long as those
/// keep them.
pub const RECORD_BYTES: usize = 160 * 1024 * 1024;
/// How long the stream's acknowledgement is waited for before a batch is sent
/// again, and between two tries where there is no stream.
pub const RECORD_RETRY: Duration = Duration::from_secs(2);
/// How long the stream tells a batch that is sent twice from a new one. The
/// server keeps a name for each batch so long, at 100 bytes.
pub const RECORD_DEDUP: Duration = Duration::from_secs(120);
/// A batch that was sent is not sent again after this long, though nobody knows
/// whether it is kept: it could be kept twice. A retry before the end of
/// [`RECORD_DEDUP`] is there within it.
pub const RECORD_SURE: Duration = Duration::from_secs(110);
/// How long the stream `AUDIO` keeps what is recorded, unless told otherwise:
/// long enough for a recorder that was down over a weekend.
pub const RECORD_KEEP: Duration = Duration::from_secs(72 * 3600);
/// Bytes the stream `AUDIO` may hold, unless told otherwise: 32 GiB are 280
/// hours of one track. Where the server has not so much it is halved …
pub const RECORD_STREAM_BYTES: i64 = 32 * 1024 * 1024 * 1024;
/// … down to this; with less nothing is recorded.
pub const RECORD_STREAM_MIN: i64 = 256 * 1024 * 1024;
/// How often the dispatcher looks whether the stream `AUDIO` is there, once it
/// has seen a task that records.
pub const RECORD_LOOK: Duration = Duration::from_secs(5);
