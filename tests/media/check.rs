//! What a listener may hear: each sample as it was said, where it belongs, once
//! and in order; and where it was not said or did not come, the truth about it.

use std::collections::{BTreeMap, BTreeSet};

use audio_gateway::{
    audio::{Batch, Delivered, FLAG_DISCONTINUITY, Gap, SlotState},
    client::{Heard, Sounds},
    id::TrackId,
};

use super::truth::{Act, Person, SLOT};

/// What holds of a run beside what always does.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Positions are the room's own time: every adapter shows Unix time.
    pub unix: bool,
    /// Positions may be some ms off from one adapter to the next.
    pub anew: bool,
    /// Whoever is late may be called muted or away.
    pub late: bool,
    /// The room's clock against the wall.
    pub ppm: i64,
    /// How far a position may be from when it was said, in samples.
    pub off: i64,
}

#[derive(Debug, Default)]
struct Track {
    epoch: u64,
    /// Position less index of what is heard; none where that may be new.
    offset: Option<i64>,
    last_offset: i64,
    /// One after the last index heard.
    index: i64,
    end: Option<u64>,
    /// Since the epoch or the adapter changed nothing was heard.
    seam: bool,
    seqs: BTreeMap<u64, BTreeSet<u64>>,
}

/// What one listener has heard.
#[derive(Debug)]
pub struct Checker {
    rules: Rules,
    tracks: BTreeMap<TrackId, Track>,
    /// Offsets by epoch and slot of the room's time: the same for all tracks.
    offsets: BTreeMap<(u64, i64), i64>,
    /// Slots heard, by person.
    pub heard: BTreeSet<(usize, i64)>,
    pub gaps: u64,
    pub flags: u64,
    pub states: [u64; 8],
    /// Furthest from when it was said, in samples.
    pub off: i64,
}

type Verdict = Result<(), String>;

impl Checker {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            tracks: BTreeMap::new(),
            offsets: BTreeMap::new(),
            heard: BTreeSet::new(),
            gaps: 0,
            flags: 0,
            states: [0; 8],
            off: 0,
        }
    }

    pub fn heard(&mut self, heard: &Heard, people: &[Person]) -> Verdict {
        let who = people.iter().position(|it| TrackId::of_user(&it.user) == heard.track);
        let who = who.ok_or_else(|| format!("nobody is called {}", heard.track))?;
        let verdict = match &heard.what {
            Sounds::Batch(delivered) => self.batch(who, &heard.track, delivered, people),
            Sounds::Gap(gap) => self.gap(&heard.track, gap),
            _ => Ok(()),
        };
        verdict.map_err(|why| format!("{}: {why}", heard.track))
    }

    fn gap(&mut self, track: &TrackId, gap: &Gap) -> Verdict {
        self.gaps += gap.count;
        let track = self.tracks.entry(track.clone()).or_default();
        let seqs = track.seqs.entry(gap.epoch).or_default();
        for seq in gap.from_seq..gap.from_seq + gap.count {
            if !seqs.insert(seq) {
                return Err(format!("{}:{seq} was heard, and is said to be missing", gap.epoch));
            }
        }
        Ok(())
    }

    fn batch(
        &mut self,
        who: usize,
        track: &TrackId,
        delivered: &Delivered,
        people: &[Person],
    ) -> Verdict {
        let (batch, rules) = (&delivered.batch, self.rules);
        let track = self.tracks.entry(track.clone()).or_default();
        let name = format!("{}:{}", batch.epoch, batch.seq);
        if batch.epoch < track.epoch {
            return Err(format!("{name} after epoch {}", track.epoch));
        }
        if !track.seqs.entry(batch.epoch).or_default().insert(batch.seq) {
            return Err(format!("{name} comes twice, or was said to be missing"));
        }
        // From one clock to another half a slot may overlap.
        let overlap = if rules.anew && batch.epoch != track.epoch { SLOT / 2 } else { 0 };
        if let Some(end) = track.end
            && (delivered.jump < -overlap || delivered.jump != batch.pos as i64 - end as i64)
        {
            return Err(format!("{name} at {} follows on {end} by {}", batch.pos, delivered.jump));
        }
        track.end = Some(batch.end());
        if batch.epoch != track.epoch {
            (track.epoch, track.offset, track.seam) = (batch.epoch, None, true);
        }
        if batch.has(FLAG_DISCONTINUITY) {
            self.flags += 1;
            track.offset = None;
        }
        slots(track, &mut self.offsets, who, batch, people, rules, |state, index, off| {
            self.states[usize::from(state.to_wire()) & 7] += 1;
            self.off = self.off.max(off);
            if let Some(index) = index {
                self.heard.insert((who, index.div_euclid(SLOT)));
            }
        })
        .map_err(|why| format!("{name} {why}"))
    }

    /// Whether each of the batches of an epoch was heard or declared missing; of
    /// one that follows another those from where it was turned to.
    pub fn all_of(&self, epoch: u64, track: &TrackId, batches: u64) -> Verdict {
        let none = BTreeSet::new();
        let seqs = self.tracks.get(track).and_then(|it| it.seqs.get(&epoch)).unwrap_or(&none);
        let first = if epoch > 1 { seqs.first().copied().unwrap_or(batches) } else { 0 };
        match (first..batches).find(|seq| !seqs.contains(seq)) {
            Some(seq) => Err(format!("{track}: {epoch}:{seq} of {batches} neither came nor not")),
            None => Ok(()),
        }
    }
}

