//! Whether a bucket is there, and whether its watch tells what happens in it.
//!
//! A watch hangs on a consumer at one server. Where that goes, or the bucket
//! itself, the watch says nothing for long or for good, and the client library
//! goes on waiting. So the bucket is asked as well.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{
    bus::kv::{Bucket, Pulse, Store},
    limits,
};

/// Looks in a row at which a watch told nothing, though there is something to
/// tell, before it is taken for broken.
const PATIENCE: u8 = 2;

/// How a bucket was at the last look.
pub(super) type Pulses = watch::Receiver<Option<Pulse>>;

/// Looks at a bucket again and again, and makes it anew where it is gone.
pub(super) async fn keep<V: Serialize + DeserializeOwned>(
    store: Store,
    bucket: Bucket<V>,
    name: &'static str,
    max_age: Option<Duration>,
    pulses: watch::Sender<Option<Pulse>>,
) {
    let mut look = interval(limits::BUCKET_LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        match bucket.pulse().await {
            Ok(Some(pulse)) => {
                pulses.send_replace(Some(pulse));
            }
            Ok(None) => {
                tracing::warn!(bucket = name, "the bucket is gone; making it anew");
                let made = store.bucket::<V>(name, max_age).await.map(drop);
                // Whoever deleted one may have deleted all.
                if let Err(error) = made.and(store.ensure_events().await) {
                    tracing::warn!(%error, "it cannot be made; trying again");
                }
            }
            // What is away is noticed by whoever needs it.
            Err(_) => (),
        }
    }
}

/// What a bucket says of its watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It tells what there is to tell.
    Fine,
    /// It stands still: make a new one.
    Stalled,
    /// The bucket is another one, or all in it was removed.
    Wiped,
}

/// How far a watch has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    made: Option<i128>,
    told: u64,
    /// What was told at the last look, and at how many looks before it.
    seen: (u64, u8),
}

impl Progress {
    /// The watch told of this revision.
    pub(super) fn told(&mut self, revision: u64) {
        self.told = self.told.max(revision);
    }

    /// The watch begins anew: whatever it is silent about is no longer there.
    pub(super) fn begin(&mut self, pulse: Option<Pulse>) {
        self.told = pulse.map_or(self.told, |pulse| if pulse.empty { 0 } else { pulse.last });
        self.seen = (self.told, 0);
    }

    /// Takes in how the bucket is.
    pub(super) fn judge(&mut self, pulse: Pulse) -> Judgement {
        let another = self.made.replace(pulse.made).is_some_and(|made| made != pulse.made);
        if another || (pulse.empty && self.told > 0) {
            self.told = 0;
            return Judgement::Wiped;
        }
        let (told, looks) = self.seen;
        let still = !pulse.empty && pulse.last > self.told && told == self.told;
        self.seen = (self.told, if still { looks + 1 } else { 0 });
        if self.seen.1 > PATIENCE { Judgement::Stalled } else { Judgement::Fine }
    }
}

#[cfg(test)]
mod tests {
    use super::{Judgement::*, *};

    fn pulse(made: i128, last: u64) -> Pulse {
        Pulse { made, last, empty: last == 0 }
    }

    #[test]
    fn a_watch_that_keeps_up_is_fine() {
        let mut progress = Progress::default();
        progress.begin(None);
        for last in 0..10 {
            assert_eq!(progress.judge(pulse(1, last)), Fine);
            progress.told(last);
        }
        // Always one behind, and always telling.
        for last in 10..20 {
            assert_eq!(progress.judge(pulse(1, last + 1)), Fine);
            progress.told(last);
        }
    }

    #[test]
    fn a_watch_that_says_nothing_while_there_is_something_is_stalled() {
        let mut progress = Progress::default();
        progress.told(5);
        let looks = [(); 4].map(|()| progress.judge(pulse(1, 6)));
        assert_eq!(looks, [Fine, Fine, Fine, Stalled]);
        // The new one is not blamed for what it has no word for.
        progress.begin(Some(pulse(1, 6)));
        assert_eq!([(); 9].map(|()| progress.judge(pulse(1, 6))), [Fine; 9]);
    }

    #[test]
    fn a_bucket_that_was_made_anew_or_emptied_is_wiped() {
        let mut progress = Progress::default();
        progress.told(5);
        assert_eq!(progress.judge(pulse(1, 5)), Fine);
        assert_eq!(progress.judge(pulse(2, 3)), Wiped);
        progress.told(3);
        let emptied = Pulse { empty: true, ..pulse(2, 3) };
        assert_eq!(progress.judge(emptied), Wiped);
        // Nobody has anything to write into it, and its watch nothing to tell.
        progress.begin(Some(emptied));
        assert_eq!([(); 9].map(|()| progress.judge(emptied)), [Fine; 9]);
    }
}
