//! The bounds that others build upon: the document's numbers are the code's.

use audio_gateway::limits as l;

use crate::document::says;

#[test]
fn limits_in_the_document() {
    for row in [
        format!("| token | {} characters |", l::TOKEN_MAX),
        format!("| submitted task | {} bytes |", l::TASK_MAX_BYTES),
        format!("| roles, labels | {} each, {} bytes each |", l::TASK_MAX_LIST, l::TASK_MAX_STRING),
        format!("| mixes of one task | {} |", l::TASK_MAX_MIXES),
        format!(
            "| roles, users, and exceptions in a channel of a mix | {} each, {} bytes each |",
            l::TASK_MAX_LIST,
            l::TASK_MAX_STRING
        ),
        format!("| `max_duration_s` | {} |", l::TASK_MAX_DURATION.as_secs()),
        format!("| `start_within_s` | {} |", l::TASK_MAX_START_WITHIN.as_secs()),
        format!("| tasks that may wait for a worker | {} |", l::QUEUE_MAX),
        format!(
            "| submits from all callers together | {} a second, {} at once |",
            l::SUBMITS_PER_S,
            l::SUBMITS_BURST
        ),
        format!(
            "| submits from one caller | {} a second, {} at once |",
            l::SUBMITS_PER_CALLER_S,
            l::SUBMITS_PER_CALLER_BURST
        ),
        format!("| tasks in one answer to `list` | {} |", l::LIST_MAX),
        format!("| other control messages | {} bytes |", l::CONTROL_MAX_BYTES),
        format!("| batch | {} bytes, {} slots |", l::BATCH_MAX_BYTES, l::BATCH_MAX_SLOTS),
        format!("| `user`, `role` | {} bytes |", l::USER_MAX_BYTES),
        format!("| tracks of one room | {} |", l::TRACKS_MAX),
        format!(
            "| NACK | {} bytes, {} ranges, {} batches |",
            l::NACK_MAX_BYTES,
            l::NACK_MAX_RANGES,
            l::NACK_MAX_BATCHES
        ),
        format!("| kept for sending again | {} s of each track |", l::RING_AGE.as_secs()),
        format!("| one batch sent again to one subscriber | {} times |", l::RESEND_MAX),
        format!(
            "| sent again to one subscriber | {} batches a second; {} % of what the worker publishes, \
             and at least {} bytes a second |",
            l::RESEND_BATCHES_PER_SUBSCRIBER_S,
            l::RESEND_SHARE,
            l::RESEND_BYTES_PER_S
        ),
        format!(
            "| saved up by one subscriber | {} s of that, and at least {} bytes |",
            l::RESEND_CREDIT.as_secs(),
            l::RESEND_CREDIT_MIN
        ),
        format!(
            "| sent again by one worker | {} batches a second; {} % of what it publishes, and at \
             least {} bytes a second |",
            l::RESEND_BATCHES_PER_S,
            l::RESEND_ALL_SHARE,
            l::RESEND_ALL_BYTES_PER_S
        ),
        format!("| NACKs about one room | {} a second |", l::NACKS_PER_ROOM_S),
    ] {
        says(&row);
    }
}
