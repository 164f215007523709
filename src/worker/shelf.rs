//! What the worker keeps of all its tracks for those who lost a batch, within
//! one bound for all together: the oldest batch of any track goes first.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::core::SessionKey;
use crate::{
    audio::{AHEAD, Ring},
    id::{RoomId, TrackId},
    limits,
    task::Epoch,
};

/// The number of the first track of a room; most have no other.
const FIRST: u32 = 1;

/// Names a ring: the session, and the number of the track in its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct RingKey(SessionKey, u32);

#[derive(Debug)]
struct Kept {
    room: RoomId,
    track: TrackId,
    ring: Ring,
}

/// See the module.
#[derive(Debug)]
pub struct Shelf {
    most: usize,
    bytes: usize,
    rings: FxHashMap<RingKey, Kept>,
    /// The ring of each batch in the order they were kept.
    order: VecDeque<(Instant, RingKey)>,
    /// Rooms of which nothing is kept any more, counted.
    forgotten: u64,
    /// The newest ring of each track.
    rooms: HashMap<RoomId, HashMap<TrackId, RingKey>>,
}

impl Shelf {
    /// An empty shelf that holds at most this many bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            bytes: 0,
            rings: FxHashMap::default(),
            order: VecDeque::new(),
            forgotten: 0,
            rooms: HashMap::new(),
        }
    }

    /// Keeps a batch; says whether it is the first that is kept of its track.
    #[expect(clippy::too_many_arguments, reason = "a batch has that many names")]
    pub fn keep(
        &mut self,
        session: SessionKey,
        number: u32,
        room: &RoomId,
        track: &TrackId,
        epoch: Epoch,
        batch: (u64, Bytes),
        now: Instant,
    ) -> bool {
        let key = RingKey(session, number);
        let mut first = false;
        let kept = self.rings.entry(key).or_insert_with(|| {
            first = true;
            let tracks = self.rooms.entry(room.clone()).or_default();
            tracks.insert(track.clone(), key);
            Kept { room: room.clone(), track: track.clone(), ring: Ring::new(epoch.0) }
        });
        let before = kept.ring.bytes();
        kept.ring.push(batch.0, batch.1, now);
        self.bytes = self.bytes + kept.ring.bytes() - before;
        self.order.push_back((now, key));
        while self.bytes > self.most {
            self.drop_oldest();
        }
        first
    }

    /// Lets go of what is over ten seconds old.
    pub fn expire(&mut self, now: Instant) {
        let is_old =
            |(at, _): &&(Instant, _)| now.saturating_duration_since(*at) > limits::RING_AGE;
        loop {
            // Each was last looked at ten seconds ago: their memory is asked for
            // at once, and not one after the other.
            let few = self.order.iter().take_while(is_old).take(AHEAD);
            let mut count = 0;
            for (_, key) in few {
                self.rings.get(key).iter().for_each(|kept| kept.ring.look_ahead());
                count += 1;
            }
            if count == 0 {
                return;
            }
            (0..count).for_each(|_| self.drop_oldest());
        }
    }

    /// Asks for the memory that keeping the next batch of a room begins with.
    pub(super) fn look_ahead(&self, session: SessionKey) {
        let kept = self.rings.get(&RingKey(session, FIRST));
        kept.iter().for_each(|kept| kept.ring.look_ahead());
    }

    fn drop_oldest(&mut self) {
        let Some((_, key)) = self.order.pop_front() else { return };
        let Some(kept) = self.rings.get_mut(&key) else { return };
        self.bytes -= kept.ring.evict_oldest();
        if kept.ring.held().is_some() {
            return;
        }
        // A track that goes on begins a new ring with its next batch.
        if let Some(kept) = self.rings.remove(&key)
            && let Some(tracks) = self.rooms.get_mut(&kept.room)
        {
            if tracks.get(&kept.track) == Some(&key) {
                tracks.remove(&kept.track);
            }
            if tracks.is_empty() {
                self.rooms.remove(&kept.room);
                self.forgotten += 1;
            }
        }
    }

    /// Whether anything is kept of a room.
    #[must_use]
    pub fn knows(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// How often a room was forgotten so far.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The newest ring of a track.
    pub fn ring(&mut self, room: &RoomId, track: &TrackId) -> Option<&mut Ring> {
        let key = self.rooms.get(room)?.get(track)?;
        self.rings.get_mut(key).map(|kept| &mut kept.ring)
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn keep(shelf: &mut Shelf, session: u64, room: &str, epoch: u64, seq: u64, now: Instant) {
        let (room, track) = (RoomId::parse(room).unwrap(), TrackId::of_user("u"));
        let batch = (seq, Bytes::from(vec![0; 936])); // 1,000 with its overhead
        shelf.keep(SessionKey(session), 1, &room, &track, Epoch(epoch), batch, now);
    }

    fn held(shelf: &mut Shelf, room: &str) -> Option<(u64, (u64, u64))> {
        let (room, track) = (RoomId::parse(room).unwrap(), TrackId::of_user("u"));
        shelf.ring(&room, &track).and_then(|ring| Some((ring.epoch(), ring.held()?)))
    }

    #[test]
    fn the_oldest_of_all_goes_first_where_there_is_too_much() {
        let (mut shelf, now) = (Shelf::new(4_500), Instant::now());
        for seq in 0..3 {
            keep(&mut shelf, 1, "a", 1, seq, now);
            keep(&mut shelf, 2, "b", 1, seq, now);
        }
        assert_eq!(shelf.bytes(), 4_000);
        assert_eq!(held(&mut shelf, "a"), Some((1, (1, 2))));
        assert_eq!(held(&mut shelf, "b"), Some((1, (1, 2))));
    }

    #[test]
    fn a_room_is_known_for_ten_seconds_after_its_last_batch() {
        let (mut shelf, now) = (Shelf::new(1 << 20), Instant::now());
        let room = RoomId::parse("a").unwrap();
        keep(&mut shelf, 1, "a", 1, 0, now);
        shelf.expire(now + limits::RING_AGE);
        assert!(shelf.knows(&room));
        shelf.expire(now + limits::RING_AGE + Duration::from_millis(1));
        assert!(!shelf.knows(&room));
        assert_eq!(shelf.bytes(), 0);
    }

    #[test]
    fn a_new_session_of_a_room_takes_over_and_the_old_one_ages() {
        let (mut shelf, now) = (Shelf::new(1 << 20), Instant::now());
        keep(&mut shelf, 1, "a", 1, 0, now);
        let later = now + Duration::from_secs(5);
        keep(&mut shelf, 2, "a", 2, 0, later);
        assert_eq!(held(&mut shelf, "a"), Some((2, (0, 0))));
        shelf.expire(now + Duration::from_secs(11));
        assert_eq!(held(&mut shelf, "a"), Some((2, (0, 0))));
        assert_eq!(shelf.bytes(), 1_000);
    }
}
