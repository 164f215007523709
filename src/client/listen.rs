//! The loop around [`Ears`]: what comes from the bus, what was answered and what
//! is due goes in; what is to be said and asked comes out. It never waits for an
//! answer, nor for the program that listens.

use std::{collections::VecDeque, time::Instant};

use futures_util::{StreamExt, stream::SelectAll};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::sleep_until,
};

use super::{
    ears::{Answer, Ask, Asked, Ears, Heard, ListenStats, Output},
    options::{ListenOptions, Tracks},
};
use crate::{
    bus::{
        AskError, ConnectError, Link, PublishError, Subscription,
        subjects::{self, Lane, RoomEvents, Topic, TrackNack},
    },
    id::RoomId,
    limits,
};

/// Why a room cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A subscription was not taken.
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] PublishError),
    /// Whether the server took the subscriptions is not known.
    #[error("cannot be sure of the subscriptions: {0}")]
    Barrier(#[from] AskError),
}

/// Hears one room or many. Dropping it ends it.
#[derive(Debug)]
pub struct Listener {
    heard: mpsc::Receiver<Heard>,
    stats: watch::Receiver<ListenStats>,
    stop: Option<oneshot::Sender<()>>,
    ears: AbortHandle,
}

impl Listener {
    /// Subscribes and returns once the server has taken it in.
    pub(super) async fn start(
        link: &Link,
        rooms: Option<&[RoomId]>,
        options: ListenOptions,
    ) -> Result<Self, ListenError> {
        let mut messages = SelectAll::new();
        for subject in subjects(rooms, &options) {
            messages.push(link.subscribe(&subject).await?);
        }
        link.barrier().await?;
        let (say, heard) = mpsc::channel(limits::LISTEN_QUEUE / 16);
        let (count, stats) = watch::channel(ListenStats::default());
        let (stop, stopped) = oneshot::channel();
        let ears = Loop {
            link: link.clone(),
            ears: Ears::new(&options, Instant::now()),
            messages,
            asks: JoinSet::new(),
            say,
            unsaid: VecDeque::new(),
            count,
        };
        let ears = tokio::spawn(ears.run(stopped)).abort_handle();
        Ok(Self { heard, stats, stop: Some(stop), ears })
    }

    /// What is heard next; none once it was stopped and everything was said, or
    /// the connection was closed.
    pub async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// What was seen so far.
    #[must_use]
    pub fn stats(&self) -> ListenStats {
        *self.stats.borrow()
    }

    /// Waits for nothing that is missing any more: what is held is told, every
    /// track is closed, and then [`Listener::next`] returns none.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A loop that is gone has stopped already.
            let _ = stop.send(());
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ears.abort();
    }
}

/// Everything that is subscribed: both lanes, what is sent again, and the news.
fn subjects(rooms: Option<&[RoomId]>, options: &ListenOptions) -> Vec<String> {
    let name = &options.subscriber;
    let lanes = [Lane::Live, Lane::Rec];
    let Some(rooms) = rooms else {
        let mut all: Vec<_> = lanes.into_iter().map(subjects::all_tracks).collect();
        all.extend([subjects::all_resends(name), RoomEvents::ALL.to_owned()]);
        return all;
    };
    let mut all = Vec::new();
    for room in rooms {
        all.push(RoomEvents(room.clone()).subject());
        match &options.tracks {
            Tracks::All => {
                all.extend(lanes.map(|lane| subjects::room_tracks(lane, room)));
                all.push(subjects::room_resends(room, name));
            }
            Tracks::Some(tracks) => {
                for track in tracks {
                    all.extend(lanes.map(|lane| subjects::track(lane, room, track)));
                    all.push(subjects::resend(room, track, name));
                }
            }
        }
    }
    all
}

struct Loop {
    link: Link,
    ears: Ears,
    messages: SelectAll<Subscription>,
    asks: JoinSet<(Asked, Answer)>,
    say: mpsc::Sender<Heard>,
    /// What the program has not taken yet.
    unsaid: VecDeque<Heard>,
    count: watch::Sender<ListenStats>,
}

impl Loop {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut health = self.link.health();
        let mut out = Vec::new();
        loop {
            let due = self.ears.deadline().map(tokio::time::Instant::from_std);
            let say = self.say.clone();
            tokio::select! {
                place = say.reserve(), if !self.unsaid.is_empty() => {
                    let (Ok(place), Some(heard)) = (place, self.unsaid.pop_front()) else {
                        return;
                    };
                    place.send(heard);
                }
                message = self.messages.next() => {
                    let Some(message) = message else { break };
                    let now = Instant::now();
                    self.ears.message(message.subject(), message.payload(), now, &mut out);
                }
                answer = self.asks.join_next(), if !self.asks.is_empty() => {
                    // The loop of an ask neither panics nor is it cancelled.
                    if let Some(Ok((asked, answer))) = answer {
                        self.ears.answer(&asked, &answer, Instant::now(), &mut out);
                    }
                }
                () = until(due) => self.ears.wake(Instant::now(), &mut out),
                changed = health.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let connected = *health.borrow_and_update();
                    self.ears.connected(connected, Instant::now(), &mut out);
                }
                _ = &mut stopped => break,
            }
            self.act(&mut out);
        }
        self.ears.finish(Instant::now(), &mut out);
        self.act(&mut out);
        while let Some(heard) = self.unsaid.pop_front() {
            if self.say.send(heard).await.is_err() {
                return;
            }
        }
    }

    /// Does what is to be done, as far as it does not have to be waited for.
    fn act(&mut self, out: &mut Vec<Output>) {
        // Before what is told, so that whoever hears it finds it counted.
        self.count.send_replace(self.ears.stats());
        loop {
            for output in out.drain(..) {
                match output {
                    Output::Heard(heard) => self.unsaid.push_back(heard),
                    Output::Ask(ask) => {
                        let link = self.link.clone();
                        self.asks.spawn(async move { put(&link, ask).await });
                    }
                }
            }
            while !self.unsaid.is_empty()
                && let Ok(place) = self.say.try_reserve()
                && let Some(heard) = self.unsaid.pop_front()
            {
                place.send(heard);
            }
            let full = self.unsaid.len() >= limits::LISTEN_QUEUE;
            if full || self.unsaid.is_empty() {
                self.ears.keeping_up(!full, Instant::now(), out);
            }
            if out.is_empty() {
                return;
            }
        }
    }
}

async fn put(link: &Link, ask: Ask) -> (Asked, Answer) {
    let topic = TrackNack(ask.room, ask.track);
    let answer = match link.ask(&topic, &ask.nack, limits::NACK_RETRY).await {
        Ok(reply) => Answer::Reply(reply),
        Err(AskError::NoResponder(_)) => Answer::Nobody,
        Err(_) => Answer::Late,
    };
    (ask.asked, answer)
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
