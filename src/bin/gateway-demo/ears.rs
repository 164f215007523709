//! One room as somebody hears it: counts its frames, holds them against what
//! is played, keeps each track as a WAV file and tells the board.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use audio_gateway::{
    audio::{Delivered, FLAG_RESENT, GapReason, SlotState},
    client::{Heard, Listener, Sounds, WavFile, WavReport},
    id::{RoomId, TrackId},
    limits::FRAME_SAMPLES,
};
use tokio::sync::mpsc;

use crate::{
    board::{Input, Track},
    verify::{Checker, Source},
};

/// What is played in a room.
#[derive(Debug, Clone)]
pub(crate) struct Played {
    /// By the participant's name; one that is not named here has `other`.
    pub(crate) users: BTreeMap<String, Source>,
    /// What everybody else says.
    pub(crate) other: Option<Source>,
    /// The room.
    pub(crate) room: RoomId,
}

/// A track that has ended.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) track: Track,
    pub(crate) file: WavReport,
    pub(crate) source: Source,
    /// When the first frame under another worker came.
    pub(crate) back: Option<Instant>,
}

/// Listens until the listener is told to stop by `stop`, and returns what was
/// kept.
///
/// # Errors
/// Where a file cannot be written.
pub(crate) async fn listen(
    mut listener: Listener,
    played: Played,
    folder: PathBuf,
    mut stop: tokio::sync::oneshot::Receiver<()>,
    board: mpsc::Sender<Input>,
) -> Result<Vec<Kept>> {
    let mut tracks: BTreeMap<TrackId, Ear> = BTreeMap::new();
    let mut stopping = false;
    loop {
        let heard = tokio::select! {
            heard = listener.next() => heard,
            _ = &mut stop, if !stopping => {
                stopping = true;
                listener.stop();
                continue;
            }
        };
        let Some(Heard { track, what, .. }) = heard else { break };
        if let Sounds::Opened { epoch, user, .. } = &what
            && !tracks.contains_key(&track)
        {
            let source = played.users.get(user).or(played.other.as_ref());
            let source = source.with_context(|| format!("nobody expected {user:?} to speak"))?;
            let ear = Ear::open(&played.room, &track, *epoch, source.clone(), &folder)?;
            tracks.insert(track.clone(), ear);
        }
        let Some(ear) = tracks.get_mut(&track) else { continue };
        ear.hear(&what)?;
        ear.track.thrown_away = listener.stats().thrown_away;
        // The board is read without a pause; where it is gone nobody looks.
        let _ = board.send(Input::Track(ear.track.clone())).await;
    }
    tracks.into_values().map(Ear::finish).collect()
}

/// One track.
struct Ear {
    track: Track,
    checker: Checker,
    source: Source,
    file: WavFile,
    /// Whether another worker has begun and was not heard yet.
    moving: bool,
    back: Option<Instant>,
}

impl Ear {
    fn open(
        room: &RoomId,
        track: &TrackId,
        epoch: u64,
        source: Source,
        folder: &Path,
    ) -> Result<Self> {
        let file = WavFile::create(&folder.join(format!("{room}-{track}.wav")))?;
        Ok(Self {
            track: Track::new(room.clone(), track.clone(), epoch),
            checker: Checker::new(source.clone()),
            source,
            file,
            moving: false,
            back: None,
        })
    }

    fn hear(&mut self, what: &Sounds) -> Result<()> {
        self.file.heard(what)?;
        match what {
            Sounds::Opened { .. } => self.track.closed = false,
            Sounds::Batch(delivered) => self.batch(delivered),
            // What the killed worker did not send any more belongs to the move.
            Sounds::Gap(gap) if gap.reason == GapReason::EpochChange => (),
            Sounds::Gap(gap) => {
                self.track.gaps += 1;
                let samples = gap.positions.map_or(0, |(from, to)| to.saturating_sub(from));
                self.track.missing += (samples / FRAME_SAMPLES as u64).max(gap.count);
                self.checker.gap();
            }
            Sounds::Epoch { to, .. } => {
                self.track.epoch = *to;
                self.track.moves += 1;
                self.track.gaps += 1;
                self.moving = true;
                self.checker.epoch();
            }
            Sounds::Closed(_) => self.track.closed = true,
        }
        self.track.checked = self.checker.counts();
        self.track.complete = self.checker.is_complete();
        Ok(())
    }

    fn batch(&mut self, delivered: &Delivered) {
        let batch = &delivered.batch;
        if self.moving {
            self.track.outage += u64::try_from(delivered.jump).unwrap_or(0);
        }
        self.track.batches_back += u64::from(batch.has(FLAG_RESENT));
        for slot in batch.slots() {
            match slot.state {
                SlotState::Audio | SlotState::Silence => {
                    if self.moving {
                        self.moving = false;
                        self.back.get_or_insert_with(Instant::now);
                    }
                    if batch.has(FLAG_RESENT) {
                        self.track.recovered += 1;
                    } else {
                        self.track.live += 1;
                    }
                    self.checker.frame(slot.pos, slot.pcm);
                }
                // Before its first sound a worker's track is still coming up,
                // and behind the end of a file there is nobody.
                SlotState::Absent => self.checker.gap(),
                _ if self.moving => self.track.outage += FRAME_SAMPLES as u64,
                _ if self.track.live + self.track.recovered == 0 => self.checker.gap(),
                _ => {
                    self.track.missing += 1;
                    self.checker.gap();
                }
            }
        }
        self.track.level(loudness(&batch.pcm));
    }

    fn finish(mut self) -> Result<Kept> {
        self.checker.end();
        self.track.checked = self.checker.counts();
        let file = self.file.finish()?;
        Ok(Kept { track: self.track, file, source: self.source, back: self.back })
    }
}

/// The root of the mean square of some samples, 1 at full scale.
fn loudness(pcm: &[u8]) -> f32 {
    let (samples, _) = pcm.as_chunks::<2>();
    let square = |sample: &[u8; 2]| (f32::from(i16::from_le_bytes(*sample)) / 32_768.0).powi(2);
    (samples.iter().map(square).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}
