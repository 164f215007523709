//! Every bound of the system in one place, each with its unit and the sum or
//! the measurement that chose it. Nothing else in the crate invents a limit.

mod again;
mod mixing;
mod nested;

use std::time::Duration;

pub use again::*;
pub use mixing::*;

// ---- audio ----

/// Sample rate of the bus in Hz. Speech recognition's usual input.
pub const SAMPLE_RATE: u32 = 16_000;
/// Length of a frame (a slot on the time line).
pub const FRAME: Duration = Duration::from_millis(20);
/// Samples in a frame: 16,000 Hz × 20 ms.
pub const FRAME_SAMPLES: usize = 320;
/// Bytes in a frame: 320 samples × 2 bytes.
pub const FRAME_BYTES: usize = 640;
/// Frames in a batch unless the task asks for another number: 200 ms, where a
/// publish costs little per frame and the delay is still that of a short pause.
pub const BATCH_FRAMES: u8 = 10;
/// Most slots one batch may hold: one second.
pub const BATCH_MAX_SLOTS: usize = 50;
/// Most `[state, count]` runs in a batch: every slot its own run.
pub const BATCH_MAX_RUNS: usize = BATCH_MAX_SLOTS;
/// Largest payload accepted on an audio subject. 50 slots of 48 kHz stereo are
/// 192,000 bytes; the rest is head-room for the other fields.
pub const BATCH_MAX_BYTES: usize = 256 * 1024;
/// An open track publishes at least this often, so that a loss at the tail is
/// noticed within that time.
pub const HEARTBEAT_TRACK: Duration = Duration::from_millis(200);
/// Nesting of arrays and maps that is read in a batch: three are its own, the
/// rest is for keys that are not known yet.
pub const BATCH_MAX_DEPTH: usize = 16;
/// Lowest and highest sample rate a batch may name, in Hz.
pub const BATCH_RATES: std::ops::RangeInclusive<u32> = 8_000..=48_000;
/// Most channels a batch may name.
pub const BATCH_MAX_CHANNELS: u8 = 2;
/// Longest `user` or `role` carried in a batch or an event, in bytes. An SDK's
/// user id above that is a broken or hostile adapter.
pub const USER_MAX_BYTES: usize = 8 * 1024;
/// A gap in an adapter's timestamps up to this long becomes slots; a longer one
/// is a step of its clock and becomes a discontinuity.
pub const GAP_MAX: Duration = Duration::from_secs(10);
/// A timestamp may differ this much from where the samples before it ended and
/// still count as contiguous: half a frame, so that no whole slot is missed.
pub const PTS_TOLERANCE: Duration = Duration::from_millis(10);
/// A track's timestamps may fall back this far and count as an overlap that is
/// cut off; further back is a step of the adapter's clock.
pub const PTS_BACKSTEP: Duration = Duration::from_millis(200);
/// How far behind its usual delay an adapter may be before the time line goes
/// on without it: one sweep of a track.
pub const STALL_GRACE: Duration = Duration::from_millis(200);
/// The usual delay of an adapter is the shortest within one to two of these: a
/// clock that is off by 1,000 ppm moves 20 ms in that time.
pub const SKEW_WINDOW: Duration = Duration::from_secs(10);
/// Slots that an adapter's clock must be off before one is added or left out:
/// more than one, so that readings that are a slot apart do not swing.
pub const DRIFT_SLOTS: f64 = 1.5;
/// A clock's drift is told once it was followed this long: readings that are
/// 2 ms off are 33 ppm then.
pub const DRIFT_TOLD_AFTER: Duration = Duration::from_secs(60);
/// How often a room tells what time it is, and asks its adapter's clock.
pub const CLOCK_EVERY: Duration = Duration::from_secs(5);
/// Audio that is ahead of the wall by more than this, and than it ever was of
/// late, comes from a clock that stepped: two frames, for what JOINED took.
pub const STEP_AHEAD: Duration = Duration::from_millis(40);
/// Steps of an adapter's clock that undo each other within this are those of
/// tracks that have clocks of their own.
pub const STEP_AGAIN: Duration = Duration::from_secs(1);
/// Slots of audio a track may have waiting to be published; where more come the
/// oldest are dropped by us and say so. Twice [`GAP_MAX`].
pub const WRITER_MAX_SLOTS: usize = 1_000;
/// Longest jump on the time line that a consumer's file or stream gets as
/// zeros, 19 MB of them; a longer one is a discontinuity and is left out.
pub const FILL_MAX: Duration = Duration::from_secs(600);
/// Silence a consumer that skips what is no audio still gets at a stretch: a
/// pause between words is part of speech.
pub const SKIP_PAUSE: Duration = Duration::from_millis(300);

