//! One open track inside a worker: what the adapter says goes in, encoded
//! batches come out. Where on the time line it belongs is decided in `place`;
//! when to sweep a track, and what becomes of a batch, is left to the worker.

use bytes::BytesMut;

use super::{
    ahead::ask_for_slice,
    batch::BatchView,
    frame::{FLAG_LAST, SlotState},
    pending::Cut,
    place::{Break, Line},
    runs::Runs,
    tap::Tap,
    track::{Encoded, Track, WriterStats},
};
use crate::limits::BATCH_MAX_SLOTS;

/// See the module. Positions handed in are those of [`super::Timeline`]; an
/// adapter without timestamps hands in `None`: what it sends is placed behind
/// what it sent before, and never cut.
#[derive(Debug)]
pub struct TrackWriter {
    track: Track,
    line: Line,
    seq: u64,
    closed: bool,
    ended: bool,
    stats: WriterStats,
}

impl TrackWriter {
    /// An open track without a slot.
    #[must_use]
    pub fn new(mut track: Track) -> Self {
        track.batch_slots = track.batch_slots.clamp(1, BATCH_MAX_SLOTS as u8);
        Self {
            line: Line::new(track.format, track.start),
            track,
            seq: 0,
            closed: false,
            ended: false,
            stats: WriterStats::default(),
        }
    }

    /// Has it gather samples in one of these buffers, where it has none: the
    /// tracks of a thread take turns with a few that are warm.
    pub fn borrow(&mut self, spare: &mut Vec<Vec<u8>>) {
        self.line.pending.borrow(spare);
    }

    /// Asks for the memory that a batch begins with, beside the value itself.
    pub fn look_ahead(&self) {
        ask_for_slice(self.track.user.as_bytes());
        self.line.pending.look_ahead();
    }

    /// Gives its buffer to others, where nothing waits in it.
    pub fn give_back(&mut self, spare: &mut Vec<Vec<u8>>) {
        self.line.pending.give_back(spare);
    }

    /// Samples whose first belongs at `at`. Without timestamps any bytes will
    /// do, a sample may come in two parts.
    pub fn audio(&mut self, at: Option<i64>, pcm: &[u8]) {
        match at {
            Some(at) => {
                self.line.place(at);
                let whole = pcm.len() - pcm.len() % self.track.format.sample_bytes();
                self.line.say(&pcm[..whole]);
            }
            None => {
                self.line.place_raw();
                self.line.say(pcm);
            }
        }
    }

