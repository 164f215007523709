//! The slots of a track that wait to become batches: runs of states with their
//! positions, and the samples of the audio slots in one buffer. Where a slot
//! belongs is decided in `writer`.

use std::collections::VecDeque;

use super::{
    ahead::ask_for_slice,
    frame::{FLAG_DISCONTINUITY, FLAG_TALK_SPURT, Format, SlotState},
    runs::Runs,
    tap::Tap,
};
use crate::limits::WRITER_MAX_SLOTS;

/// Capacity that a track keeps after a burst, in bytes: two seconds at 16 kHz.
const PCM_KEEP: usize = 64 * 1024;

/// Buffers without a track that are kept: those of a room or two, still warm.
const SPARE: usize = 16;

/// Slots in a row of one state.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    pos: u64,
    state: SlotState,
    count: u64,
    /// A batch must begin here: the position jumped or the clock stepped.
    jump: bool,
}

/// The head of a batch that is due; its samples are `pcm_bytes` from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) pos: u64,
    pub(super) runs: Runs,
    pub(super) flags: u32,
    pub(super) pcm_bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pending {
    format: Format,
    stretches: VecDeque<Stretch>,
    slots: u64,
    audio_slots: usize,
    /// The audio slots, then the beginning of the next; before them what was
    /// dropped and not moved away yet.
    pcm: Vec<u8>,
    /// Bytes that were dropped.
    gone: usize,
    /// Position after the last whole slot.
    end: u64,
    /// Slots that must not wait for a full batch.
    due: u64,
    jump_next: bool,
    /// State of the last slot that was cut, for the beginning of a talk spurt.
    cut_last: Option<SlotState>,
    /// Where somebody else hears of each slot.
    tap: Option<Box<Tap>>,
}

impl Pending {
    pub(super) fn new(format: Format, start: u64) -> Self {
        Self {
            format,
            stretches: VecDeque::new(),
            slots: 0,
            audio_slots: 0,
            pcm: Vec::new(),
            gone: 0,
            end: start,
            due: 0,
            jump_next: false,
            cut_last: None,
            tap: None,
        }
    }

    /// Whether somebody else is to hear of each slot from now on.
    pub(super) fn set_tapped(&mut self, tapped: bool) {
        if tapped != self.tap.is_some() {
            self.tap = tapped.then(|| Box::new(Tap::new(self.format)));
        }
    }

    /// See [`Pending::set_tapped`].
    pub(super) fn tap(&mut self) -> Option<&mut Tap> {
        self.tap.as_deref_mut()
    }

    /// Whole slots that wait.
    pub(super) fn slots(&self) -> u64 {
        self.slots
    }

    /// Position after the last whole slot.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The last slot's state, cut or not.
    pub(super) fn last(&self) -> Option<SlotState> {
        self.stretches.back().map(|stretch| stretch.state).or(self.cut_last)
    }

    /// Bytes of the slot that is not complete.
    pub(super) fn partial(&self) -> usize {
        self.pcm.len() - self.gone - self.audio_slots * self.format.slot_bytes()
    }

    /// Gathers samples in a buffer that others have used, where it has none.
    pub(super) fn borrow(&mut self, spare: &mut Vec<Vec<u8>>) {
        if self.pcm.capacity() == 0
            && let Some(buffer) = spare.pop()
        {
            self.pcm = buffer;
        }
    }