// ---- names and messages ----

/// Characters in a token; 64 keeps every subject under 250 bytes.
pub const TOKEN_MAX: usize = 64;
/// Largest control message (task, heartbeat, reply) that is read, in bytes: a
/// heartbeat of 1,500 sessions with the longest names is 350 kB, and the reasons
/// of those that have ended are in it too.
pub const CONTROL_MAX_BYTES: usize = 512 * 1024;
/// What all reasons in a heartbeat may take of it, in bytes.
pub const REASONS_MAX_BYTES: usize = 128 * 1024;
/// Largest task as submitted, in bytes. A token of an SDK is 2–4 kB.
pub const TASK_MAX_BYTES: usize = 64 * 1024;
/// Roles, mixes and labels in a task.
pub const TASK_MAX_LIST: usize = 32;
/// Bytes in one role, label key or label value.
pub const TASK_MAX_STRING: usize = 256;
/// Longest a task may run.
pub const TASK_MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest a task may wait for a worker.
pub const TASK_MAX_START_WITHIN: Duration = Duration::from_secs(3600);
/// How long a task waits for a worker unless it says otherwise.
pub const TASK_START_WITHIN: Duration = Duration::from_secs(30);
/// Tasks `list` returns at most.
pub const LIST_MAX: usize = 1_000;
/// Characters of free text (reasons, log tails) in an event.
pub const REASON_MAX_BYTES: usize = 2 * 1024;

// ---- the bus ----

/// Oldest nats-server that works: per-message TTL and the 429 to publishers
/// that outrun JetStream came with it.
pub const SERVER_MIN: (u64, u64, u64) = (2, 11, 0);
/// Delay between attempts to reach the server again. The client library's own
/// back-off grows to 4 s, an audible hole.
pub const RECONNECT_DELAY: Duration = Duration::from_millis(200);
/// How long a worker whose server is back keeps what it made meanwhile: listeners
/// were cut off as well, and try again every [`RECONNECT_DELAY`].
pub const LISTENERS_BACK: Duration = Duration::from_millis(300);
/// Copies of a bucket in a cluster: one server may go, and two still agree.
pub const REPLICAS: usize = 3;
/// How long the servers of a cluster may take to agree after they were started:
/// an election takes them 4 to 8 s, and two may have to follow each other.
pub const CLUSTER_GATHERS: Duration = Duration::from_secs(20);
/// How often the connection is probed; a dead one is noticed at the fourth: as
/// late as a dispatcher takes for gone who is behind it, and no later.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long connecting to one address may take. With the four seconds until a
/// connection that is frozen is noticed, and two addresses that are frozen too,
/// a worker is back within [`RING_AGE`].
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages a control subscription holds before it drops.
pub const CONTROL_CAPACITY: usize = 4_096;
/// Batches one media subscription holds: at 6.6 kB each about 27 MB.
pub const MEDIA_CAPACITY: usize = 4_096;
/// Commands queued to the client library for one connection.
pub const CLIENT_CAPACITY: usize = 2_048;
/// How long a control request waits for its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the store may take for one write or read, all tries together, before
/// what became of it is unknown and it is read anew.
pub const STORE_TIMEOUT: Duration = Duration::from_millis(700);
/// How long a write or read of the store goes without an answer before it is sent
/// once more: what was on its way to a server of a cluster that hangs is lost. Far
/// longer than a store takes that is well.
pub const STORE_AGAIN: Duration = Duration::from_millis(200);
/// How long closing waits for what was published to leave.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