    /// Samples that follow on those of the last [`TrackWriter::audio`] by their
    /// timestamps, in pieces.
    pub fn go_on<'a>(&mut self, pieces: impl ExactSizeIterator<Item = &'a [u8]> + Clone) {
        self.line.say_all(pieces);
    }

    /// A slot whose place is exact to the sample, as those of a mix are; `pcm`
    /// has its samples where it is audio.
    pub fn slot(&mut self, pos: u64, state: SlotState, pcm: &[u8]) {
        let pending = &mut self.line.pending;
        if pending.last().is_none() {
            pending.start(pos);
        } else if pending.end() != pos {
            pending.jump(pos);
        }
        if state.is_audio() {
            pending.extend(pcm);
        } else {
            pending.push(state, 1);
        }
    }

    /// Whether each slot is handed to a [`Tap`] as well, from now on.
    pub fn set_tapped(&mut self, tapped: bool) {
        self.line.pending.set_tapped(tapped);
    }

    /// What the slots turned out to be, where somebody wants to hear of it.
    pub fn tap(&mut self) -> Option<&mut Tap> {
        self.line.pending.tap()
    }

    /// The adapter has nothing to say up to a position.
    pub fn idle(&mut self, up_to: i64) {
        let state = match self.line.between() {
            SlotState::Muted => SlotState::Muted,
            _ => SlotState::Silence,
        };
        self.line.pass(up_to, state);
    }

    /// The SDK lost what belongs between two positions.
    pub fn lost(&mut self, from: i64, to: i64) {
        self.line.place(from);
        self.line.pass(to, SlotState::Lost);
    }

    /// Slots were dropped on our side of the pipe, behind what came before.
    pub fn dropped(&mut self, count: u64) {
        self.line.count_on(count, SlotState::Dropped);
    }

    /// The participant is muted from a position on. What was said before goes
    /// out with the next sweep.
    pub fn mute(&mut self, at: Option<i64>) {
        self.turn(at, SlotState::Muted);
    }

    /// The participant can be heard again from a position on.
    pub fn unmute(&mut self, at: Option<i64>) {
        self.turn(at, SlotState::Stalled);
    }

    /// The participant is away from a position on, until it is heard again.
    pub fn absent(&mut self, at: Option<i64>) {
        self.turn(at, SlotState::Absent);
    }

    fn turn(&mut self, at: Option<i64>, state: SlotState) {
        if let Some(at) = at {
            self.line.place(at);
        }
        self.line.turn(state);
    }

    /// Where the adapter's next sample belongs; none where it has not said when
    /// anything was.
    #[must_use]
    pub fn due(&self) -> Option<i64> {
        self.line.due()
    }

    /// The adapter's clock stepped by so many samples, and positions were moved
    /// so that they run on ([`super::Timeline::step`]).
    pub fn stepped(&mut self, by: i64) {
        self.line.stepped(by);
    }

    /// Positions at which a slot without samples waits to be published.
    pub fn quiet(&self) -> impl Iterator<Item = u64> + '_ {
        self.line.pending.quiet()
    }

    /// Whether [`TrackWriter::correct`] finds a slot at a position, or needs none
    /// because the participant is muted or away.
    #[must_use]
    pub fn is_quiet(&self, at: u64) -> bool {
        self.line.is_quiet(at)
    }

    /// Adds a slot without samples at a quiet position, or leaves one out, as
    /// all positions are that much further on from now on.
    pub fn correct(&mut self, at: u64, by: i64) {
        self.line.correct(at, by);
    }

    /// What a batch with [`super::FLAG_DISCONTINUITY`] whose position runs on is
    /// about; asked once.
    pub fn take_break(&mut self) -> Option<Break> {
        self.line.take_break()
    }

    /// Time went on to a position, as the wall and the adapter's usual delay
    /// have it ([`super::Timeline::expected`]), and nothing came: adds slots up
    /// to there, stalled, muted or absent, and where nothing waits one at
    /// least. They are due at once.
    pub fn heartbeat(&mut self, up_to: i64) {
        self.line.wait(up_to);
    }

    /// The track says nothing more: what waits goes out, and the last batch
    /// says so. One absent slot carries it where nothing waits. Whatever comes
    /// after that batch is not published.
    pub fn close(&mut self) {
        self.line.pad();
        if self.line.pending.slots() == 0 {
            self.line.add_one(SlotState::Absent);
        }
        self.line.pending.hurry();
        self.closed = true;
    }

    /// Makes the next batch in `out`, which is empty: a full one, or with
    /// `force` whatever waits. To be called until it returns `None`.
    pub fn next_batch(&mut self, force: bool, out: &mut BytesMut) -> Option<Encoded> {
        self.make(self.track.batch_slots, force, out)
    }

    /// As [`TrackWriter::next_batch`] with `force`, but of at most `most` slots:
    /// the ones after those are kept back.
    pub fn next_part(&mut self, most: u8, out: &mut BytesMut) -> Option<Encoded> {
        self.make(most.min(self.track.batch_slots), true, out)
    }

    fn make(&mut self, most: u8, force: bool, out: &mut BytesMut) -> Option<Encoded> {
        if self.ended || most == 0 {
            return None;
        }
        let pending = &mut self.line.pending;
        let cut = pending.cut(most, force)?;
        let mut flags = cut.flags;
        if self.closed && u64::from(cut.runs.slots()) == pending.slots() {
            flags |= FLAG_LAST;
            self.ended = true;
        }
        let payload = BatchView {
            epoch: self.track.epoch,
            seq: self.seq,
            pos: cut.pos,
            time: self.track.origin.time(cut.pos),
            format: self.track.format,
            runs: &cut.runs,
            user: &self.track.user,
            role: &self.track.role,
            flags,
            pcm: pending.pcm(cut.pcm_bytes),
        }
        .encode(out);
        self.release(&cut);
        self.stats.batches += 1;
        self.stats.bytes += payload.len() as u64;
        let seq = self.seq;
        self.seq += 1;
        Some(Encoded { seq, pos: cut.pos, slots: cut.runs.slots(), flags, payload })
    }

    /// A batch that says that the track is away from its end on, whatever
    /// becomes of it: nobody is to have what follows.
    pub fn farewell(&mut self, out: &mut BytesMut) -> Encoded {
        let (seq, pos) = (self.seq, self.line.pending.end());
        let payload = BatchView {
            epoch: self.track.epoch,
            seq,
            pos,
            time: self.track.origin.time(pos),
            format: self.track.format,
            runs: &Runs::of(SlotState::Absent, 1),
            user: &self.track.user,
            role: &self.track.role,
            flags: 0,
            pcm: &[],
        }
        .encode(out);
        self.seq += 1;
        Encoded { seq, pos, slots: 1, flags: 0, payload }
    }

    /// It counts on from `seq`, which others had its name for meanwhile, and
    /// begins anew at a position.
    pub fn follow(&mut self, seq: u64, start: i64) {
        if seq > self.seq {
            self.seq = seq;
            self.line = Line::new(self.track.format, start);
        }
    }

    /// Lets slots go that nobody is to have as a batch, at most `most` of them;
    /// what they were counts all the same. Says how many they were.
    pub fn pass_over(&mut self, most: u8) -> u8 {
        let Some(cut) = self.line.pending.cut(most, true) else { return 0 };
        self.release(&cut);
        cut.runs.slots()
    }

    fn release(&mut self, cut: &Cut) {
        self.line.pending.release(cut);
        for run in cut.runs.iter() {
            self.stats.slots[usize::from(run.state.to_wire() & 7)] += u64::from(run.count);
        }
    }

    /// Whole slots that wait.
    #[must_use]
    pub fn pending_slots(&self) -> u64 {
        self.line.pending.slots()
    }

    /// Where the time line of this track ends: the position of the next sample.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.line.end()
    }

    /// Sequence number of the next batch.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.seq
    }

    /// What does not change about the track.
    #[must_use]
    pub fn track(&self) -> &Track {
        &self.track
    }

    /// What was published so far.
    #[must_use]
    pub fn stats(&self) -> WriterStats {
        WriterStats {
            late_samples: self.line.late_samples,
            discontinuities: self.line.discontinuities,
            ..self.stats
        }
    }
}
