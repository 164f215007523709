//! The loops beside the owner's: what waits for the server waits here.

use std::{
    collections::{HashMap, HashSet},
    sync::mpsc::SyncSender,
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::{
    bucket::Bucket,
    core::SessionKey,
    plane::{Again, Asked, Command, Parcels},
};
use crate::{
    bus::{
        Link, Subscription,
        messages::{Heartbeat, Inventory, Refusal, RoomEvent, Verdict},
        service::Request,
        subjects::{RoomEvents, TrackNack, WorkerHeartbeat},
    },
    id::RoomId,
    limits,
};

/// What is said on the control connection.
#[derive(Debug)]
pub(super) enum Say {
    /// The answer to an assignment or the like.
    Verdict(Request, Verdict),
    /// The answer to a ping.
    Alive(Request, Box<Heartbeat>),
    /// What is in hand.
    Inventory(Request, Inventory),
    /// A request that cannot be read.
    Refuse(Request, Refusal),
    /// A heartbeat for whoever listens.
    Beat(Box<Heartbeat>),
    /// Something for a room's listeners.
    Event(Box<RoomEvent>),
}

/// Says things on the control connection, one after the other.
pub(super) async fn speak(link: Link, mut queue: mpsc::Receiver<Say>) {
    while let Some(say) = queue.recv().await {
        let said = match say {
            Say::Verdict(request, verdict) => {
                request.answer(&verdict).await;
                Ok(())
            }
            Say::Alive(request, beat) => {
                request.answer(&*beat).await;
                Ok(())
            }
            Say::Inventory(request, inventory) => {
                request.answer(&inventory).await;
                Ok(())
            }
            Say::Refuse(request, refusal) => {
                request.refuse(&refusal).await;
                Ok(())
            }
            Say::Beat(beat) => link.publish(&WorkerHeartbeat(beat.worker.clone()), &*beat).await,
            Say::Event(event) => link.publish(&RoomEvents(event.room.clone()), &*event).await,
        };
        if let Err(error) = said {
            tracing::warn!(%error, "a message was lost");
        }
    }
}

/// Publishes batches. Waits while the server is away; the queue fills up
/// meanwhile, and the audio thread goes on without it.
pub(super) async fn publish(link: Link, mut parcels: Parcels) {
    let mut health = link.health();
    while let Some(parcel) = parcels.next().await {
        listeners_are_back(&mut health).await;
        for (to, payload) in parcel {
            if let Err(error) = link.publish_at(&to, payload).await {
                tracing::warn!(%error, "a batch was not published");
            }
            parcels.done(1);
        }
    }
}

/// Waits while the server is away, and then until it has been back for as long as
/// listeners need to be back as well: what came earlier, each of them would have
/// to ask for again.
async fn listeners_are_back(health: &mut watch::Receiver<bool>) {
    while !*health.borrow_and_update() {
        if health.wait_for(|healthy| *healthy).await.is_err() {
            return; // the connection is closed, as publishing will say
        }
        // Unless it goes away again meanwhile.
        let gone = health.wait_for(|healthy| !healthy);
        let _ = tokio::time::timeout(limits::LISTENERS_BACK, gone).await;
    }
}

/// Sends batches again, but for those that waited too long, and says what became
/// of each request.
pub(super) async fn send_again(link: Link, mut queue: mpsc::Receiver<Again>) {
    while let Some(again) = queue.recv().await {
        let sent = match again {
            Again::Batch(_, _, Some(until)) if until < Instant::now() => Ok(()),
            Again::Batch(to, payload, _) => link.publish_at(&to, payload).await,
            Again::Reply(to, reply) => link.answer(&to, &reply).await,
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "an answer to a NACK was lost");
        }
    }
}

