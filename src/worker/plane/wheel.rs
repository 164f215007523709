//! When which room has its turn: a timer wheel of absolute slots, so that one
//! wake serves every room that is due in one of them.

use crate::worker::core::SessionKey;

use super::time::Us;

/// A slot: rooms that are due within it are swept together, at its end.
pub(super) const SLOT_US: Us = 1_000;
/// Slots of a turn, a power of two: 512 ms, beyond the longest period.
const SLOTS: usize = 512;

/// See the module. A room that is planned anew is left where it was as well:
/// whoever takes it out looks whether that is still its time.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<(Us, SessionKey)>>,
    /// One bit a slot: whether anything is in it.
    taken: [u64; SLOTS / 64],
    /// The next slot that has not been worked off.
    next: i64,
    /// Emptied, to be used again.
    spare: Vec<(Us, SessionKey)>,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { slots: vec![Vec::new(); SLOTS], taken: [0; SLOTS / 64], next: 0, spare: Vec::new() }
    }

    /// The slot at whose end a moment is over.
    fn slot(due: Us) -> i64 {
        (due + SLOT_US - 1).div_euclid(SLOT_US)
    }

    /// Plans a room for a moment, at most half a second ahead.
    pub(super) fn plan(&mut self, due: Us, session: SessionKey, now: Us) {
        if self.taken == [0; SLOTS / 64] {
            // Nothing moved it on while there was nothing to do.
            self.next = self.next.max(now / SLOT_US);
        }
        let slot = Self::slot(due).clamp(self.next, self.next + SLOTS as i64 - 1);
        let index = (slot as usize) & (SLOTS - 1);
        self.slots[index].push((due, session));
        self.taken[index / 64] |= 1 << (index % 64);
    }

    /// When the next slot is over that has a room in it.
    pub(super) fn next_due(&self) -> Option<Us> {
        let begin = (self.next as usize) & (SLOTS - 1);
        let ahead = (0..=SLOTS / 64).find_map(|step| {
            let word = (begin / 64 + step) % self.taken.len();
            let mut bits = self.taken[word];
            if step == 0 {
                bits &= u64::MAX << (begin % 64);
            } else if step == SLOTS / 64 {
                bits &= !(u64::MAX << (begin % 64));
            }
            (bits != 0).then(|| {
                let index = word * 64 + bits.trailing_zeros() as usize;
                (index + SLOTS - begin) & (SLOTS - 1)
            })
        })?;
        Some((self.next + ahead as i64) * SLOT_US)
    }

    /// Takes out the rooms of the next slot that is over, in the order they
    /// were planned; none where there is no such slot. Give the list back with
    /// [`Wheel::give_back`].
    pub(super) fn take_due(&mut self, now: Us) -> Option<Vec<(Us, SessionKey)>> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let slot = due / SLOT_US;
        self.next = slot;
        let index = (slot as usize) & (SLOTS - 1);
        self.taken[index / 64] &= !(1 << (index % 64));
        // What is planned from here on is planned behind it.
        self.next += 1;
        Some(std::mem::replace(&mut self.slots[index], std::mem::take(&mut self.spare)))
    }

    pub(super) fn give_back(&mut self, mut list: Vec<(Us, SessionKey)>) {
        list.clear();
        self.spare = list;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(wheel: &mut Wheel, now: Us) -> Vec<u64> {
        let Some(list) = wheel.take_due(now) else { return Vec::new() };
        let sessions = list.iter().map(|(_, session)| session.0).collect();
        wheel.give_back(list);
        sessions
    }

    #[test]
    fn rooms_of_one_slot_come_together_at_its_end() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.next_due(), None);
        for (session, due) in [(1, 11_001), (2, 11_999), (3, 12_000), (4, 12_001)] {
            wheel.plan(due, SessionKey(session), 0);
        }
        assert_eq!(wheel.next_due(), Some(12_000));
        assert_eq!(taken(&mut wheel, 11_999), [0; 0]);
        assert_eq!(taken(&mut wheel, 12_000), [1, 2, 3]);
        assert_eq!(taken(&mut wheel, 12_999), [0; 0]);
        assert_eq!(taken(&mut wheel, 20_000), [4]);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn what_was_due_already_is_due_next_and_what_is_too_far_ahead_a_turn_from_now() {
        let mut wheel = Wheel::new();
        wheel.plan(100_000, SessionKey(1), 0);
        assert_eq!(taken(&mut wheel, 100_000), [1]);
        wheel.plan(50_000, SessionKey(2), 100_000);
        assert_eq!(wheel.next_due(), Some(101_000));
        wheel.plan(9_000_000, SessionKey(3), 100_000);
        assert_eq!(taken(&mut wheel, 200_000), [2]);
        assert_eq!(wheel.next_due(), Some((101 + SLOTS as i64 - 1) * SLOT_US));
    }

    #[test]
    fn every_room_comes_once_at_its_time_whatever_the_turn() {
        let mut wheel = Wheel::new();
        let mut random = fastrand::Rng::with_seed(7);
        let (mut now, mut planned) = (0, std::collections::BTreeMap::new());
        for round in 0..20_000_u64 {
            let due = now + random.i64(1..400_000);
            wheel.plan(due, SessionKey(round), now);
            planned.insert(round, due);
            if random.bool() {
                now += random.i64(0..6_000);
                while let Some(list) = wheel.take_due(now) {
                    for (due, session) in &list {
                        assert_eq!(planned.remove(&session.0), Some(*due));
                        assert!(*due <= now);
                    }
                    wheel.give_back(list);
                }
                let late = planned.values().filter(|due| **due + SLOT_US <= now).count();
                assert_eq!(late, 0);
            }
        }
    }
}
