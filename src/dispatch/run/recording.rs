//! Sees to it that there is a stream for what is recorded, once a task records:
//! a gateway that records nothing has none.

use tokio::sync::watch;

use crate::{
    bus::{kv::Store, recording::Bounds},
    limits,
};

/// Makes the stream where it is missing, from when `wanted` says so.
pub(super) async fn keep(store: Store, bounds: Bounds, mut wanted: watch::Receiver<bool>) {
    if wanted.wait_for(|wanted| *wanted).await.is_err() {
        return;
    }
    let mut look = tokio::time::interval(limits::RECORD_LOOK);
    let mut told = false;
    loop {
        look.tick().await;
        match store.ensure_recording(bounds).await {
            Ok(made) => {
                told = false;
                if let Some(bytes) = made {
                    tracing::info!(bytes, age = ?bounds.age, "made the stream AUDIO");
                    if bytes < bounds.bytes {
                        tracing::warn!(
                            bytes,
                            wanted = bounds.bytes,
                            "the server has room for less of what is recorded"
                        );
                    }
                }
            }
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::warn!(%error, "nothing is recorded");
            }
            Err(_) => (),
        }
    }
}
