//! Keeps a track as a WAV file in which every sample lies where the room's time
//! line has it: what is missing is zeros, and a report beside the file says
//! where and why. Which tracks are kept, and when, is left to others.
//!
//! The file is written as `<name>.part` and gets its name when it is complete.
//! Its header is brought up to date every second, so that what a killed program
//! leaves behind can be played.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use hound::{SampleFormat, WavSpec, WavWriter};
use serde::Serialize;

use super::Sounds;
use crate::{
    audio::{Delivered, Fill, Filler, Format, Gap, Piece, SlotState, Sound},
    limits,
};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {cause}; is the folder there, writable and not full?", path.display())]
pub struct WavError {
    path: PathBuf,
    cause: io::Error,
}

/// A stretch of a file that is not what was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WavGap {
    /// Where in the file it begins, in samples.
    pub at: u64,
    /// How long it is, in samples; none: the track ended within it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Whether as many zeros stand in the file: not where it is too long.
    pub filled: bool,
    /// Why: what a listener says of a gap, `lost`, `stalled` or `dropped`
    /// before the bus, `epoch` for a change of worker, `discontinuity`.
    pub reason: &'static str,
    /// Batches that were lost on the bus.
    pub batches: u64,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WavReport {
    /// The file.
    pub file: PathBuf,
    /// Samples a second.
    pub rate: u32,
    /// Interleaved channels.
    pub channels: u8,
    /// Samples of each channel in it.
    pub samples: u64,
    /// Position of the first on the room's time line.
    pub start: u64,
    /// The epochs heard, in order.
    pub epochs: Vec<u64>,
    /// All that is missing, in order.
    pub gaps: Vec<WavGap>,
    /// Gaps beyond the bound of the list.
    pub more_gaps: u64,
    /// Batches left out: the file was full, or their format is not its own.
    pub left_out: u64,
}

/// A file that is being written.
pub struct WavFile {
    part: PathBuf,
    writer: Option<WavWriter<BufWriter<File>>>,
    format: Format,
    filler: Filler,
    pieces: Vec<Piece>,
    unflushed: u64,
    /// The gap before the batch to come.
    gap: Option<Gap>,
    /// Whether the worker changes before the batch to come.
    epoch_changes: bool,
    report: WavReport,
}

