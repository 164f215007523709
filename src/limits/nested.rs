//! Which bound lies inside which other: a build in which one does not fails.

use std::time::Duration;

use super::*;

/// Time-outs from the inside out: whoever waits for another waits longer than
/// the other takes.
const NESTED: &[(Duration, Duration)] = &[
    (STORE_AGAIN, STORE_TIMEOUT),
    (STORE_TIMEOUT, REQUEST_TIMEOUT),
    (RESEND_WINDOW, NACK_RETRY_MIN),
    (NACK_RETRY_MIN, NACK_RETRY),
    (NACK_RETRY, NACK_RETRY_MAX),
    (PREROLL_WAIT, REORDER_DEADLINE),
    (RECORD_RETRY, RECORD_SURE),
    (RECORD_SURE, RECORD_DEDUP),
    (RECORD_DEDUP, RECORD_KEEP),
    (ACCEPT_TIMEOUT, REQUEST_TIMEOUT),
    (ACCEPT_TIMEOUT, JOIN_TIMEOUT),
    (JOIN_TIMEOUT, FIRST_FRAME_TIMEOUT),
    (FIRST_FRAME_TIMEOUT, TASK_START_WITHIN),
    (REQUEUE_MAX, TASK_START_WITHIN),
    (LEASE_RENEW, LEASE_TTL),
    (HEARTBEAT, WORKER_SUSPECT),
    (PING_TIMEOUT, WORKER_SUSPECT),
    (WORKER_SUSPECT, WORKER_GONE),
    (SESSION_MISSING, WORKER_GONE),
    (WORKER_GONE, ROOM_LEAVING),
    (LEAVE_TIMEOUT, ROOM_LEAVING),
    (TERM_TIMEOUT, ROOM_LEAVING),
    (NACK_RETRY, REORDER_DEADLINE),
    (QUARANTINE, QUARANTINE_WINDOW),
    (WAIT_REASON_AFTER, WAIT_REASON_AGAIN),
];

const _: () = {
    let mut at = 0;
    while at < NESTED.len() {
        assert!(NESTED[at].0.as_nanos() < NESTED[at].1.as_nanos(), "an inner time-out is longer");
        at += 1;
    }
    // Two pings fit between suspicion and the end.
    assert!((WORKER_GONE.as_millis() - WORKER_SUSPECT.as_millis()) > 2 * PING_TIMEOUT.as_millis());
    // Nobody expires for a low priority alone.
    assert!(9 * AGE_STEP.as_millis() < TASK_START_WITHIN.as_millis());
    assert!(OPEN_AGAIN < FULL);
    assert!(ROOM_LEAVING.as_millis() > LEAVE_TIMEOUT.as_millis() + TERM_TIMEOUT.as_millis());
};
