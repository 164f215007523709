//! One track of a room: its writer, and when what it holds goes out.
//!
//! Its room is swept when a batch is full ([`super::super::plane`] finds out
//! when), so batches are even; one frame that is early is the next one's.

use super::{Effects, Outgoing, wanted::Part};
use crate::{
    audio::{self, Break, FLAG_DISCONTINUITY, SlotState, TrackWriter},
    bus::{
        Address,
        messages::{Cause, RoomNews},
        subjects::{self, Lane},
    },
    id::{RoomId, TrackId},
    limits,
};

/// A batch shorter than this is not worth waiting a frame for: its sweeps come
/// more than twice as often as a track must speak.
pub(super) const EVEN_FROM: u64 = 5;
/// A sweep may come this much early and still count as the one that is due.
const EARLY_US: i64 = 20_000;
/// [`limits::HEARTBEAT_TRACK`] in µs.
const HEARTBEAT_US: i64 = limits::HEARTBEAT_TRACK.as_micros() as i64;
/// States of slots that mean audio is missing.
const MISSING: [SlotState; 3] = [SlotState::Lost, SlotState::Stalled, SlotState::Dropped];

/// The moment of a sweep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sweep {
    /// µs since the Unix epoch.
    pub(super) now: i64,
    /// Where the adapter must have come.
    pub(super) expected: i64,
    /// Whether it came when it was due. One that is late has no right to say
    /// that the adapter is.
    pub(super) on_time: bool,
    /// Frames that wait for the next batch even where this one is full.
    pub(super) keep: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) id: TrackId,
    pub(super) user: String,
    pub(super) role: String,
    /// Whether it is published, and not only mixed.
    pub(super) on_bus: bool,
    /// The mixes it is in.
    pub(super) parts: Vec<Part>,
    pub(super) address: Address,
    recorded: bool,
    /// Tells it from all tracks the room ever had.
    pub(super) number: u32,
    pub(super) writer: TrackWriter,
    /// The adapter's number for it; none: it is closed, or the adapter is gone.
    pub(super) stream: Option<u16>,
    /// Since when the adapter is gone that had it open.
    pub(super) orphan: Option<i64>,
    /// It was closed just now, and may be opened again: when, by the clock and
    /// on the time line.
    pub(super) leaving: Option<(i64, u64)>,
    pub(super) closed_at: Option<i64>,
    pub(super) muted: bool,
    /// Something came since the last sweep, and between the two before it.
    pub(super) heard: bool,
    spoke: bool,
    /// Heartbeats since something came.
    empty: u32,
    published: i64,
    /// Missing slots by state: published so far, and told of.
    missing: [(u64, u64); MISSING.len()],
    end: Option<u64>,
}

impl Track {
    pub(super) fn new(
        room: &RoomId,
        lane: Lane,
        number: u32,
        id: TrackId,
        description: audio::Track,
        now: i64,
    ) -> Self {
        Self {
            address: Address::new(subjects::track(lane, room, &id)),
            recorded: lane == Lane::Rec,
            id,
            user: description.user.clone(),
            role: description.role.clone(),
            on_bus: true,
            parts: Vec::new(),
            number,
            writer: TrackWriter::new(description),
            stream: None,
            orphan: None,
            leaving: None,
            closed_at: None,
            muted: false,
            heard: false,
            spoke: false,
            empty: 0,
            published: now,
            missing: [(0, 0); MISSING.len()],
            end: None,
        }
    }

