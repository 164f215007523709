//! What is known of the demo while it runs: one owner, told by everybody else.
//! How it looks is `view`'s.

use std::{collections::VecDeque, time::Duration};

use audio_gateway::{
    bus::messages::WorkerView,
    id::{RoomId, TrackId, WorkerId},
    limits::{FRAME, SAMPLE_RATE},
};

use crate::verify::Counts;

/// Levels kept of a track: what the meter shows.
pub(crate) const LEVELS: usize = 24;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A line for people.
    Note(String),
    /// The workers as the dispatcher knows them.
    Workers(Vec<WorkerView>),
    /// A worker was killed on purpose.
    Killed(WorkerId),
    /// A track as it stands now.
    Track(Track),
}

/// One track, counted in frames of 20 ms.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) room: RoomId,
    pub(crate) track: TrackId,
    /// The epoch it is heard under.
    pub(crate) epoch: u64,
    /// Times the room was given to another worker.
    pub(crate) moves: u32,
    /// Frames that came the first time.
    pub(crate) live: u64,
    /// Frames that were lost, asked for, and came.
    pub(crate) recovered: u64,
    /// Batches that were lost, asked for, and came.
    pub(crate) batches_back: u64,
    /// Frames that never came, outside a fail-over.
    pub(crate) missing: u64,
    /// Samples of the time line between the last frame of one worker and the
    /// first of the next.
    pub(crate) outage: u64,
    /// Gaps that were declared, a fail-over among them.
    pub(crate) gaps: u64,
    /// Batches thrown away on purpose.
    pub(crate) thrown_away: u64,
    /// Frames held against their source.
    pub(crate) checked: Counts,
    /// Whether the whole source was heard.
    pub(crate) complete: bool,
    /// Whether it has ended.
    pub(crate) closed: bool,
    /// Loudness of the last batches, as the root of the mean square.
    pub(crate) levels: VecDeque<f32>,
}

impl Track {
    /// A track of which nothing was heard.
    pub(crate) fn new(room: RoomId, track: TrackId, epoch: u64) -> Self {
        Self {
            room,
            track,
            epoch,
            moves: 0,
            live: 0,
            recovered: 0,
            batches_back: 0,
            missing: 0,
            outage: 0,
            gaps: 0,
            thrown_away: 0,
            checked: Counts::default(),
            complete: false,
            closed: false,
            levels: VecDeque::new(),
        }
    }

    /// How long it was heard.
    pub(crate) fn heard(&self) -> Duration {
        FRAME * u32::try_from(self.live + self.recovered).unwrap_or(u32::MAX)
    }

    /// How long it was silent while its room moved.
    pub(crate) fn silent(&self) -> Duration {
        Duration::from_secs_f64(self.outage as f64 / f64::from(SAMPLE_RATE))
    }

    /// Adds a batch to the meter.
    pub(crate) fn level(&mut self, loudness: f32) {
        if self.levels.len() == LEVELS {
            self.levels.pop_front();
        }
        self.levels.push_back(loudness);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Lines to be shown, with the time they were said.
    pub(crate) notes: VecDeque<(Duration, String)>,
    pub(crate) workers: Vec<WorkerView>,
    pub(crate) killed: Vec<WorkerId>,
    pub(crate) tracks: Vec<Track>,
}

impl Board {
    /// Takes note of something that happened this long after the start.
    pub(crate) fn apply(&mut self, input: Input, at: Duration) {
        match input {
            Input::Note(text) => self.notes.push_back((at, text)),
            Input::Workers(workers) => {
                // One that is gone stays on the board.
                self.workers.retain(|old| workers.iter().all(|new| new.worker != old.worker));
                self.workers.extend(workers);
                self.workers.sort_by(|a, b| a.worker.cmp(&b.worker));
            }
            Input::Killed(worker) => self.killed.push(worker),
            Input::Track(track) => {
                let same =
                    |known: &&mut Track| known.room == track.room && known.track == track.track;
                match self.tracks.iter_mut().find(same) {
                    Some(known) => *known = track,
                    None => self.tracks.push(track),
                }
            }
        }
    }
}
