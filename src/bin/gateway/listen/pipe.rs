//! One track's samples to stdout, with a recogniser or a player behind it. A
//! reader that is slow slows this down and nothing else.

use audio_gateway::{
    audio::{Delivered, Fill, Filler, Piece},
    id::TrackId,
};
use tokio::io::{AsyncWriteExt, Stdout, stdout};

/// See the module.
pub(super) struct Pipe {
    out: Stdout,
    filler: Filler,
    pieces: Vec<Piece>,
    buffer: Vec<u8>,
    /// The track that is piped: the first one heard.
    track: Option<TrackId>,
    /// One that is left out, and was told so.
    other: Option<TrackId>,
}

impl Pipe {
    pub(super) fn new(fill: Fill) -> Self {
        Self {
            out: stdout(),
            filler: Filler::new(fill),
            pieces: Vec::new(),
            buffer: Vec::new(),
            track: None,
            other: None,
        }
    }

    /// Writes a batch of the piped track; may return a word about it.
    pub(super) async fn heard(
        &mut self,
        track: &TrackId,
        delivered: &Delivered,
    ) -> anyhow::Result<Option<String>> {
        let first = self.track.is_none();
        let ours = self.track.get_or_insert_with(|| track.clone());
        if ours != track {
            let new = self.other.is_none();
            self.other.get_or_insert_with(|| track.clone());
            return Ok(new
                .then(|| format!("only {ours} is written, not {track}: choose one with --track")));
        }
        self.filler.push(delivered, &mut self.pieces);
        for piece in self.pieces.drain(..) {
            piece.sound.write_to(&mut self.buffer)?;
        }
        self.out.write_all(&self.buffer).await?;
        self.out.flush().await?;
        self.buffer.clear();
        let format = delivered.batch.format;
        Ok(first.then(|| {
            format!("{track} goes to stdout: s16le, {} Hz, {} ch", format.rate, format.channels)
        }))
    }
}