fn slots(
    track: &mut Track,
    offsets: &mut BTreeMap<(u64, i64), i64>,
    who: usize,
    batch: &Batch,
    people: &[Person],
    rules: Rules,
    mut saw: impl FnMut(SlotState, Option<i64>, i64),
) -> Verdict {
    let person = &people[who];
    for slot in batch.slots() {
        let pos = slot.pos as i64;
        if rules.unix {
            (track.offset, track.last_offset) = (Some(0), 0);
        }
        let acts = |index: i64| {
            let last = (index + SLOT - 1).div_euclid(SLOT);
            [person.at(index.div_euclid(SLOT)), person.at(last)]
        };
        let Some(pcm) = slot.pcm else {
            saw(slot.state, None, 0);
            let Some(offset) = track.offset else { continue };
            let said = acts(pos - offset);
            let wrong = match slot.state {
                SlotState::Silence if said == [Act::Muted; 2] => !rules.late,
                // Another adapter's clock may be up to a slot off.
                SlotState::Silence if rules.anew => {
                    [-SLOT, 0, SLOT].iter().all(|off| acts(pos - offset + off) == [Act::Talk; 2])
                }
                SlotState::Silence => said == [Act::Talk; 2],
                SlotState::Muted => !rules.late && said == [Act::Talk; 2],
                _ => false,
            };
            if wrong {
                let around = person.around((pos - offset) / SLOT);
                let (state, runs) = (slot.state, &batch.runs);
                return Err(format!(
                    "at {pos}: {state:?} where {said:?}, {offset} off: {around:?}, {runs:?}"
                ));
            }
            continue;
        };
        let near = pos - track.last_offset;
        let first = |pcm: &[u8]| u16::from_le_bytes([pcm[0], pcm[1]]);
        let mut index = person.index(first(pcm), near);
        let (mut right, mut pos, mut rest) = (person.right(index, pcm), pos, pcm);
        // Slots that are not the speaker's frames may begin with zeros of his.
        let zeros = pcm.chunks_exact(2).take_while(|sample| *sample == [0, 0]).count();
        if right < SLOT as usize && rules.anew && zeros > 0 && zeros < SLOT as usize {
            (pos, rest) = (pos + zeros as i64, &pcm[2 * zeros..]);
            index = person.index(first(rest), pos - track.last_offset);
            right = person.right(index, rest);
        }
        // Who was interrupted within a slot has it filled up with zeros.
        let cut = rules.late && rest[2 * right..].iter().all(|byte| *byte == 0);
        if 2 * right < rest.len() && !cut {
            return Err(format!("at {pos}: sample {right} of {index} is wrong"));
        }
        let last = (index + right as i64 - 1).div_euclid(SLOT);
        if [index.div_euclid(SLOT), last].iter().any(|slot| person.at(*slot) != Act::Talk) {
            return Err(format!("at {pos}: {index} was never said"));
        }
        let offset = pos - index;
        let slack = if track.seam && rules.anew { 1_600 } else { 0 };
        if index < track.index - slack {
            return Err(format!("at {pos}: {index} after {}: doubled", track.index));
        }
        if track.offset.is_some_and(|known| known != offset) && !rules.anew {
            return Err(format!("at {pos}: {index} is {offset} off, before {:?}", track.offset));
        }
        let others = offsets.entry((batch.epoch, index.div_euclid(SLOT))).or_insert(offset);
        if (*others - offset).abs() > if rules.anew { SLOT } else { 0 } {
            return Err(format!("at {pos}: {index} is {offset} off, another track {others}"));
        }
        let said_at = index - index * rules.ppm / 1_000_000;
        let off = (pos - said_at).abs();
        if !rules.unix && off > rules.off {
            return Err(format!("at {pos}: said at {said_at}"));
        }
        saw(slot.state, Some(index), off);
        (track.offset, track.last_offset) = (Some(offset), offset);
        (track.index, track.seam) = (index + right as i64, false);
    }
    Ok(())
}
