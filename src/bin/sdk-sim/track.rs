//! One participant of the room and their audio.

use audio_gateway::sdk::pipe::{Audio, FromAdapter, Participant, Track as Opened};

use crate::{outbox::Outbox, source::Source};

/// What a slot of a track holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Audio,
    Idle,
    Lost,
    /// Nothing is said about it.
    Withheld,
}

/// A participant.
pub(crate) struct Track {
    pub(crate) stream: u16,
    pub(crate) user: String,
    role: String,
    source: Source,
    present: bool,
    muted: bool,
    subscribed: bool,
    /// The slot of the source's first sample: the one in which the track was
    /// first subscribed, or that of the Unix epoch.
    origin: Option<i64>,
    /// Samples that the source has given, sent or not.
    given: u64,
}

impl Track {
    pub(crate) fn new(stream: u16, user: String, role: String, source: Source) -> Self {
        Self {
            stream,
            user,
            role,
            source,
            present: false,
            muted: false,
            subscribed: false,
            origin: None,
            given: 0,
        }
    }

    /// The source's first sample was in this slot, where it is one that tells
    /// by the number of a sample what it is.
    pub(crate) fn count_from(&mut self, slot: i64) {
        if self.source.counts() {
            self.origin = Some(slot);
        }
    }

    pub(crate) fn enter(&mut self, pts: i64, out: &mut Outbox) {
        if self.present {
            return;
        }
        self.present = true;
        let (user, role) = (self.user.clone(), Some(self.role.clone()));
        out.send(&FromAdapter::ParticipantJoined(Participant {
            user: user.clone(),
            name: None,
            role: role.clone(),
        }));
        let track = Opened { user, role };
        out.send(&FromAdapter::TrackOpened { stream: self.stream, pts, track });
    }

    pub(crate) fn leave(&mut self, pts: i64, out: &mut Outbox) {
        if !self.present {
            return;
        }
        (self.present, self.muted, self.subscribed) = (false, false, false);
        out.send(&FromAdapter::TrackClosed { stream: self.stream, pts });
        out.send(&FromAdapter::ParticipantLeft { user: self.user.clone() });
    }

    pub(crate) fn mute(&mut self, muted: bool, pts: i64, out: &mut Outbox) {
        if self.present && self.muted != muted {
            self.muted = muted;
            let stream = self.stream;
            out.send(&match muted {
                true => FromAdapter::Muted { stream, pts },
                false => FromAdapter::Unmuted { stream, pts },
            });
        }
    }

    /// Whether there is such a track now.
    pub(crate) fn subscribe(&mut self, on: bool) -> bool {
        self.subscribed = on && self.present;
        self.present
    }

    /// Whether its time must be accounted for.
    pub(crate) fn is_heard(&self) -> bool {
        self.present && self.subscribed
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.source.has_ended()
    }

    /// Says what slot number `slot` holds, from `pts` until `end`. `samples`
    /// and `pcm` are room to work in.
    pub(crate) fn play(
        &mut self,
        slot: i64,
        what: Slot,
        (pts, end): (i64, i64),
        samples: &mut [i16],
        pcm: &mut Vec<u8>,
        out: &mut Outbox,
    ) {
        if !self.is_heard() {
            return;
        }
        let stream = self.stream;
        let origin = *self.origin.get_or_insert(slot);
        match what {
            Slot::Withheld => (),
            Slot::Idle => out.send(&FromAdapter::Idle { stream, pts: end }),
            Slot::Lost => out.send(&FromAdapter::Lost { stream, from: pts, to: end }),
            Slot::Audio => {
                let length = samples.len() as u64;
                let position = (slot - origin) as u64 * length;
                self.source.skip(position - self.given);
                self.source.fill(samples);
                self.given = position + length;
                pcm.clear();
                pcm.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
                out.send(&FromAdapter::Audio(Audio { stream, pts, pcm }));
            }
        }
    }
}
