//! What a failure is worth as an exit code, and how it is told: in one line.

use std::{io, process::ExitCode};

use audio_gateway::{
    bus::{
        AskError, ConnectError,
        kv::StoreError,
        messages::{Refusal, RefusalCode},
    },
    client::{KeepError, ListenError, WaitError},
};

/// See the help's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Refused = 4,
    Busy = 5,
    Unreachable = 6,
    TimedOut = 7,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure that is the caller's, found before anybody was asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Nothing came in the time there was.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TooLate(pub(crate) String);

/// Tells a failure on stderr and says what it is worth.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> Exit {
    let is_closed = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    // Whoever read our output has had enough.
    if error.chain().any(is_closed) {
        return Exit::Done;
    }
    let exit = worth(error);
    // Control characters could have come from anybody.
    let text: String =
        format!("{error:#}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let retry = refusal(error).map_or(0, |refusal| refusal.retry_after_ms);
    if json {
        let word = refusal(error).and_then(|refusal| serde_json::to_value(refusal.error).ok());
        let line = serde_json::json!({
            "error": word.unwrap_or_else(|| format!("{exit:?}").to_lowercase().into()),
            "message": text,
            "retry_after_ms": retry,
        });
        eprintln!("{line}");
    } else if retry > 0 {
        eprintln!("gateway: {text}; come back in {retry} ms");
    } else {
        eprintln!("gateway: {text}");
    }
    exit
}

fn worth(error: &anyhow::Error) -> Exit {
    if let Some(error) = error.downcast_ref::<AskError>() {
        return asked(error);
    }
    if let Some(error) = error.downcast_ref::<ListenError>() {
        return listened(error);
    }
    match error.downcast_ref::<KeepError>() {
        Some(KeepError::Refused(error)) => return asked(error),
        Some(KeepError::Foreign(_)) => return Exit::Refused,
        Some(KeepError::LongId(..)) => return Exit::Usage,
        Some(KeepError::GaveUp { .. }) => return Exit::Failed,
        None => (),
    }
    match error.downcast_ref::<WaitError>() {
        Some(WaitError::Ask(error)) => return asked(error),
        Some(WaitError::Listen(error)) => return listened(error),
        Some(WaitError::TimedOut { .. }) => return Exit::TimedOut,
        Some(WaitError::Ended(_)) => return Exit::Failed,
        None => (),
    }
    if error.is::<ConnectError>() || error.is::<StoreError>() {
        Exit::Unreachable
    } else if error.is::<Usage>() {
        Exit::Usage
    } else if error.is::<TooLate>() {
        Exit::TimedOut
    } else {
        Exit::Failed
    }
}

fn listened(error: &ListenError) -> Exit {
    match error {
        ListenError::Connect(_) | ListenError::Subscribe(_) | ListenError::Past(_) => {
            Exit::Unreachable
        }
        ListenError::Pasts(_) => Exit::Usage,
        ListenError::Barrier(error) => asked(error),
    }
}

fn asked(error: &AskError) -> Exit {
    match error {
        AskError::NoResponder(_) | AskError::Failed { .. } => Exit::Unreachable,
        AskError::TimedOut(_) => Exit::TimedOut,
        AskError::Unreadable { .. } => Exit::Failed,
        AskError::Refused(refusal) => match refusal.error {
            RefusalCode::NotFound => Exit::NotFound,
            RefusalCode::Conflict | RefusalCode::BadRequest | RefusalCode::Other => Exit::Refused,
            RefusalCode::RateLimited | RefusalCode::QueueFull => Exit::Busy,
            RefusalCode::Unavailable | RefusalCode::Internal => Exit::Unreachable,
        },
    }
}

fn refusal(error: &anyhow::Error) -> Option<&Refusal> {
    let asked = error.downcast_ref::<AskError>().or(match error.downcast_ref::<WaitError>() {
        Some(WaitError::Ask(error)) => Some(error),
        _ => None,
    });
    let asked = asked.or(match error.downcast_ref::<KeepError>() {
        Some(KeepError::Refused(error)) => Some(error),
        _ => None,
    });
    match asked {
        Some(AskError::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}
