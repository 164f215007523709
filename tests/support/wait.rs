//! Waiting for what must happen, with a deadline: never for a while.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// How often [`eventually`] looks. Short against every deadline, long against
/// the cost of a look.
const LOOK: Duration = Duration::from_millis(10);

/// The result of `future`, or a failed test that names `what` did not happen.
pub async fn within<T>(what: &str, deadline: Duration, future: impl Future<Output = T>) -> T {
    match timeout(deadline, future).await {
        Ok(value) => value,
        Err(_) => panic!("within {deadline:?} there was no {what}"),
    }
}

/// Looks until `probe` has something, or fails the test. For what cannot be
/// waited on: another process's state, a table behind a request.
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let looks = async {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Some(value) = probe().await {
                return value;
            }
        }
    };
    within(what, deadline, looks).await
}

/// How long something lasts that the test itself does: an outage, a silence.
/// Never to wait for what others do: that is [`eventually`] and [`within`].
pub async fn lasting(duration: Duration) {
    sleep_until(Instant::now() + duration).await;
}
