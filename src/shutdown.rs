//! The phase of this process: running, lame duck, stop.
//!
//! One owner turns signals into phases; everyone else holds a [`Phases`] and
//! waits on it.

use tokio::sync::watch;

/// How far along its way out the process is. Phases only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Ordinary work.
    Running,
    /// No new work; what runs is handed over.
    LameDuck,
    /// Stop now.
    Stop,
}

/// A view of the phase.
#[derive(Debug, Clone)]
pub struct Phases(watch::Receiver<Phase>);

impl Phases {
    /// The phase now.
    #[must_use]
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the phase is at least `phase`.
    pub async fn reached(&mut self, phase: Phase) {
        // An owner that is gone can no longer raise the phase: that is a stop.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

/// The owner of the phase.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<Phase>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A process that runs.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }

    /// A view for a part of the process.
    #[must_use]
    pub fn phases(&self) -> Phases {
        Phases(self.0.subscribe())
    }

    /// Raises the phase; lowering it does nothing.
    pub fn raise(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let risen = phase > *now;
            if risen {
                *now = phase;
            }
            risen
        });
    }

    /// Follows the process's signals: the first SIGTERM or SIGINT is lame duck,
    /// the second is stop.
    ///
    /// # Errors
    /// Where the signals cannot be watched.
    pub fn on_signals(self: std::sync::Arc<Self>) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            for phase in [Phase::LameDuck, Phase::Stop] {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                };
                tracing::info!(signal = name, ?phase, "leaving");
                self.raise(phase);
            }
        });
        Ok(())
    }
}
