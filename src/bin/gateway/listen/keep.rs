//! Which track goes into which WAV file.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use audio_gateway::{
    client::{Heard, WavFile, WavReport},
    id::TrackId,
};

use crate::exit::Usage;

/// See the module.
pub(super) enum Keep {
    /// The first track that is heard.
    One { file: Box<WavFile>, track: Option<TrackId>, other: Option<TrackId> },
    /// Each track in a file of its own.
    Each { folder: PathBuf, files: BTreeMap<TrackId, WavFile> },
}

impl Keep {
    /// A folder where the path is one or ends like one, else a file.
    pub(super) fn to(path: &Path, tracks: &[TrackId]) -> anyhow::Result<Self> {
        let ends_like_one = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if path.is_dir() || ends_like_one {
            fs::create_dir_all(path)
                .with_context(|| format!("cannot make the folder {}", path.display()))?;
            return Ok(Self::Each { folder: path.to_owned(), files: BTreeMap::new() });
        }
        if tracks.len() > 1 {
            let path = path.display();
            return Err(Usage(format!(
                "--wav {path} takes one track: name one with --track, or a folder ({path}/)"
            ))
            .into());
        }
        Ok(Self::One { file: Box::new(WavFile::create(path)?), track: None, other: None })
    }

    /// Keeps what was heard; may return a word about it.
    pub(super) fn heard(&mut self, heard: &Heard) -> anyhow::Result<Option<String>> {
        match self {
            Self::One { file, track, other } => {
                let ours = track.get_or_insert_with(|| heard.track.clone());
                if *ours == heard.track {
                    file.heard(&heard.what)?;
                    return Ok(None);
                }
                let new = other.is_none();
                other.get_or_insert_with(|| heard.track.clone());
                Ok(new.then(|| {
                    format!(
                        "only {ours} is kept, not {}: choose one with --track, or a folder",
                        heard.track
                    )
                }))
            }
            Self::Each { folder, files } => {
                if let Some(file) = files.get_mut(&heard.track) {
                    file.heard(&heard.what)?;
                } else {
                    let mut file = WavFile::create(&folder.join(format!("{}.wav", heard.track)))?;
                    file.heard(&heard.what)?;
                    files.insert(heard.track.clone(), file);
                }
                Ok(None)
            }
        }
    }

    /// Completes the files. One into which nothing came is taken away.
    pub(super) fn finish(self) -> anyhow::Result<Vec<WavReport>> {
        let files = match self {
            Self::One { file, .. } => vec![*file],
            Self::Each { files, .. } => files.into_values().collect(),
        };
        let mut reports = Vec::new();
        let mut failed = None;
        for file in files {
            let done = if file.report().epochs.is_empty() {
                file.discard().map(|()| None)
            } else {
                file.finish().map(Some)
            };
            match done {
                Ok(report) => reports.extend(report),
                // The others are completed all the same.
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(reports),
        }
    }
}