impl WavFile {
    /// Begins a file.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(path: &Path) -> Result<Self, WavError> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let format = Format::default();
        let mut file = Self {
            part: part.into(),
            writer: None,
            format,
            filler: Filler::new(Fill::Zeros),
            pieces: Vec::new(),
            unflushed: 0,
            gap: None,
            epoch_changes: false,
            report: WavReport {
                file: path.to_owned(),
                rate: format.rate,
                channels: format.channels,
                samples: 0,
                start: 0,
                epochs: Vec::new(),
                gaps: Vec::new(),
                more_gaps: 0,
                left_out: 0,
            },
        };
        file.begin(format)?;
        Ok(file)
    }

    /// What is in it so far.
    #[must_use]
    pub fn report(&self) -> &WavReport {
        &self.report
    }

    /// Takes in what was heard of its track.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn heard(&mut self, what: &Sounds) -> Result<(), WavError> {
        match what {
            Sounds::Batch(delivered) => {
                self.batch(delivered).map_err(|cause| WavError { path: self.part.clone(), cause })
            }
            Sounds::Gap(gap) => {
                match &mut self.gap {
                    Some(before) => before.count += gap.count,
                    None => self.gap = Some(gap.clone()),
                }
                Ok(())
            }
            Sounds::Epoch { .. } => {
                self.epoch_changes = true;
                Ok(())
            }
            Sounds::Opened { .. } | Sounds::Closed(_) => Ok(()),
        }
    }

    /// Completes the file and writes its report to `<name>.json`.
    ///
    /// # Errors
    /// Where it cannot be written; what was written stays in `<name>.part`.
    pub fn finish(mut self) -> Result<WavReport, WavError> {
        if let Some(gap) = self.gap.take() {
            let (at, batches) = (self.report.samples, gap.count);
            let reason = gap.reason.as_str();
            self.note(WavGap { at, samples: None, filled: false, reason, batches });
        }
        let result = self.complete();
        result.map_err(|cause| WavError { path: self.report.file.clone(), cause })?;
        Ok(self.report)
    }

    /// Takes the file away: nothing of it is to be kept.
    ///
    /// # Errors
    /// Where it cannot be taken away.
    pub fn discard(mut self) -> Result<(), WavError> {
        self.writer = None;
        fs::remove_file(&self.part).map_err(|cause| WavError { path: self.part.clone(), cause })
    }

    fn complete(&mut self) -> io::Result<()> {
        if let Some(writer) = self.writer.take() {
            writer.finalize().map_err(into_io)?;
        }
        File::open(&self.part)?.sync_all()?;
        let mut beside = self.report.file.as_os_str().to_owned();
        beside.push(".json");
        let text = serde_json::to_vec_pretty(&self.report)?;
        fs::write(&beside, text)?;
        fs::rename(&self.part, &self.report.file)
    }

    fn begin(&mut self, format: Format) -> Result<(), WavError> {
        let spec = WavSpec {
            channels: format.channels.into(),
            sample_rate: format.rate,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        // One that goes writes its header once more: before the file is made anew.
        self.writer = None;
        let begun = File::create(&self.part).and_then(|file| {
            let mut writer = WavWriter::new(BufWriter::new(file), spec).map_err(into_io)?;
            writer.flush().map_err(into_io)?;
            Ok(writer)
        });
        self.writer = Some(begun.map_err(|cause| WavError { path: self.part.clone(), cause })?);
        self.format = format;
        (self.report.rate, self.report.channels) = (format.rate, format.channels);
        Ok(())
    }

    fn batch(&mut self, delivered: &Delivered) -> io::Result<()> {
        let batch = &delivered.batch;
        if self.report.epochs.is_empty() {
            self.report.start = batch.pos;
            if batch.format != self.format {
                self.begin(batch.format).map_err(|error| error.cause)?;
            }
        }
        if self.report.epochs.last() != Some(&batch.epoch)
            && self.report.epochs.len() < limits::WAV_GAPS_MAX
        {
            self.report.epochs.push(batch.epoch);
        }
        if batch.format != self.format || self.is_full(delivered) {
            self.report.left_out += 1;
            return Ok(());
        }
        let gap = self.gap.take();
        let changed = std::mem::take(&mut self.epoch_changes);
        if delivered.jump > 0 || gap.is_some() {
            let reason = match &gap {
                Some(gap) => gap.reason.as_str(),
                None if changed => "epoch",
                None => "discontinuity",
            };
            let length = u64::try_from(delivered.jump).unwrap_or(0);
            self.note(WavGap {
                at: self.report.samples,
                samples: Some(length),
                filled: length <= self.format.samples(limits::FILL_MAX),
                reason,
                batches: gap.map_or(0, |gap| gap.count),
            });
        }
        let mut pieces = std::mem::take(&mut self.pieces);
        self.filler.push(delivered, &mut pieces);
        for piece in pieces.drain(..) {
            self.piece(&piece, piece.pos < batch.pos)?;
        }
        self.pieces = pieces;
        Ok(())
    }

    /// Whether a batch, and what is missing before it, would not fit any more.
    fn is_full(&self, delivered: &Delivered) -> bool {
        let jump = u64::try_from(delivered.jump).unwrap_or(0);
        let jump = if jump <= self.format.samples(limits::FILL_MAX) { jump } else { 0 };
        let slots = u64::from(delivered.batch.runs.slots()) * self.format.slot_samples();
        let samples = self.report.samples + jump + slots;
        samples * self.format.sample_bytes() as u64 > limits::WAV_MAX_BYTES
    }

    fn piece(&mut self, piece: &Piece, between: bool) -> io::Result<()> {
        let samples = (piece.sound.len() / self.format.sample_bytes()) as u64;
        let reason = match piece.state {
            _ if between => None,
            SlotState::Lost => Some("lost"),
            SlotState::Stalled => Some("stalled"),
            SlotState::Dropped => Some("dropped"),
            _ => None,
        };
        if let Some(reason) = reason {
            let at = self.report.samples;
            self.note(WavGap { at, samples: Some(samples), filled: true, reason, batches: 0 });
        }
        // It is only gone while it is replaced or completed.
        let Some(writer) = &mut self.writer else { return Ok(()) };
        match &piece.sound {
            Sound::Audio(pcm) => {
                for sample in pcm.chunks_exact(2) {
                    let sample = i16::from_le_bytes([sample[0], sample[1]]);
                    writer.write_sample(sample).map_err(into_io)?;
                }
            }
            Sound::Zeros(bytes) => {
                for _ in 0..bytes / 2 {
                    writer.write_sample(0_i16).map_err(into_io)?;
                }
            }
        }
        self.report.samples += samples;
        self.unflushed += samples;
        if self.unflushed >= self.format.samples(limits::WAV_FLUSH) {
            self.unflushed = 0;
            writer.flush().map_err(into_io)?;
        }
        Ok(())
    }

    /// Notes a gap, one with the one before where they meet.
    fn note(&mut self, gap: WavGap) {
        if let Some(last) = self.report.gaps.last_mut()
            && last.reason == gap.reason
            && last.filled
            && gap.filled
            && last.samples.is_some_and(|samples| last.at + samples == gap.at)
        {
            last.samples = last.samples.zip(gap.samples).map(|(one, two)| one + two);
            last.batches += gap.batches;
        } else if self.report.gaps.len() < limits::WAV_GAPS_MAX {
            self.report.gaps.push(gap);
        } else {
            self.report.more_gaps += 1;
        }
    }
}

