//! The loop that has recorded rooms' batches kept: it publishes each for live
//! subscribers and the stream in one, and waits for the stream's answers beside
//! that. The server may be away: the audio thread never waits for it.

use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::record::{Keep, LaneStats, Window};
use crate::bus::{Link, recording::Keeper};

/// Batches taken in at once.
const AT_ONCE: usize = 64;

/// Runs until the queue is closed and nothing is left to be kept.
pub(super) async fn run(
    link: Link,
    mut queue: mpsc::Receiver<Keep>,
    stats: watch::Sender<LaneStats>,
) {
    let mut keeper = match Keeper::open(&link).await {
        Ok(keeper) => keeper,
        Err(error) => {
            tracing::error!(%error, "recorded rooms cannot be published");
            return;
        }
    };
    let (mut window, mut health) = (Window::default(), link.health());
    let (mut new, mut open) = (Vec::with_capacity(AT_ONCE), true);
    let (mut lacked, mut refused) = (false, false);
    while open || !window.is_empty() {
        let connected = *health.borrow();
        while connected && let Some((number, keep)) = window.next(Instant::now()) {
            let sent = keeper.publish(&keep.to, keep.payload, &keep.name, number).await;
            if let Err(error) = sent {
                tracing::warn!(%error, "a recorded batch was not published");
            }
        }
        stats.send_replace(window.stats());
        let due = window.deadline().filter(|_| connected).map(tokio::time::Instant::from_std);
        tokio::select! {
            count = queue.recv_many(&mut new, AT_ONCE), if open => {
                open = count > 0;
                new.drain(..).for_each(|keep| window.offer(keep));
            }
            answer = keeper.answer() => {
                let Some((number, kept)) = answer else { return };
                if let Some(why) = window.answered(number, &kept, Instant::now())
                    && !std::mem::replace(&mut refused, true)
                {
                    tracing::warn!(why, "a batch was not recorded; the next ones are counted");
                }
            }
            changed = health.changed() => {
                if changed.is_err() {
                    return;
                }
                if *health.borrow_and_update() {
                    window.reconnected(Instant::now());
                }
            }
            () = until(due) => (),
        }
        if lacked != window.lacks_stream() {
            lacked = !lacked;
            if lacked {
                tracing::warn!("no stream AUDIO answers: what is to be recorded waits for it");
            } else {
                tracing::info!("the stream AUDIO answers: what waited is recorded");
            }
        }
    }
}

/// The lane's next deadline, one branch beside what it listens to.
async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