// ---- dispatch ----

/// `max_age` of the lease bucket: a holder that stops renewing is gone then.
pub const LEASE_TTL: Duration = Duration::from_secs(2);
/// How often a lease is renewed: three renewals may be lost.
pub const LEASE_RENEW: Duration = Duration::from_millis(500);
/// How often a worker sends its heartbeat.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// Wait between heartbeats that tell of changes, for each hundred sessions: a
/// storm of them is told in few words.
pub const HEARTBEAT_NEWS: Duration = Duration::from_millis(20);
/// How long a worker remembers the epoch of a room that it left: longer than
/// any assignment is on its way.
pub const EPOCH_KEEP: Duration = Duration::from_secs(60);
/// A worker whose lease was not renewed for this long, and whom no dispatcher
/// answered, leaves its rooms: twice the longest outage of the server that is to
/// cost no room.
pub const WORKER_ALONE: Duration = Duration::from_secs(60);
/// How often a worker whose lease has run out asks whether a dispatcher hears
/// it: twelve times before it gives up.
pub const ALONE_ASK: Duration = Duration::from_secs(5);
/// A worker that was silent this long is asked for a sign of life.
pub const WORKER_SUSPECT: Duration = Duration::from_millis(1_500);
/// A worker that was silent this long is taken for gone.
pub const WORKER_GONE: Duration = Duration::from_secs(3);
/// How long a worker may take to accept an assignment.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Workers tried for one task before it waits again.
pub const CANDIDATES_MAX: usize = 3;
/// Wait before a task that found no taker is tried again; doubled each time …
pub const REQUEUE_DELAY: Duration = Duration::from_millis(500);
/// … up to this, so that within [`TASK_START_WITHIN`] six rounds are made.
pub const REQUEUE_MAX: Duration = Duration::from_secs(8);
/// Failed starts of an adapter at a worker within [`QUARANTINE_WINDOW`] that
/// put it into quarantine there …
pub const QUARANTINE_STARTS: usize = 3;
/// See [`QUARANTINE_STARTS`].
pub const QUARANTINE_WINDOW: Duration = Duration::from_secs(60);
/// … for this long: as long as a task waits for a worker by default, so that
/// an operator sees it and a fleet of one does not lie idle.
pub const QUARANTINE: Duration = Duration::from_secs(30);
/// Failed starts that are remembered of one adapter at one worker.
pub const QUARANTINE_MEMORY: usize = 16;
/// Tasks that may wait for a worker; one more is refused with `queue_full`.
/// 10,000 of the default priority, and what is left to more urgent ones.
pub const QUEUE_MAX: usize = 10_000 + 4 * QUEUE_STEP;
/// Places at the end of the queue that each step of priority has before the
/// next lower one: the default leaves 800 to what is more urgent.
pub const QUEUE_STEP: usize = 200;
/// Wait that makes up for one step of priority: nine of them are less than
/// [`TASK_START_WITHIN`], so that nothing expires for its priority alone.
pub const AGE_STEP: Duration = Duration::from_secs(2);
/// Submits a second from one caller: half of what all may.
pub const SUBMITS_PER_CALLER_S: u32 = SUBMITS_PER_S / 2;
/// Submits one caller may send at once before his rate counts.
pub const SUBMITS_PER_CALLER_BURST: u32 = SUBMITS_BURST / 2;
/// Callers whose rate is watched at once, at 40 bytes each; more share one.
pub const CALLERS_MAX: usize = 16_384;
/// Submits a second from all callers together.
pub const SUBMITS_PER_S: u32 = 500;
/// Submits all callers may send at once before the rate counts.
pub const SUBMITS_BURST: u32 = 1_000;
/// Finished tasks are kept this long for `get` and `list`.
pub const TASK_KEEP: Duration = Duration::from_secs(3600);
/// How long events are kept in the stream `GATEWAY_EVENTS`.
pub const EVENTS_KEEP: Duration = Duration::from_secs(24 * 3600);
/// Bytes the stream `GATEWAY_EVENTS` may hold.
pub const EVENTS_BYTES: i64 = 256 * 1024 * 1024;
/// A worker takes no more rooms above this share of its CPU, its memory or its
/// file descriptors …
pub const FULL: f64 = 0.80;
/// … and once it was so full, none until it is below this.
pub const OPEN_AGAIN: f64 = 0.70;
/// CPU of one session until it was measured, in cores.
pub const SESSION_COST: f64 = 0.005;
/// Sessions one worker runs at most unless configured otherwise.
pub const SESSIONS_MAX: usize = 1_500;
/// Memory of one session until it was measured: an adapter of ours takes 3 to
/// 5 MB.
pub const SESSION_MEMORY: u64 = 8 * 1024 * 1024;
/// File descriptors of one session: three pipes, the process, and two to spare
/// while it is started.
pub const SESSION_FDS: u64 = 6;
/// Processes whose CPU clocks are read with each heartbeat, at about 1 µs each …
pub const CPU_SAMPLE: usize = 64;
/// … where there are more, all are read this often.
pub const CPU_SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// Processes whose memory is read at a time, at 15 µs each; the others have their
/// turn.
pub const MEMORY_SAMPLE: usize = 16;
/// A session younger than this does not show in its worker's load yet, so its
/// cost is kept free beside it.
pub const SESSION_YOUNG: Duration = Duration::from_secs(10);
/// Wait before a suspect worker that nobody answered for is asked once more.
pub const PING_RETRY: Duration = Duration::from_millis(150);
/// How long an answer to a ping may take: two fit between suspicion and the end.
pub const PING_TIMEOUT: Duration = Duration::from_millis(700);
/// A worker that beats but does not report a session given to it has lost it
/// after this long: two heartbeats, so that one sent before does not count.
pub const SESSION_MISSING: Duration = Duration::from_millis(1_000);
/// A session of a task nobody knows is ended after this long: a watch that
/// lags has caught up by then.
pub const SESSION_FOREIGN: Duration = Duration::from_millis(1_500);
/// A room whose session is being left is given away again after this long even
/// where the worker still reports it: [`LEAVE_TIMEOUT`] + [`TERM_TIMEOUT`] + 1 s.
pub const ROOM_LEAVING: Duration = Duration::from_secs(5);
/// Wait before a key is read again whose write went unanswered.
pub const WRITE_RETRY: Duration = Duration::from_millis(200);
/// How often a bucket is looked at: whether it is there, and whether its watch
/// has told of its last change. A watch whose server was killed stands still
/// for ten seconds by itself.
pub const BUCKET_LOOK: Duration = Duration::from_secs(1);
/// Rooms claimed at a time: writes that wait for the store.
pub const CLAIMS_MAX: usize = 64;
/// Rooms handed over at a time: so many adapters start beside those that run.
pub const HANDOVERS_MAX: usize = 64;
/// A successor that runs for so long and has put nothing on the bus counts as
/// heard: its room has no track. Accepted, joined and this are 16 s.
pub const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// How long a worker that is asked to end waits until others have its rooms,
/// unless told otherwise: orchestrators kill after 30 s, and adapters leave
/// within [`LEAVE_TIMEOUT`].
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// How often it says meanwhile what it waits for.
pub const RETIRE_TELL: Duration = Duration::from_secs(5);
/// How long it stays after its last room was taken over, for subscribers that
/// missed the last of its batches: they ask within a few round trips.
pub const LEAVE_LINGER: Duration = Duration::from_secs(1);
/// Claims that a worker reads at a time to see whether its rooms are its own still.
pub const CLAIMS_AT_ONCE: usize = 32;
/// How often a worker looks whether it may play into a room that another one
/// is leaving: so long may nobody play.
pub const HOLD_LOOK: Duration = Duration::from_millis(100);
/// Longest wait before a worker is told again of an update that its session
/// does not show: one of the version before never will.
pub const UPDATE_AGAIN_MAX: Duration = Duration::from_secs(30);
/// How often the whole queue is looked through for tasks that fit now.
pub const PLACE_EVERY: Duration = Duration::from_millis(200);
/// A task that waits this long has the reason written into it …
pub const WAIT_REASON_AFTER: Duration = Duration::from_secs(1);
/// … and another one not before this has passed.
pub const WAIT_REASON_AGAIN: Duration = Duration::from_secs(10);
/// Reasons written in a second: a tenth of what the store takes in.
pub const REASONS_PER_S: u32 = 50;
/// Placements whose waiting time a dispatcher remembers, for its figures.
pub const PLACE_TIMES: usize = 1_024;
/// Workers a dispatcher follows: a hundred times the largest fleet foreseen.
pub const WORKERS_MAX: usize = 4_096;
/// Finished tasks kept at most, at about 1 kB each in every dispatcher.
pub const TASKS_KEPT_MAX: usize = 20_000;
/// Finished tasks deleted at a time: with [`SWEEP_EVERY`] 640 a second, more
/// than [`SUBMITS_PER_S`].
pub const SWEEP_BATCH: usize = 64;
/// How often finished tasks are looked through.
pub const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// A new leader repeats the events of changes younger than this: its
/// predecessor may have gone between a change and its event.
pub const EVENTS_AGAIN: Duration = Duration::from_secs(10);
/// Requests and writes a dispatcher has under way at a time.
pub const DISPATCH_OPS: usize = 256;
/// Callers a dispatcher keeps waiting for the store; one more is refused.
pub const CALLS_MAX: usize = 1_024;