fn into_io(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::audio::{Batch, GapReason, Runs};

    /// A batch of two slots, audio where `states` says so, whose samples all
    /// are `value`.
    fn batch(pos: u64, jump: i64, states: [SlotState; 2], value: i16) -> Sounds {
        let mut runs = Runs::default();
        for state in states {
            runs.push(state, 1);
        }
        let samples = usize::from(runs.audio_slots()) * limits::FRAME_SAMPLES;
        let pcm = value.to_le_bytes().repeat(samples);
        let batch = Batch {
            epoch: 1,
            seq: 0,
            pos,
            time: 0,
            format: Format::default(),
            runs,
            user: String::new(),
            role: String::new(),
            flags: 0,
            pcm: Bytes::from(pcm),
        };
        Sounds::Batch(Delivered { batch, jump, missing: None })
    }

    const AUDIO: [SlotState; 2] = [SlotState::Audio; 2];

    fn read(path: &Path) -> Vec<i16> {
        hound::WavReader::open(path).unwrap().samples().map(Result::unwrap).collect()
    }

    #[test]
    fn every_sample_lies_where_the_time_line_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ann.wav");
        let mut file = WavFile::create(&path).unwrap();
        let lost = Gap {
            epoch: 1,
            from_seq: 1,
            count: 2,
            reason: GapReason::Evicted,
            positions: Some((1_640, 2_920)),
        };
        for what in [
            batch(1_000, 0, AUDIO, 1),
            Sounds::Gap(lost),
            batch(2_920, 1_280, [SlotState::Silence, SlotState::Stalled], 0),
            Sounds::Epoch { from: 1, to: 2 },
            batch(4_560, 1_000, AUDIO, 3),
        ] {
            file.heard(&what).unwrap();
        }
        assert!(!path.exists());
        let report = file.finish().unwrap();
        let samples = read(&path);
        let want = |at: usize| match at {
            0..640 => 1,
            640..3_560 => 0,
            _ => 3,
        };
        assert_eq!(samples.len(), 4_200);
        assert!(samples.iter().enumerate().all(|(at, sample)| *sample == want(at)));
        let gaps: Vec<_> =
            report.gaps.iter().map(|gap| (gap.at, gap.samples, gap.reason)).collect();
        assert_eq!(
            gaps,
            [
                (640, Some(1_280), "evicted"),
                (2_240, Some(320), "stalled"),
                (2_560, Some(1_000), "epoch"),
            ]
        );
        assert_eq!((report.start, report.samples, report.gaps[0].batches), (1_000, 4_200, 2));
        let beside = fs::read_to_string(folder.path().join("ann.wav.json")).unwrap();
        assert!(beside.contains("\"evicted\""));
        assert!(!folder.path().join("ann.wav.part").exists());
    }

    #[test]
    fn what_a_killed_program_leaves_can_be_played() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ann.wav");
        let mut file = WavFile::create(&path).unwrap();
        for at in 0..60 {
            file.heard(&batch(at * 640, 0, AUDIO, 7)).unwrap();
        }
        // Killed: nothing is dropped in order.
        std::mem::forget(file);
        let left = read(&folder.path().join("ann.wav.part"));
        assert!(left.len() >= 2 * 16_000 && left.iter().all(|sample| *sample == 7));
    }

    #[test]
    fn a_jump_too_long_to_fill_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = WavFile::create(&folder.path().join("a.wav")).unwrap();
        let far = 640 + 16_000 * 3_600;
        file.heard(&batch(0, 0, AUDIO, 1)).unwrap();
        file.heard(&batch(far, far as i64 - 640, AUDIO, 2)).unwrap();
        let report = file.finish().unwrap();
        assert_eq!(report.samples, 1_280);
        assert_eq!((report.gaps.len(), report.gaps[0].filled), (1, false));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = WavFile::create(Path::new("/nowhere/a.wav")).err().unwrap().to_string();
        assert!(error.contains("/nowhere/a.wav.part") && error.contains("folder"), "{error}");
    }

    #[test]
    fn a_file_of_another_format_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let mut file = WavFile::create(&path).unwrap();
        let Sounds::Batch(mut delivered) = batch(0, 0, AUDIO, 9) else { unreachable!() };
        delivered.batch.format = Format { rate: 8_000, channels: 2 };
        file.heard(&Sounds::Batch(delivered)).unwrap();
        file.heard(&batch(640, 0, AUDIO, 1)).unwrap();
        let report = file.finish().unwrap();
        assert_eq!((report.rate, report.channels, report.left_out), (8_000, 2, 1));
        assert_eq!(hound::WavReader::open(&path).unwrap().spec().sample_rate, 8_000);
        assert!(read(&path).iter().all(|sample| *sample == 9));
    }
}
