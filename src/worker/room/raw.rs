//! Adapters without frames: all they write is samples, one after the other.

use super::{Effects, Room, Stage};
use crate::{audio::Format, limits, sdk::adapter::Mode};

impl Room {
    /// Bytes that may be read now: a raw adapter that is faster than time is
    /// made to wait.
    #[must_use]
    pub fn appetite(&self, now: i64) -> usize {
        let Mode::Raw { realtime, .. } = self.spec.mode else { return usize::MAX };
        let wall = self.origin.position(now);
        let ahead = self.tracks.first().map_or(0, |track| track.writer.end() - wall);
        let lead = if realtime { limits::GAP_MAX } else { limits::RAW_LEAD };
        let lead = Format::default().samples(lead) as i64;
        usize::try_from(lead - ahead).unwrap_or(0) * Format::default().sample_bytes()
    }

    pub(super) fn take_samples(
        &mut self,
        bytes: &[u8],
        user: String,
        realtime: bool,
        now: i64,
        fx: &mut Effects,
    ) {
        let format = Format::default();
        // Half a sample waits here and not in the track, which may go on without
        // it meanwhile: what comes then begins with the other half all the same.
        let (cut, bytes) = match (self.odd, bytes) {
            (_, []) => return,
            (Some(half), [other, rest @ ..]) => (Some([half, *other]), rest),
            (None, bytes) => (None, bytes),
        };
        let (bytes, odd) = bytes.split_at(bytes.len() - bytes.len() % format.sample_bytes());
        self.odd = odd.first().copied();
        let samples = i64::from(cut.is_some()) + (bytes.len() / format.sample_bytes()) as i64;
        if samples == 0 {
            return;
        }
        // What comes at the pace of time was heard until now; what comes as
        // fast as it is read begins now.
        let begin = self.origin.position(now) - if realtime { samples } else { 0 };
        if self.stage != Stage::Joined {
            self.joined(now, fx);
            self.open_track(1, Some(begin), user, String::new(), now, fx);
        }
        let Some(track) = self.tracks.first_mut() else { return };
        // A source that was held up and has not caught up with these samples
        // will not.
        let late = begin - track.writer.end();
        if late > format.samples(limits::STALL_GRACE) as i64 && track.writer.next_seq() > 0 {
            track.writer.heartbeat(begin);
        }
        track.heard = true;
        track.writer.borrow(&mut fx.spare);
        if let Some(cut) = cut {
            track.writer.audio(None, &cut);
        }
        track.writer.audio(None, bytes);
        if realtime {
            let end = track.writer.end();
            self.clock_raw(end, self.origin.position(now));
        }
        fx.tally.frames += samples as u64 / format.slot_samples();
    }
}