// ---- adapters ----

/// Largest payload of an audio frame on the SDK pipe: 100 ms of 16 kHz mono
/// is 3,200 bytes.
pub const PIPE_AUDIO_MAX: usize = 4 * 1024;
/// Largest payload of a control frame on the SDK pipe: a task's params fit.
pub const PIPE_CONTROL_MAX: usize = 128 * 1024;
/// Tracks one adapter may have open.
pub const TRACKS_MAX: usize = 256;
/// Tracks of a room whose sequence numbers are kept, open and closed: who comes
/// back within an epoch goes on counting.
pub const TRACKS_KEPT: usize = 1_024;
/// How long a track waits for its adapter that crashed to open it again.
pub const ORPHAN_KEEP: Duration = Duration::from_secs(10);
/// How long it is kept back that somebody left or a track closed, in case it is
/// a reconnect: SDKs take about a second for one.
pub const LEAVE_HOLD: Duration = Duration::from_secs(2);
/// Events an adapter may cause in its room in a second …
pub const ROOM_EVENTS_PER_S: u32 = 20;
/// … and at once: all participants of a large room come in.
pub const ROOM_EVENTS_BURST: u32 = 1_024;
/// A raw adapter that is faster than time is read this far ahead and no
/// further: it waits on its pipe.
pub const RAW_LEAD: Duration = Duration::from_secs(1);
/// Size asked of the kernel for an adapter's pipes: two seconds of one track.
pub const PIPE_BYTES: usize = 64 * 1024;
/// How long the first sound of a source waits, so that its batches, which come
/// five times a second, may be late by so much.
pub const PLAYOUT_CUSHION: Duration = Duration::from_millis(60);
/// A pause of what is pushed is written as zeros up to this long: an adapter keeps
/// a cushion, which would swallow a short one. Beyond it nothing is written.
pub const PLAYOUT_PAUSE: Duration = Duration::from_secs(1);
/// How long playback waits for a batch that is missing.
pub const PLAYOUT_DEADLINE: Duration = Duration::from_millis(120);
/// Slots of pushed audio that wait for their time: a minute, 1.9 MB; what a
/// service sends faster than that loses its beginning.
pub const PLAYOUT_SLOTS: usize = 3_000;
/// Bytes queued towards an adapter's stdin before media is dropped.
pub const STDIN_QUEUE_BYTES: usize = 256 * 1024;
/// How long an adapter may take from its start to HELLO and JOINED.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a raw adapter may take from its start to its first sample: it has
/// no other way to say that it is there.
pub const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an adapter may take to leave after LEAVE or the end of its stdin.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an adapter may take to die after SIGTERM before SIGKILL.
pub const TERM_TIMEOUT: Duration = Duration::from_secs(2);
/// Last bytes of an adapter's stderr kept for the event that reports its end:
/// a reason has room for them and for what is said around them.
pub const STDERR_TAIL: usize = REASON_MAX_BYTES - 512;
/// Longest line of an adapter's stderr that is logged.
pub const STDERR_LINE_MAX: usize = 1_024;
/// Lines of one adapter's stderr that are logged at once …
pub const STDERR_BURST: u32 = 100;
/// … and in each second after that; the rest are counted.
pub const STDERR_LINES_PER_S: u32 = 20;
/// Size asked of the kernel for an adapter's stderr: four pages, so that 1,500
/// adapters leave an unprivileged user's allowance of pipe memory (16,384
/// pages) to the pipes that carry audio.
pub const STDERR_PIPE_BYTES: usize = 16 * 1024;
/// Bytes of stderr read from one adapter before the next has its turn.
pub const STDERR_READ: usize = 64 * 1024;
/// Adapters that may wait to be started: at 1 ms each, one second of starts.
pub const SPAWN_QUEUE: usize = 1_024;
/// Ends of adapters queued to the worker's loop; more wait in the supervisor.
pub const CHILD_EXITS: usize = 4_096;
/// Wait before a guard that died is started again, if it keeps dying.
pub const GUARD_RETRY: Duration = Duration::from_secs(1);
/// How long the guard may take to leave with its worker's supervisor.
pub const GUARD_LEAVE: Duration = Duration::from_secs(2);
/// Bytes in one param that becomes an argument of an adapter's command.
pub const PARAM_MAX_BYTES: usize = 2 * 1024;
/// Largest configuration file of a worker, in bytes.
pub const CONFIG_MAX_BYTES: u64 = 1024 * 1024;
/// Crashes of one adapter within [`CRASH_WINDOW`] that its task survives; with
/// one more it fails.
pub const CRASHES_MAX: usize = 5;
/// See [`CRASHES_MAX`].
pub const CRASH_WINDOW: Duration = Duration::from_secs(60);
/// Wait before an adapter that crashed is started again; doubled each time.
pub const RESTART_DELAY: Duration = Duration::from_millis(100);

