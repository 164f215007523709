//! What the worker writes to and reads from the buckets: its lease, by which a
//! twin is noticed and it knows itself whether it is still heard of, and after
//! the server was away whose its rooms are.

use std::time::Instant;

use futures_util::{StreamExt, stream};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep_until},
};

use super::core::{Contact, Input, Lease};
use crate::{
    bus::{
        AskError, Link,
        kv::{Bucket, Store, WriteError},
        messages::{LeaseRecord, Ping},
        subjects::{self, AdminLeader},
    },
    id::{RoomId, WorkerId},
    limits,
    task::RoomRecord,
};

/// Holds the worker's lease. Returns where another worker of this name holds
/// it and renews it. `renewed` is when the last renewal that was acknowledged
/// was sent.
pub(super) async fn hold(
    store: Store,
    worker: WorkerId,
    boot: String,
    renewed: watch::Sender<Option<Instant>>,
) {
    let key = subjects::worker_lease_key(&worker);
    let own = LeaseRecord { holder: worker.to_string(), boot, term: 0 };
    let mut bucket: Option<Bucket<LeaseRecord>> = None;
    let mut held = None;
    // The last that was seen of somebody else's lease.
    let mut foreign = None;
    let mut tick = interval(limits::LEASE_RENEW);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let bucket = match &bucket {
            Some(bucket) => bucket,
            // A dispatcher makes it; until then nobody looks for leases.
            None => match store.existing(subjects::LEASES_BUCKET).await {
                Ok(found) => bucket.insert(found),
                Err(_) => continue,
            },
        };
        let sent = Instant::now();
        let written = match held {
            Some(revision) => bucket.update(&key, &own, revision).await,
            None => bucket.create(&key, &own).await,
        };
        match written {
            Ok(revision) => {
                (held, foreign) = (Some(revision), None);
                renewed.send_replace(Some(sent));
            }
            // Tried again, and found out then whether it took place.
            Err(WriteError::Unavailable(_)) => (),
            Err(WriteError::Conflict(_)) => match bucket.get(&key).await {
                Ok(Some(lease)) if lease.value.boot == own.boot => held = Some(lease.revision),
                Ok(Some(lease)) => {
                    held = None;
                    // The lease of a worker that is gone is renewed no more.
                    if foreign.is_some_and(|seen| seen != lease.revision) {
                        return;
                    }
                    foreign = Some(lease.revision);
                }
                Ok(None) => held = None,
                Err(_) => (),
            },
        }
    }
}

/// Says what becomes of the lease. While it has lapsed our rooms may be
/// somebody else's, so they are looked after before it is said to be held again.
pub(super) async fn mind(
    store: Store,
    link: Link,
    mut renewed: watch::Receiver<Option<Instant>>,
    rooms: watch::Receiver<Vec<RoomId>>,
    inputs: mpsc::Sender<Input>,
) {
    let (mut contact, mut told) = (Contact::default(), Lease::Held);
    let mut asking = JoinSet::new();
    loop {
        let now = Instant::now();
        let lease = contact.lease(now);
        if lease != told {
            if lease == Lease::Held {
                look_at_claims(&store, &rooms, &inputs).await;
            }
            if inputs.send(Input::Lease(lease)).await.is_err() {
                return;
            }
            told = lease;
        }
        if contact.asks(now) && asking.is_empty() {
            asking.spawn(is_heard(link.clone()));
        }
        let due = contact.deadline();
        let due = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = renewed.changed() => match changed {
                Ok(()) => {
                    if let Some(sent) = *renewed.borrow_and_update() {
                        contact.renewed(sent);
                    }
                }
                Err(_) => return,
            },
            Some(answered) = asking.join_next() => {
                if let Ok(Some(asked)) = answered {
                    contact.answered(asked);
                }
            }
            () = due => (),
        }
    }
}

/// Whether a dispatcher hears us, and as of when.
async fn is_heard(link: Link) -> Option<Instant> {
    let asked = Instant::now();
    let answer = link.ask(&AdminLeader, &Ping {}, limits::REQUEST_TIMEOUT).await;
    // Whoever refuses has heard us too.
    matches!(answer, Ok(_) | Err(AskError::Refused(_))).then_some(asked)
}

/// Looks after each time the server was away whether our rooms are ours still:
/// `rooms` are those we serve.
pub(super) async fn look_after_outages(
    store: Store,
    mut health: watch::Receiver<bool>,
    rooms: watch::Receiver<Vec<RoomId>>,
    claims: mpsc::Sender<Input>,
) {
    loop {
        if health.wait_for(|healthy| !healthy).await.is_err()
            || health.wait_for(|healthy| *healthy).await.is_err()
        {
            return;
        }
        look_at_claims(&store, &rooms, &claims).await;
    }
}

async fn look_at_claims(
    store: &Store,
    rooms: &watch::Receiver<Vec<RoomId>>,
    claims: &mpsc::Sender<Input>,
) {
    let Ok(bucket) = store.existing::<RoomRecord>(subjects::ROOMS_BUCKET).await else { return };
    let ours = rooms.borrow().clone();
    let bucket = &bucket;
    let looks = ours.into_iter().map(|room| async move {
        // What cannot be read now is the dispatcher's to revoke.
        let RoomRecord { epoch, from, .. } = bucket.get(room.as_str()).await.ok()??.value;
        Some(Input::Claimed { room, epoch, from })
    });
    // All of a large worker's at once would be a flood, and one after the other
    // minutes where the store does not answer.
    let mut found = stream::iter(looks).buffer_unordered(limits::CLAIMS_AT_ONCE);
    while let Some(claimed) = found.next().await {
        if let Some(claimed) = claimed
            && claims.send(claimed).await.is_err()
        {
            return;
        }
    }
}

/// Looks, as long as rooms wait until they may play what is pushed, whether
/// whoever played before has left: `held` are those that wait.
pub(super) async fn look_after_holds(
    store: Store,
    mut held: watch::Receiver<Vec<RoomId>>,
    claims: mpsc::Sender<Input>,
) {
    let mut bucket: Option<Bucket<RoomRecord>> = None;
    while held.wait_for(|rooms| !rooms.is_empty()).await.is_ok() {
        tokio::time::sleep(limits::HOLD_LOOK).await;
        let bucket = match &bucket {
            Some(bucket) => bucket,
            None => match store.existing(subjects::ROOMS_BUCKET).await {
                Ok(found) => bucket.insert(found),
                Err(_) => continue,
            },
        };
        let rooms = held.borrow().clone();
        for room in rooms {
            // What cannot be read now is looked at again.
            let Ok(Some(record)) = bucket.get(room.as_str()).await else { continue };
            let RoomRecord { epoch, from, .. } = record.value;
            if claims.send(Input::Claimed { room, epoch, from }).await.is_err() {
                return;
            }
        }
    }
}