    /// Whether it must be heard of: it is open, or may be again soon.
    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some() || self.orphan.is_some() || self.leaving.is_some()
    }

    /// Whether more may come of it any moment.
    pub(super) fn speaks(&self) -> bool {
        self.stream.is_some() && (self.heard || self.spoke)
    }

    /// Whether so many slots of it were published that are something else than
    /// missing audio.
    pub(super) fn has_spoken(&self, least: u64) -> bool {
        let slots = self.writer.stats().slots;
        let missing: u64 = MISSING.iter().map(|state| slots[usize::from(state.to_wire())]).sum();
        slots.iter().sum::<u64>() >= missing + least
    }

    /// Whether so many slots of it were published of which people who are there
    /// are the cause.
    pub(super) fn has_told(&self, least: u64) -> bool {
        let slots = self.writer.stats().slots;
        let told = [SlotState::Audio, SlotState::Silence, SlotState::Redacted];
        told.iter().map(|state| slots[usize::from(state.to_wire())]).sum::<u64>() >= least
    }

    /// Publishes what is due.
    pub(super) fn settle(&mut self, sweep: Sweep, fx: &mut Effects) {
        let most = u64::from(self.writer.track().batch_slots);
        let mut any = false;
        while self.writer.pending_slots() >= most + sweep.keep {
            self.publish(most, sweep.now, fx);
            any = true;
        }
        let rest = self.writer.pending_slots().saturating_sub(sweep.keep);
        if rest > 0 && !(any && rest == 1 && most >= EVEN_FROM) {
            self.publish_all_but(sweep.keep, sweep.now, fx);
            any = true;
        }
        self.writer.give_back(&mut fx.spare);
        let heard = std::mem::take(&mut self.heard);
        self.spoke = heard;
        if heard {
            self.empty = 0;
        }
        let silent = sweep.now.saturating_sub(self.published).saturating_add(EARLY_US);
        // What was heard may have filled no slot.
        let patience = if heard { 2 * HEARTBEAT_US } else { HEARTBEAT_US };
        if !any && silent >= patience {
            self.heartbeat(sweep, fx);
        }
        self.gaps(false, sweep.now, fx);
    }

    /// Nothing came that could be published.
    fn heartbeat(&mut self, sweep: Sweep, fx: &mut Effects) {
        let explained = self.muted || self.stream.is_none();
        if !explained && !sweep.on_time {
            return;
        }
        // The first is a single slot: the adapter may only be a little late,
        // and what it says then has its place still.
        let up_to = if explained || self.empty > 0 { sweep.expected } else { i64::MIN };
        self.writer.heartbeat(up_to);
        self.empty += 1;
        self.publish_all_but(0, sweep.now, fx);
    }

    /// The adapter has closed it, and may open it again: what waits goes out, and
    /// it is absent meanwhile.
    pub(super) fn leave(&mut self, at: i64, now: i64, fx: &mut Effects) {
        self.writer.absent(Some(at));
        self.flush(now, fx);
        (self.stream, self.muted) = (None, false);
        self.leaving = Some((now, u64::try_from(self.writer.end()).unwrap_or(0)));
    }

    /// Publishes whatever waits.
    pub(super) fn flush(&mut self, now: i64, fx: &mut Effects) {
        self.publish_all_but(0, now, fx);
    }

    /// It is published no more, as if it were closed, and goes on in its mixes.
    pub(super) fn withdraw(&mut self, now: i64, fx: &mut Effects) {
        self.publish_all_but(0, now, fx);
        let about = self.writer.track();
        let batch = {
            let out = fx.pool.buffer(about.user.len() + about.role.len());
            self.writer.farewell(out)
        };
        self.hand_out(batch, now, fx);
        self.on_bus = false;
    }

    /// The track is closed: its last slot says that it is away.
    pub(super) fn shut(&mut self, at: Option<i64>, now: i64, fx: &mut Effects) {
        self.writer.absent(at);
        self.writer.heartbeat(self.writer.end() + self.slot());
        self.publish_all_but(0, now, fx);
        self.gaps(true, now, fx);
        (self.stream, self.orphan, self.leaving, self.muted) = (None, None, None, false);
        self.closed_at = Some(now);
    }

    /// The epoch is over: its last batch says so.
    pub(super) fn end(&mut self, now: i64, fx: &mut Effects) {
        self.writer.close();
        self.publish_all_but(0, now, fx);
        self.gaps(true, now, fx);
        self.stream = None;
    }

    fn slot(&self) -> i64 {
        self.writer.track().format.slot_samples() as i64
    }

    /// Publishes down to the last `keep` slots.
    fn publish_all_but(&mut self, keep: u64, now: i64, fx: &mut Effects) {
        while self.writer.pending_slots() > keep {
            self.publish(self.writer.pending_slots() - keep, now, fx);
        }
    }

    /// Publishes full batches, of a mix.
    pub(super) fn publish_full(&mut self, now: i64, fx: &mut Effects) {
        let most = u64::from(self.writer.track().batch_slots);
        while self.writer.pending_slots() >= most {
            self.publish(most, now, fx);
        }
    }

    /// Publishes what is due of a mix: as of the tracks it is made of, whose
    /// slots come as evenly. Time goes on without a word in them.
    pub(super) fn settle_mix(&mut self, now: i64, fx: &mut Effects) {
        self.publish_full(now, fx);
        let most = u64::from(self.writer.track().batch_slots);
        let (any, rest) = (self.published == now, self.writer.pending_slots());
        // Sweeps are more frequent while an adapter starts.
        let length = limits::FRAME.as_micros() as i64 * most as i64;
        let silent = now.saturating_sub(self.published).saturating_add(EARLY_US);
        let due = silent >= length.min(HEARTBEAT_US);
        if rest > 0 && (due && !any || any && (rest > 1 || most < EVEN_FROM)) {
            self.publish_all_but(0, now, fx);
        }
        self.writer.give_back(&mut fx.spare);
        self.gaps(false, now, fx);
    }

    /// Publishes one batch of up to `most` slots.
    fn publish(&mut self, most: u64, now: i64, fx: &mut Effects) {
        let most = u8::try_from(most).unwrap_or(u8::MAX);
        if !self.on_bus {
            self.published = now;
            self.writer.pass_over(most);
            return;
        }
        let about = self.writer.track();
        let slots = most.min(about.batch_slots);
        let bytes = usize::from(slots) * about.format.slot_bytes();
        let out = fx.pool.buffer(bytes + about.user.len() + about.role.len());
        let Some(batch) = self.writer.next_part(most, out) else { return };
        self.hand_out(batch, now, fx);
    }

    fn hand_out(&mut self, batch: audio::Encoded, now: i64, fx: &mut Effects) {
        self.published = now;
        let before = self.end.replace(batch.pos + u64::from(batch.slots) * self.slot() as u64);
        if let Some(before) = before
            && batch.flags & FLAG_DISCONTINUITY != 0
        {
            let jump = batch.pos as i64 - before as i64;
            let (by_samples, cause) = match self.writer.take_break() {
                _ if jump != 0 => (jump, Cause::Jump),
                Some(Break::Step(by)) => (by, Cause::Step),
                Some(Break::Drift(by)) => (by, Cause::Drift),
                None => (0, Cause::Untold),
            };
            let track = self.id.clone();
            fx.news(batch.pos, now, RoomNews::Discontinuity { track, by_samples, cause });
        }
        fx.batches.push(Outgoing {
            track: self.id.clone(),
            number: self.number,
            address: self.address.clone(),
            recorded: self.recorded,
            batch,
        });
    }

    /// Tells of missing audio, once the end of it is known.
    fn gaps(&mut self, last: bool, now: i64, fx: &mut Effects) {
        let slots = self.writer.stats().slots;
        for (state, (seen, told)) in MISSING.iter().zip(&mut self.missing) {
            let state = state.to_wire();
            let count = slots[usize::from(state)];
            if count > *seen && !last {
                *seen = count; // it may go on
            } else if count > *told && (last || self.empty == 0) {
                let slots = count - *told;
                let pos = self.end.unwrap_or_default();
                fx.news(pos, now, RoomNews::Gap { track: self.id.clone(), slots, state });
                (*seen, *told) = (count, count);
            }
        }
    }
}