// ---- the simulated room ----

/// Faults of one kind in a simulated room, and marks it keeps in mind.
pub const SIM_LIST_MAX: usize = 64;
/// Samples of pushed audio above which it asks its worker to stop: 1 s.
pub const SIM_PUSH_HIGH: usize = SAMPLE_RATE as usize;
/// Samples of pushed audio below which it asks its worker to go on: 0.5 s.
pub const SIM_PUSH_LOW: usize = SIM_PUSH_HIGH / 2;
/// Samples of pushed audio it keeps: 2 s, so 1 s may be on its way when it asks.
pub const SIM_PUSH_MAX: usize = SIM_PUSH_HIGH * 2;
/// Audio that a worker did not take for this long is lost, not sent late. The
/// pipe itself holds two seconds more.
pub const SIM_LATE_MAX: Duration = Duration::from_secs(2);

// ---- inside the worker ----

/// Commands queued to an audio thread.
pub const PLANE_COMMANDS: usize = 4_096;
/// Batches queued from the audio threads to the publisher: at 6.6 kB each
/// 27 MB, and 0.8 s of 1,000 rooms. A full queue drops the batch from the live
/// path; the ring still has it.
pub const PUBLISH_QUEUE: usize = 4_096;
/// Batches and answers queued for those who asked for batches again: half a
/// second at the worker's rate.
pub const RESEND_QUEUE: usize = 8_192;
/// Events queued from the audio threads to the worker's loop.
pub const PLANE_EVENTS: usize = 16_384;

