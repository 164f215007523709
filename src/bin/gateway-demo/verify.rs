//! Holds what was heard against what was played, sample for sample.
//!
//! A track's first frame that is not silent says where in the source it begins;
//! from there on every position has its samples. Only a declared gap or another
//! epoch may move that place.

use std::sync::Arc;

use audio_gateway::limits::{FRAME_BYTES, FRAME_SAMPLES};

/// Bytes of one sample.
const SAMPLE: usize = 2;
const SILENCE: [u8; FRAME_BYTES] = [0; FRAME_BYTES];

/// What is played, as s16le bytes.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pcm: Arc<[u8]>,
    /// Whether it begins again when it has ended.
    repeats: bool,
}

/// The frames of one track, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// They hold the samples of their place.
    pub(crate) exact: u64,
    /// They hold others.
    pub(crate) wrong: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Checker {
    source: Source,
    /// Where the source's first sample stands on the room's time line.
    start: Option<i64>,
    /// Sample of the source up to which was heard in this epoch.
    reached: usize,
    /// Whether the place may have moved since the last frame.
    moved: bool,
    /// Silent frames whose place is not known yet.
    silent: Vec<u64>,
    counts: Counts,
}

impl Source {
    /// Samples as bytes; the last frame is made whole with zeros.
    pub(crate) fn new(mut pcm: Vec<u8>, repeats: bool) -> Self {
        pcm.resize(pcm.len().next_multiple_of(FRAME_BYTES), 0);
        Self { pcm: pcm.into(), repeats }
    }

    /// How many samples it has.
    pub(crate) fn samples(&self) -> usize {
        self.pcm.len() / SAMPLE
    }

    /// Whether the frame stands at this sample. Before its beginning and, where
    /// it does not repeat, behind its end there is silence.
    fn has(&self, at: i64, frame: &[u8]) -> bool {
        let samples = self.samples() as i64;
        frame.chunks_exact(SAMPLE).zip(at..).all(|(sample, at)| {
            let at = if self.repeats && samples > 0 { at.rem_euclid(samples) } else { at };
            match usize::try_from(at).ok().and_then(|at| self.pcm.get(at * SAMPLE..)) {
                Some([low, high, ..]) => sample == [*low, *high],
                _ => sample == [0, 0],
            }
        })
    }

    /// The first sample at which the frame stands; one that does not repeat is
    /// searched from `from` on.
    fn find(&self, frame: &[u8], from: usize) -> Option<usize> {
        let from = if self.repeats { 0 } else { from };
        (from..self.samples()).find(|&at| self.has(at as i64, frame))
    }
}

