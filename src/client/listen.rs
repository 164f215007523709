//! The loop around [`Ears`]: what comes from the bus, what was answered and what
//! is due goes in; what is to be said and asked comes out. It never waits for an
//! answer, nor for the program that listens.

use std::{
    collections::VecDeque,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::SelectAll};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::sleep_until,
};

use super::{
    ears::{Answer, Ask, Asked, Ears, Heard, ListenStats, Look, Output},
    options::{From, ListenOptions, Tracks},
};
use crate::{
    audio::Batch,
    bus::{
        AskError, ConnectError, Link, PublishError, Subscription,
        kv::StoreError,
        recording::{Past, Recorded, Since},
        subjects::{self, Lane, RoomEvents, Topic, TrackNack},
    },
    clock,
    id::RoomId,
    limits,
};

/// How long a recording is read for what is missing.
const LOOK: Duration = Duration::from_secs(5);

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
    /// What is to be heard first cannot be read.
    #[error(transparent)]
    Past(#[from] StoreError),
    /// Too many recordings at once.
    #[error("the recordings of {0} subjects at once are too many: at most {most} are read",
            most = limits::LISTEN_PASTS)]
    Pasts(usize),
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
        let past = open_past(link, rooms, &options).await?;
        let mut ears = Ears::new(&options, Instant::now());
        if past.is_some() {
            ears.read_first();
        }
        let (say, heard) = mpsc::channel(limits::LISTEN_QUEUE / 16);
        let (count, stats) = watch::channel(ListenStats::default());
        let (stop, stopped) = oneshot::channel();
        let ears = Loop {
            link: link.clone(),
            ears,
            messages,
            past,
            asks: JoinSet::new(),
            looks: JoinSet::new(),
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

/// The batches of one recording.
type PastBatches = Pin<Box<dyn Stream<Item = (Recorded, bool)> + Send>>;

/// What is recorded of all that is listened to, from where listening begins.
struct Reading {
    /// Each with whether it was all that was kept.
    batches: SelectAll<PastBatches>,
    /// Subjects that have more.
    left: usize,
    /// When it is over: all was read, and what is live has followed on it.
    over_at: Option<Instant>,
}

/// Opens what is recorded, where listening begins there.
async fn open_past(
    link: &Link,
    rooms: Option<&[RoomId]>,
    options: &ListenOptions,
) -> Result<Option<Reading>, ListenError> {
    let since = match options.from {
        From::RoomStart => Since::Beginning,
        From::Ago(ago) if ago > limits::RING_AGE => {
            let us = clock::unix().saturating_sub(ago).as_micros();
            Since::Time(i64::try_from(us).unwrap_or(i64::MAX))
        }
        From::Ago(_) | From::Now => return Ok(None),
    };
    let subjects: Vec<String> = match (rooms, &options.tracks) {
        (None, _) => vec![subjects::all_tracks(Lane::Rec)],
        (Some(rooms), Tracks::All) => {
            rooms.iter().map(|room| subjects::room_tracks(Lane::Rec, room)).collect()
        }
        (Some(rooms), Tracks::Some(tracks)) => rooms
            .iter()
            .flat_map(|room| tracks.iter().map(|it| subjects::track(Lane::Rec, room, it)))
            .collect(),
    };
    if subjects.len() > limits::LISTEN_PASTS {
        return Err(ListenError::Pasts(subjects.len()));
    }
    let mut reading = Reading { batches: SelectAll::new(), left: 0, over_at: None };
    for subject in subjects {
        let past = match Past::open(link, &subject, since).await {
            Ok(past) => past,
            Err(error) if options.from == From::RoomStart => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "listening begins with what workers keep");
                return Ok(None);
            }
        };
        let told = past.is_told();
        reading.left += usize::from(!told);
        // Each says once that it was all.
        let batches = futures_util::stream::unfold((past, told), |(mut past, told)| async move {
            let recorded = past.next().await?;
            let all = !told && past.is_told();
            Some(((recorded, all), (past, told || all)))
        });
        reading.batches.push(Box::pin(batches));
    }
    Ok(Some(reading))
}