    /// Lets others use its buffer, where nothing is in it.
    pub(super) fn give_back(&mut self, spare: &mut Vec<Vec<u8>>) {
        if self.pcm.is_empty() && self.pcm.capacity() > 0 && spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.pcm));
        }
    }

    /// Asks for what a batch begins with, beside the value itself.
    pub(super) fn look_ahead(&self) {
        let (first, _) = self.stretches.as_slices();
        ask_for_slice(&first[..first.len().min(1)]);
    }

    /// Adds slots without samples, behind whole slots only.
    pub(super) fn push(&mut self, state: SlotState, count: u64) {
        debug_assert!(!state.is_audio() && self.partial() == 0);
        self.stretch(state, count);
    }

    /// Adds samples; each slot they complete is audio, or silence where it is
    /// all zeros.
    pub(super) fn extend(&mut self, mut bytes: &[u8]) {
        let slot_bytes = self.format.slot_bytes();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(slot_bytes - self.partial()));
            self.pcm.extend_from_slice(head);
            bytes = rest;
            if self.partial() == slot_bytes {
                self.settle();
            }
        }
    }

    /// Adds slots, each a piece of samples. Does nothing and answers false where
    /// the pieces are no slots, or too many.
    pub(super) fn extend_slots<'a>(
        &mut self,
        pieces: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) -> bool {
        let slot_bytes = self.format.slot_bytes();
        let fits = self.partial() == 0
            && self.audio_slots + pieces.len() <= WRITER_MAX_SLOTS
            && pieces.clone().all(|piece| piece.len() == slot_bytes);
        if !fits {
            return false;
        }
        self.pcm.reserve(pieces.len() * slot_bytes);
        let mut run = (SlotState::Audio, 0);
        for piece in pieces {
            let state = if is_zero(piece) { SlotState::Silence } else { SlotState::Audio };
            if state.is_audio() {
                self.audio_slots += 1;
                self.pcm.extend_from_slice(piece);
            }
            if state != run.0 {
                self.stretch(run.0, run.1);
                run = (state, 0);
            }
            run.1 += 1;
        }
        self.stretch(run.0, run.1);
        true
    }

    /// Decides what the slot that was just completed is.
    fn settle(&mut self) {
        let start = self.pcm.len() - self.format.slot_bytes();
        let state = if is_zero(&self.pcm[start..]) { SlotState::Silence } else { SlotState::Audio };
        if state.is_audio() {
            self.audio_slots += 1;
        } else {
            self.pcm.truncate(start);
        }
        self.stretch(state, 1);
        if self.audio_slots > WRITER_MAX_SLOTS {
            self.drop_oldest();
        }
    }

    /// Takes the samples of the oldest slot of audio away, which says so.
    fn drop_oldest(&mut self) {
        let Some(index) = self.stretches.iter().position(|it| it.state.is_audio()) else { return };
        let slot = self.format.slot_samples();
        self.audio_slots -= 1;
        self.gone += self.format.slot_bytes();
        if self.gone >= PCM_KEEP {
            self.pcm.drain(..std::mem::take(&mut self.gone));
        }
        let audio = &mut self.stretches[index];
        let (pos, jump) = (audio.pos, std::mem::take(&mut audio.jump));
        audio.pos += slot;
        audio.count -= 1;
        if audio.count == 0 {
            self.stretches.remove(index);
        }
        let before = index.checked_sub(1).and_then(|before| self.stretches.get_mut(before));
        match before.filter(|it| it.state == SlotState::Dropped && !jump) {
            Some(dropped) => dropped.count += 1,
            None => {
                let state = SlotState::Dropped;
                self.stretches.insert(index, Stretch { pos, state, count: 1, jump });
            }
        }
    }

    fn stretch(&mut self, state: SlotState, count: u64) {
        if count == 0 {
            return;
        }
        let jump = std::mem::take(&mut self.jump_next);
        match self.stretches.back_mut() {
            Some(last) if last.state == state && !jump => last.count += count,
            _ => self.stretches.push_back(Stretch { pos: self.end, state, count, jump }),
        }
        self.slots += count;
        self.end += count * self.format.slot_samples();
    }

    /// The next slot stands at `pos`, and a new batch begins with it.
    pub(super) fn jump(&mut self, pos: u64) {
        debug_assert!(self.partial() == 0);
        self.end = pos;
        self.jump_next = true;
        self.hurry();
    }

    /// A new batch begins with the slot to come, wherever that is.
    pub(super) fn part(&mut self) {
        self.jump_next = true;
        self.hurry();
    }

    /// Whether a slot without samples waits that covers a position.
    pub(super) fn is_quiet(&self, at: u64) -> bool {
        self.index_at(at).is_some_and(|index| !self.stretches[index].state.is_audio())
    }

    /// Positions of the slots without samples that wait.
    pub(super) fn quiet(&self) -> impl Iterator<Item = u64> + '_ {
        let slot = self.format.slot_samples();
        let quiet = self.stretches.iter().filter(|stretch| !stretch.state.is_audio());
        quiet.flat_map(move |stretch| (0..stretch.count).map(move |at| stretch.pos + at * slot))
    }

    fn index_at(&self, at: u64) -> Option<usize> {
        let slot = self.format.slot_samples();
        let covers = |it: &Stretch| it.pos <= at && at < it.pos + it.count * slot;
        self.stretches.iter().position(covers)
    }

    /// Doubles the quiet slot at a position, or leaves it out, and moves what
    /// follows. A new batch begins there.
    pub(super) fn correct(&mut self, at: u64, add: bool) {
        let Some(index) = self.index_at(at) else { return };
        let slot = self.format.slot_samples();
        let moved = |pos: u64| if add { pos + slot } else { pos - slot };
        for later in self.stretches.range_mut(index + 1..) {
            later.pos = moved(later.pos);
        }
        let all_due = self.due == self.slots;
        self.end = moved(self.end);
        self.slots = if add { self.slots + 1 } else { self.slots - 1 };
        self.due = if all_due { self.slots } else { self.due.min(self.slots) };
        let whole = &mut self.stretches[index];
        let before = (at - whole.pos) / slot;
        let rest = Stretch {
            pos: whole.pos + before * slot,
            count: if add { whole.count - before + 1 } else { whole.count - before - 1 },
            jump: true,
            ..*whole
        };
        whole.count = before;
        if before == 0 {
            self.stretches.remove(index);
        }
        let index = index + usize::from(before > 0);
        if rest.count > 0 {
            self.stretches.insert(index, rest);
        } else if let Some(next) = self.stretches.get_mut(index) {
            next.jump = true;
        } else {
            self.jump_next = true;
        }
    }

    /// Moves the start of a track that has no slots yet.
    pub(super) fn start(&mut self, pos: u64) {
        debug_assert!(self.slots == 0 && self.cut_last.is_none());
        self.end = pos;
    }

    /// Lets what waits now go without a full batch.
    pub(super) fn hurry(&mut self) {
        self.due = self.slots;
    }

    /// The next batch of up to `most` slots: a full one or, with `force` or
    /// where it is due, what there is. It stays until [`Pending::release`].
    pub(super) fn cut(&self, most: u8, force: bool) -> Option<Cut> {
        if self.slots == 0 || !(force || self.due > 0 || self.slots >= u64::from(most)) {
            return None;
        }
        let mut runs = Runs::default();
        let mut flags = 0;
        let mut before = self.cut_last;
        for (index, stretch) in self.stretches.iter().enumerate() {
            if (index > 0 && stretch.jump) || runs.slots() == most {
                break;
            }
            if stretch.jump {
                flags |= FLAG_DISCONTINUITY;
            }
            if stretch.state.is_audio() && before != Some(SlotState::Audio) {
                flags |= FLAG_TALK_SPURT;
            }
            let room = u64::from(most - runs.slots());
            runs.push(stretch.state, stretch.count.min(room) as u8);
            before = Some(stretch.state);
        }
        let pcm_bytes = usize::from(runs.audio_slots()) * self.format.slot_bytes();
        Some(Cut { pos: self.stretches.front()?.pos, runs, flags, pcm_bytes })
    }

    /// Samples from the front.
    pub(super) fn pcm(&self, bytes: usize) -> &[u8] {
        &self.pcm[self.gone..self.gone + bytes]
    }

    /// Forgets what a cut was made of.
    pub(super) fn release(&mut self, cut: &Cut) {
        if let Some(tap) = &mut self.tap {
            let (mut pos, mut pcm) = (cut.pos, &self.pcm[self.gone..][..cut.pcm_bytes]);
            for run in cut.runs.iter() {
                let count = usize::from(run.count);
                let bytes = if run.state.is_audio() { count * self.format.slot_bytes() } else { 0 };
                let (audio, rest) = pcm.split_at(bytes);
                tap.note(pos, run.state, count as u64, audio);
                pos += count as u64 * self.format.slot_samples();
                pcm = rest;
            }
        }
        self.pcm.drain(..std::mem::take(&mut self.gone) + cut.pcm_bytes);
        if self.pcm.len() < PCM_KEEP / 2 && self.pcm.capacity() > PCM_KEEP {
            self.pcm.shrink_to(PCM_KEEP);
        }
        self.audio_slots -= usize::from(cut.runs.audio_slots());
        self.slots -= u64::from(cut.runs.slots());
        self.due = self.due.saturating_sub(u64::from(cut.runs.slots()));
        for run in cut.runs.iter() {
            self.cut_last = Some(run.state);
            self.shorten(u64::from(run.count));
        }
    }

    /// Takes slots from the front. Neighbours of one state are one run of a
    /// batch but may be two stretches.
    fn shorten(&mut self, mut count: u64) {
        while count > 0 {
            let Some(front) = self.stretches.front_mut() else { return };
            let taken = count.min(front.count);
            front.count -= taken;
            front.pos += taken * self.format.slot_samples();
            front.jump = false;
            count -= taken;
            if front.count == 0 {
                self.stretches.pop_front();
            }
        }
    }
}

/// Whether all bytes are zero; speech answers after its first few. Chunks of a
/// length that is known become vector instructions: 12 ns for a slot of zeros
/// and 3 for one of speech, where slices take 36 and 7, byte by byte 550.
fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    let any = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) != 0;
    !chunks.iter().any(|chunk| any(chunk)) && !any(rest)
}