// ---- the client ----

/// Tracks one listener follows: 500 rooms of eight people.
pub const LISTEN_TRACKS_MAX: usize = 4_096;
/// Batches that wait for a listener's program to take them: at 6.6 kB each
/// 27 MB. Above it what comes is left to be asked for again.
pub const LISTEN_QUEUE: usize = 4_096;
/// NACKs of one listener that wait for their answer at once.
pub const LISTEN_ASKS: usize = 64;
/// Looks of one listener into what is recorded that are under way at once: each
/// is a consumer of the stream, and hundreds at once cost the server seconds.
pub const LISTEN_LOOKS: usize = 4;
/// Rooms, or tracks, whose recording one listener reads from its beginning or
/// from some time on: each is a consumer too.
pub const LISTEN_PASTS: usize = 64;
/// Batches behind those that are looked for that are read before they count as
/// not recorded: what is in the stream out of order is within one window.
pub const LOOK_BEYOND: u64 = RECORD_WINDOW as u64;
/// A listener that listened this long before it first heard a track has missed
/// none of it: an open track speaks ten times within it.
pub const LISTEN_SETTLED: Duration = Duration::from_secs(2);
/// A track that was silent this long is asked whether something was lost at
/// its end: three heartbeats.
pub const LISTEN_PROBE: Duration = Duration::from_millis(600);
/// A track that has said its last is closed after this long: had its room been
/// handed over, one of three batches would have come under the new epoch.
pub const LISTEN_ENDED: Duration = Duration::from_millis(600);
/// A track that was silent this long is taken for closed: longer than a room
/// needs to be heard again from another worker, and than a ring lasts.
pub const LISTEN_SILENT: Duration = Duration::from_secs(15);
/// Longest wait between two NACKs for the same batch.
pub const NACK_RETRY_MAX: Duration = Duration::from_secs(2);
/// How often a submit that got no answer is sent again: it is idempotent.
pub const SUBMIT_TRIES: u32 = 3;
/// How often a task that is waited for is looked at, in case an event is lost.
pub const WAIT_POLL: Duration = Duration::from_secs(1);
/// A room that is kept has its task renewed after this long; doubled each time …
pub const KEEP_RETRY: Duration = Duration::from_secs(1);
/// … up to this.
pub const KEEP_RETRY_MAX: Duration = Duration::from_secs(60);
/// A task that ran for this long has not failed: the wait is short again.
pub const KEEP_STEADY: Duration = Duration::from_secs(60);
/// Tasks in a row that may end sooner before a room is given up: at the waits
/// above, five minutes.
pub const KEEP_TRIES: u32 = 10;
/// How often the task of a room that is kept is looked at, in case an event is
/// lost: 1,000 rooms ask 100 times a second.
pub const KEEP_POLL: Duration = Duration::from_secs(10);
/// How long one task is followed before it is handed in again, which changes
/// nothing where it runs.
pub const KEEP_FOLLOW: Duration = Duration::from_secs(3600);
/// A WAV file's header is brought up to date this often.
pub const WAV_FLUSH: Duration = Duration::from_secs(1);
/// Bytes of samples in one WAV file: its lengths are 32 bits wide.
pub const WAV_MAX_BYTES: u64 = 4_000_000_000;
/// Gaps listed in the report beside a WAV file; the rest is counted.
pub const WAV_GAPS_MAX: usize = 10_000;
