//! What came of it: the table at the end, and whether it is a success.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use audio_gateway::{
    client::{WavGap, WavReport},
    limits::{FRAME_BYTES, FRAME_SAMPLES, SAMPLE_RATE},
};
use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};

use crate::{
    ears::Kept,
    script::{Outcome, RADIO},
    verify::{Checker, Counts, Source},
    view::View,
};

/// Two people and a file.
const TRACKS: usize = 3;

/// The summary as text, and what is wrong; nothing: a success.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    pub(crate) faults: Vec<String>,
}

/// Judges what was heard and what was kept.
///
/// # Errors
/// Where a file that was written cannot be read.
pub(crate) fn judge(
    outcome: &Outcome,
    out: &Path,
    left: &[String],
    view: &View,
) -> Result<Verdict> {
    let mut faults = Vec::new();
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let head = ["track", "sent", "received", "lost", "recovered", "gaps", "outage", "bit-exact"];
    table.set_header(head.map(|name| Cell::new(name).add_attribute(Attribute::Dim)));
    for column in 1..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if !view.color() {
        table.force_no_tty();
    }
    for kept in &outcome.kept {
        table.add_row(row(kept));
        faults.extend(faults_of(kept));
    }
    if outcome.kept.len() != TRACKS {
        faults.push(format!("{} tracks were heard instead of {TRACKS}", outcome.kept.len()));
    }
    let mut text = format!("{table}\n");
    let mut line = |name: &str, what: &str| {
        text.push_str(&format!("  {} {what}\n", view.paint("2", &format!("{name:<10}"))));
    };
    line("", "frames of 20 ms; lost: thrown away on purpose before the listener");
    match outcome.back_after {
        Some(after) => {
            let silent = outcome.kept.iter().map(|kept| kept.track.silent()).max();
            let (after, silent) = (seconds(after), seconds(silent.unwrap_or_default()));
            line(
                "fail-over",
                &format!("worker {} killed; heard again {after} later", outcome.killed),
            );
            line(
                "",
                &format!("{silent} from the last frame of its epoch to the first of the next"),
            );
        }
        None => faults.push("the call was never heard from another worker".into()),
    }
    match outcome.adapters_gone {
        Some(after) => {
            let after = after.as_millis();
            line("adapters", &format!("those of the killed worker were gone {after} ms after it"));
        }
        None => faults.push("adapters outlived their worker".into()),
    }
    for (index, kept) in outcome.kept.iter().enumerate() {
        let counts = compare(&kept.file, &kept.source)?;
        let file = kept.file.file.display();
        if counts.wrong > 0 {
            faults.push(format!("{file} differs from its source in {} frames", counts.wrong));
        }
        let long = Duration::from_secs_f64(kept.file.samples as f64 / f64::from(SAMPLE_RATE));
        let name = if index == 0 { "files" } else { "" };
        line(name, &format!("{file}  {}", seconds(long)));
    }
    line("logs", &out.join("logs").display().to_string());
    if left.is_empty() {
        line("processes", "none left behind");
    } else {
        faults.extend(left.iter().map(|process| format!("left behind: {process}")));
    }
    Ok(Verdict { text, faults })
}

fn row(kept: &Kept) -> [String; 8] {
    let track = &kept.track;
    // What a killed worker no longer numbered was not sent.
    let sent = track.live + track.recovered + track.missing;
    [
        format!("{}/{}", track.room, track.track),
        sent.to_string(),
        (track.live + track.recovered).to_string(),
        (track.recovered + track.missing).to_string(),
        track.recovered.to_string(),
        track.gaps.to_string(),
        if track.moves > 0 { seconds(track.silent()) } else { "–".into() },
        if track.checked.wrong == 0 {
            format!("all {}", track.checked.exact)
        } else {
            format!("{} of {} NOT", track.checked.wrong, track.checked.wrong + track.checked.exact)
        },
    ]
}

