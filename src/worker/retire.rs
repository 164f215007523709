//! How a worker's process ends that was asked to: it waits until others have its
//! rooms, for so long and no longer, and stays a moment for those who missed
//! the last of its batches.

use std::time::{Duration, Instant};

use crate::limits;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Say what is waited for.
    Tell,
    /// Give back what nobody took.
    GiveUp,
    /// End.
    End,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Retirement {
    /// When what is left is given back.
    until: Instant,
    /// When it is told again what is waited for.
    tell: Instant,
    /// When the process ends, whatever still runs.
    end: Option<Instant>,
    /// Whether it had rooms that somebody may listen to still.
    had_rooms: bool,
}

impl Retirement {
    /// From now on others have so much time to take the rooms over.
    pub(super) fn new(patience: Duration, rooms: usize, now: Instant) -> Self {
        Self { until: now + patience, tell: now, end: None, had_rooms: rooms > 0 }
    }

    /// What is to be done, where a worker is `empty` or not.
    pub(super) fn step(&mut self, empty: bool, now: Instant) -> Step {
        if let Some(end) = self.end {
            return if empty && !self.had_rooms || end <= now { Step::End } else { Step::Wait };
        }
        if empty {
            let linger = if self.had_rooms { limits::LEAVE_LINGER } else { Duration::ZERO };
            self.end = Some(now + linger);
            return if self.had_rooms { Step::Wait } else { Step::End };
        }
        if self.until <= now {
            // Its adapters are given the time that they are always given.
            self.end = Some(now + limits::LEAVE_TIMEOUT + limits::TERM_TIMEOUT * 2);
            self.had_rooms = false;
            return Step::GiveUp;
        }
        if self.tell <= now {
            self.tell = now + limits::RETIRE_TELL;
            return Step::Tell;
        }
        Step::Wait
    }

    /// When it is to be asked again at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.end.unwrap_or_else(|| self.until.min(self.tell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(25);

    #[test]
    fn without_rooms_it_ends_at_once() {
        let now = Instant::now();
        assert_eq!(Retirement::new(PATIENCE, 0, now).step(true, now), Step::End);
    }

    #[test]
    fn it_stays_a_moment_after_the_last_room_was_taken_over() {
        let now = Instant::now();
        let mut retirement = Retirement::new(PATIENCE, 2, now);
        assert_eq!(retirement.step(false, now), Step::Tell);
        assert_eq!(retirement.step(false, now), Step::Wait);
        assert_eq!(retirement.step(false, now + limits::RETIRE_TELL), Step::Tell);
        let gone = now + 2 * limits::RETIRE_TELL - Duration::from_secs(1);
        assert_eq!(retirement.step(true, gone), Step::Wait);
        assert_eq!(retirement.deadline(), gone + limits::LEAVE_LINGER);
        assert_eq!(retirement.step(true, gone + limits::LEAVE_LINGER), Step::End);
    }

    #[test]
    fn what_nobody_takes_is_given_back_in_the_end() {
        let now = Instant::now();
        let mut retirement = Retirement::new(PATIENCE, 2, now);
        retirement.step(false, now);
        let late = now + PATIENCE;
        assert_eq!(retirement.step(false, late), Step::GiveUp);
        assert_eq!(retirement.step(false, late), Step::Wait, "its adapters leave");
        assert_eq!(retirement.step(true, late), Step::End);
        let mut stuck = Retirement::new(Duration::ZERO, 2, now);
        assert_eq!(stuck.step(false, now), Step::GiveUp);
        assert_eq!(stuck.step(false, stuck.deadline()), Step::End);
    }
}