impl Checker {
    /// A track of which nothing was heard.
    pub(crate) fn new(source: Source) -> Self {
        Self {
            source,
            start: None,
            reached: 0,
            moved: false,
            silent: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// A new epoch: the adapter was started again and begins anew.
    pub(crate) fn epoch(&mut self) {
        self.end();
        self.start = None;
        self.reached = 0;
        self.moved = false;
    }

    /// Something is missing here, and says so: what follows may stand elsewhere.
    pub(crate) fn gap(&mut self) {
        self.moved = true;
    }

    /// A frame at its position; `None` is silence.
    pub(crate) fn frame(&mut self, pos: u64, pcm: Option<&[u8]>) {
        let frame = pcm.unwrap_or(&SILENCE);
        let silent = frame == SILENCE;
        let start = match self.start {
            Some(start) if self.source.has(pos as i64 - start, frame) => start,
            Some(_) if !self.moved => {
                self.counts.wrong += 1;
                return;
            }
            _ if silent => {
                self.silent.push(pos);
                return;
            }
            _ => match self.source.find(frame, self.reached) {
                Some(at) => pos as i64 - at as i64,
                None => {
                    self.counts.wrong += 1;
                    return;
                }
            },
        };
        self.moved &= silent;
        self.start = Some(start);
        for pos in std::mem::take(&mut self.silent) {
            self.judge(self.source.has(pos as i64 - start, &SILENCE));
        }
        self.judge(true);
        let end = pos as i64 - start + FRAME_SAMPLES as i64;
        self.reached = self.reached.max(usize::try_from(end).unwrap_or(0));
    }

    /// Nothing more comes: silence whose place never showed is held to be wrong.
    pub(crate) fn end(&mut self) {
        self.counts.wrong += self.silent.drain(..).count() as u64;
    }

    /// Whether a source that does not repeat was heard to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.reached >= self.source.samples()
    }

    /// The frames whose place is known.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn judge(&mut self, right: bool) {
        if right {
            self.counts.exact += 1;
        } else {
            self.counts.wrong += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten frames: two silent, six of a ramp, two silent.
    fn source(repeats: bool) -> Source {
        let zeros = std::iter::repeat_n(0, 2 * FRAME_BYTES);
        let ramp = (1..=6 * FRAME_SAMPLES as i16).flat_map(i16::to_le_bytes);
        Source::new(zeros.clone().chain(ramp).chain(zeros).collect(), repeats)
    }

    fn pos(frame: usize) -> u64 {
        (1_000 + frame * FRAME_SAMPLES) as u64
    }

    /// Frame `index` of the source as it is sent: silence without samples.
    fn frame(source: &Source, index: usize) -> Option<&[u8]> {
        let frame = &source.pcm[index * FRAME_BYTES..][..FRAME_BYTES];
        (frame != SILENCE).then_some(frame)
    }

    fn hear(checker: &mut Checker, frames: impl IntoIterator<Item = (usize, usize)>) -> Counts {
        let source = checker.source.clone();
        for (at, index) in frames {
            checker.frame(pos(at), frame(&source, index));
        }
        checker.counts()
    }

    #[test]
    fn a_whole_source_is_exact_and_complete() {
        let mut checker = Checker::new(source(false));
        let counts = hear(&mut checker, (0..10).map(|i| (i, i)));
        assert_eq!(counts, Counts { exact: 10, wrong: 0 });
        assert!(checker.is_complete());
    }

    #[test]
    fn one_changed_sample_is_wrong() {
        let mut checker = Checker::new(source(false));
        hear(&mut checker, (0..4).map(|i| (i, i)));
        let mut changed = frame(&source(false), 4).unwrap().to_vec();
        changed[77] ^= 1;
        checker.frame(pos(4), Some(&changed));
        assert_eq!(checker.counts(), Counts { exact: 4, wrong: 1 });
    }

    #[test]
    fn a_shift_is_wrong_unless_a_gap_declares_it() {
        let mut checker = Checker::new(source(false));
        hear(&mut checker, (0..4).map(|i| (i, i)));
        assert_eq!(hear(&mut checker, [(5, 4)]).wrong, 1);
        checker.gap();
        let counts = hear(&mut checker, (4..10).map(|i| (i + 2, i)));
        assert_eq!(counts, Counts { exact: 10, wrong: 1 });
        assert!(checker.is_complete());
    }

    #[test]
    fn what_is_left_out_shows() {
        let mut checker = Checker::new(source(false));
        assert_eq!(hear(&mut checker, [(0, 0), (1, 1), (2, 2), (3, 4)]).wrong, 1);
        let mut checker = Checker::new(source(false));
        hear(&mut checker, (0..7).map(|i| (i, i)));
        assert!(!checker.is_complete());
    }

    #[test]
    fn a_source_that_repeats_goes_on_and_an_epoch_begins_anew() {
        let mut checker = Checker::new(source(true));
        hear(&mut checker, (4..14).map(|i| (i, i % 10)));
        checker.epoch();
        let counts = hear(&mut checker, (50..65).map(|i| (i, i % 10)));
        assert_eq!(counts, Counts { exact: 25, wrong: 0 });
    }

    #[test]
    fn silence_alone_proves_nothing() {
        let mut checker = Checker::new(source(true));
        (0..5).for_each(|i| checker.frame(pos(i), None));
        checker.end();
        assert_eq!(checker.counts(), Counts { exact: 0, wrong: 5 });
    }
}