fn faults_of(kept: &Kept) -> Vec<String> {
    let track = &kept.track;
    let name = format!("{}/{}", track.room, track.track);
    let mut faults = Vec::new();
    if track.checked.wrong > 0 {
        faults.push(format!("{name}: {} frames are not what was played", track.checked.wrong));
    }
    if track.missing > 0 {
        faults.push(format!("{name}: {} frames are missing outside the fail-over", track.missing));
    }
    if track.room.as_str() == RADIO && !track.complete {
        faults.push(format!("{name}: the end of the file was not heard"));
    }
    if track.room.as_str() != RADIO && track.moves == 0 {
        faults.push(format!("{name}: not heard from another worker"));
    }
    faults
}

/// Holds a file that was written against its source, outside its gaps.
fn compare(file: &WavReport, source: &Source) -> Result<Counts> {
    let mut wav = hound::WavReader::open(&file.file)
        .with_context(|| format!("cannot read {}", file.file.display()))?;
    let pcm: Vec<u8> =
        wav.samples::<i16>().flat_map(|sample| sample.unwrap_or_default().to_le_bytes()).collect();
    Ok(hear(&pcm, &file.gaps, source))
}

/// Hears a file frame by frame. Behind a gap they begin where it ends, which may be
/// anywhere: whoever serves the room next has a clock of its own.
fn hear(pcm: &[u8], gaps: &[WavGap], source: &Source) -> Counts {
    // A track that ends says so with a slot that is absent, if nothing else waits.
    let pcm = match pcm.split_last_chunk::<FRAME_BYTES>() {
        Some((rest, last)) if last.iter().all(|byte| *byte == 0) => rest,
        _ => pcm,
    };
    let sample = FRAME_BYTES / FRAME_SAMPLES;
    let place =
        |at: u64| pcm.len().min(usize::try_from(at).unwrap_or(usize::MAX).saturating_mul(sample));
    let mut checker = Checker::new(source.clone());
    let mut begin = 0;
    for gap in gaps.iter().map(Some).chain([None]) {
        let end = gap.map_or(pcm.len(), |gap| place(gap.at));
        let frames = pcm.get(place(begin)..end).unwrap_or_default().chunks_exact(FRAME_BYTES);
        for (at, frame) in (begin..).step_by(FRAME_SAMPLES).zip(frames) {
            checker.frame(at, Some(frame));
        }
        let Some(gap) = gap else { break };
        if gap.reason == "epoch" {
            checker.epoch();
        } else {
            checker.gap();
        }
        begin = gap.at + gap.samples.filter(|_| gap.filled).unwrap_or(0);
    }
    checker.counts()
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(at: u64, samples: u64, reason: &'static str) -> WavGap {
        WavGap { at, samples: Some(samples), filled: true, reason, batches: 0 }
    }

    /// Four frames, a gap that ends between two frames of the file, four frames of
    /// a source that begins anew, and the slot with which the track ends.
    fn file(source: &[u8], samples: usize) -> Vec<u8> {
        let played = &source[..4 * FRAME_BYTES];
        [played, &vec![0; 2 * samples], played, &[0; FRAME_BYTES]].concat()
    }

    #[test]
    fn behind_a_gap_frames_begin_where_it_ends() {
        let pcm: Vec<u8> = (1..=8 * FRAME_SAMPLES as i16).flat_map(i16::to_le_bytes).collect();
        let source = Source::new(pcm.clone(), true);
        for samples in [FRAME_SAMPLES, 463, 24_143] {
            let gaps = [gap(4 * FRAME_SAMPLES as u64, samples as u64, "epoch")];
            let counts = hear(&file(&pcm, samples), &gaps, &source);
            assert_eq!(counts, Counts { exact: 8, wrong: 0 }, "{samples}");
        }
    }

    #[test]
    fn a_sample_that_was_changed_shows_behind_a_gap_as_well() {
        let pcm: Vec<u8> = (1..=8 * FRAME_SAMPLES as i16).flat_map(i16::to_le_bytes).collect();
        let source = Source::new(pcm.clone(), true);
        let mut file = file(&pcm, 463);
        let last = file.len() - FRAME_BYTES - 2;
        file[last] ^= 1;
        let gaps = [gap(4 * FRAME_SAMPLES as u64, 463, "epoch")];
        assert_eq!(hear(&file, &gaps, &source), Counts { exact: 7, wrong: 1 });
    }
}