/// Hands what is published on a subject to the room that is played to.
pub(super) async fn hear_source(
    link: Link,
    subject: String,
    session: SessionKey,
    plane: SyncSender<Command>,
) {
    let mut source = match link.subscribe(&subject).await {
        Ok(source) => source,
        Err(error) => {
            tracing::warn!(%error, "a room is not played to");
            return;
        }
    };
    while let Some(message) = source.next().await {
        if message.payload().len() <= limits::BATCH_MAX_BYTES {
            let payload = Bytes::copy_from_slice(message.payload());
            // A full queue is an audio thread far behind: the sound is late anyway.
            let _ = plane.try_send(Command::Push(session, payload));
        }
    }
}

/// Hands the NACKs of our rooms to their audio threads. All workers hear all
/// NACKs; those of other rooms are somebody else's to answer. Of each room it
/// takes a rate: what is above is left, and whoever asked asks again.
pub(super) async fn hear_nacks(
    mut nacks: Subscription,
    planes: Vec<(watch::Receiver<HashSet<RoomId>>, SyncSender<Command>)>,
) {
    let begin = Instant::now();
    let mut rates: HashMap<RoomId, Bucket> = HashMap::new();
    while let Some(nack) = nacks.next().await {
        let Some(TrackNack(room, track)) = TrackNack::parse(nack.subject()) else { continue };
        let Some((_, plane)) = planes.iter().find(|(rooms, _)| rooms.borrow().contains(&room))
        else {
            continue;
        };
        let Some(reply) = nack.reply() else { continue };
        let (came, rate) = (Instant::now(), limits::NACKS_PER_ROOM_S);
        let now_us = i64::try_from((came - begin).as_micros()).unwrap_or(i64::MAX);
        if rates.len() > limits::RESEND_BUCKETS {
            // Most are of rooms that are gone.
            rates.clear();
        }
        let of_room = rates.entry(room.clone()).or_insert_with(|| Bucket::new(rate, rate, now_us));
        if of_room.take(1, now_us) == 0 {
            continue;
        }
        // One byte too many is enough to be refused for.
        let size = nack.payload().len().min(limits::NACK_MAX_BYTES + 1);
        let payload = Bytes::copy_from_slice(&nack.payload()[..size]);
        // A full queue drops it: whoever asked asks again.
        let _ =
            plane.try_send(Command::Nack(Box::new(Asked { room, track, payload, reply, came })));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep_until};

    use super::*;

    /// When what is made every 100 ms goes out, in ms, where the server comes and
    /// goes at these times.
    async fn published(changes: &[(u64, bool)]) -> Vec<u64> {
        let (tell, mut health) = watch::channel(true);
        let (begin, mut out) = (Instant::now(), Vec::new());
        let at = |ms| begin + Duration::from_millis(ms);
        let saying = async {
            for &(when, healthy) in changes {
                sleep_until(at(when)).await;
                tell.send_replace(healthy);
            }
        };
        let publishing = async {
            for made in (50..2_000).step_by(100) {
                sleep_until(at(made)).await;
                listeners_are_back(&mut health).await;
                out.push(begin.elapsed().as_millis() as u64);
            }
        };
        tokio::join!(saying, publishing);
        out
    }

    /// Of those that are made in time, what is held up until then.
    fn held(from: u64, until: u64) -> Vec<u64> {
        let made = (50..2_000).step_by(100);
        made.map(|made| if made < from { made } else { made.max(until) }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_outage_held_up_goes_out_once_listeners_are_back_too() {
        let back = limits::LISTENERS_BACK.as_millis() as u64;
        assert_eq!(published(&[]).await, held(0, 0));
        let once = [(500, false), (1_000, true)];
        assert_eq!(published(&once).await, held(500, 1_000 + back));
        // It comes for a moment before it is back for good.
        let twice = [(500, false), (800, true), (900, false), (1_200, true)];
        assert_eq!(published(&twice).await, held(500, 1_200 + back));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_connection_holds_nothing_up() {
        let (tell, mut health) = watch::channel(false);
        drop(tell);
        listeners_are_back(&mut health).await;
    }
}