struct Loop {
    link: Link,
    ears: Ears,
    messages: SelectAll<Subscription>,
    /// What is recorded, as long as it is read.
    past: Option<Reading>,
    asks: JoinSet<(Asked, Answer)>,
    looks: JoinSet<(Look, Result<Vec<Recorded>, StoreError>)>,
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
            let mut due = self.ears.deadline();
            if let Some(past) = &mut self.past
                && past.left == 0
            {
                let over_at = past.over_at.get_or_insert_with(|| {
                    self.ears.is_read(Instant::now(), &mut out);
                    Instant::now() + limits::LISTEN_SETTLED
                });
                due = Some(due.map_or(*over_at, |due| due.min(*over_at)));
                if *over_at <= Instant::now() {
                    self.past = None;
                }
                self.act(&mut out);
            }
            let due = due.map(tokio::time::Instant::from_std);
            // The past is read as fast as the program takes it.
            let read = self.unsaid.len() < limits::LISTEN_QUEUE / 16;
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
                recorded = next_of(&mut self.past), if read && self.past.is_some() => {
                    self.past(recorded, &mut out);
                }
                looked = self.looks.join_next(), if !self.looks.is_empty() => {
                    if let Some(Ok((look, found))) = looked {
                        self.looked(&look, found, &mut out);
                    }
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

    fn past(&mut self, recorded: Option<(Recorded, bool)>, out: &mut Vec<Output>) {
        let Some((recorded, all)) = recorded else {
            tracing::warn!("the recording cannot be read on; what is live follows");
            if let Some(past) = &mut self.past {
                past.left = 0;
            }
            return;
        };
        self.ears.past(&recorded.subject, &recorded.payload, Instant::now(), out);
        if let Some(past) = &mut self.past {
            past.left -= usize::from(all).min(past.left);
        }
    }

    fn looked(
        &mut self,
        look: &Look,
        found: Result<Vec<Recorded>, StoreError>,
        out: &mut Vec<Output>,
    ) {
        let now = Instant::now();
        let fault = match found {
            Ok(found) => {
                for recorded in found {
                    self.ears.past(&recorded.subject, &recorded.payload, now, out);
                }
                false
            }
            Err(error) => {
                tracing::warn!(%error, "what is missing is not looked for in recordings any more");
                true
            }
        };
        self.ears.looked(look, fault, now, out);
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
                    Output::Look(look) => {
                        let link = self.link.clone();
                        self.looks.spawn(async move {
                            let found = look_up(&link, &look).await;
                            (look, found)
                        });
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
    let answer = match link.ask(&topic, &ask.nack, ask.within).await {
        Ok(reply) => Answer::Reply(reply),
        Err(AskError::NoResponder(_)) => Answer::Nobody,
        Err(_) => Answer::Late,
    };
    (ask.asked, answer)
}

/// Reads a track's recording around what is missing of it.
async fn look_up(link: &Link, look: &Look) -> Result<Vec<Recorded>, StoreError> {
    let subject = subjects::track(Lane::Rec, &look.room, &look.track);
    let search = &look.search;
    let mut past = Past::open(link, &subject, Since::Time(search.since_us)).await?;
    let mut found = Vec::new();
    let read = async {
        while !past.is_told() {
            let Some(recorded) = past.next().await else { return };
            let Ok(batch) = Batch::decode(&recorded.payload) else { continue };
            if batch.epoch == search.epoch && (search.from..search.to).contains(&batch.seq) {
                found.push(Recorded {
                    payload: Bytes::copy_from_slice(&recorded.payload),
                    subject: recorded.subject,
                });
            }
            let beyond =
                batch.epoch == search.epoch && batch.seq >= search.to + limits::LOOK_BEYOND;
            if found.len() as u64 == search.to - search.from || beyond {
                return;
            }
        }
    };
    // What was found by then counts.
    let _ = tokio::time::timeout(LOOK, read).await;
    Ok(found)
}

/// The next of what is recorded.
async fn next_of(past: &mut Option<Reading>) -> Option<(Recorded, bool)> {
    match past {
        Some(past) => past.batches.next().await,
        None => None,
    }
}

/// The next deadline of the ears, one branch beside what they listen to.
async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
