//! A logged ERROR is something a test fails on: this keeps them.
//!
//! The log is one for the process. Under nextest that is one test; under plain
//! `cargo test` the tests of a binary share it, and an unexpected error fails
//! whichever of them looks next.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex, OnceLock},
};

use tracing::{Event, Level, Subscriber, field};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

/// Errors kept; a test that logs more has failed long before.
const KEPT: usize = 1_000;

#[derive(Debug, Default)]
struct Log {
    errors: Vec<String>,
    expected: Vec<String>,
}

/// The errors that this process logs.
#[derive(Debug, Clone)]
pub struct ErrorLog(Arc<Mutex<Log>>);

impl ErrorLog {
    /// Starts to listen, once in a process. What is logged is also printed, as
    /// `RUST_LOG` filters it (default `warn`).
    pub fn start() -> Self {
        static LOG: OnceLock<ErrorLog> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self(Arc::default());
            let shown = EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
            let print = tracing_subscriber::fmt::layer().with_test_writer().with_filter(shown);
            // A test that brought its own subscriber keeps it, and checks its own log.
            let _ = tracing_subscriber::registry().with(print).with(Keep(log.clone())).try_init();
            log
        })
        .clone()
    }

    /// Errors that hold this text are part of the test.
    pub fn expect(&self, text: &str) {
        self.0.lock().unwrap().expected.push(text.to_owned());
    }

    /// The errors so far that no one expected.
    pub fn unexpected(&self) -> Vec<String> {
        let log = self.0.lock().unwrap();
        let expected = |error: &String| log.expected.iter().any(|text| error.contains(text));
        log.errors.iter().filter(|error| !expected(error)).cloned().collect()
    }

    /// Fails the test where an error was logged that no one expected.
    pub fn assert_clean(&self) {
        let errors = self.unexpected();
        assert!(errors.is_empty(), "logged as errors:\n{}", errors.join("\n"));
    }
}

struct Keep(ErrorLog);

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR {
            return;
        }
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        let mut log = self.0.0.lock().unwrap();
        if log.errors.len() < KEPT {
            log.errors.push(line.0);
        }
    }
}

struct Line(String);

impl field::Visit for Line {
    fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
