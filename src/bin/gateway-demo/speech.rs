//! Something to listen to: a file the user names, Debian's `flite`, or the
//! simulated room's own voices, each as 16 kHz mono WAV.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use audio_gateway::{
    limits::{FRAME_SAMPLES, SAMPLE_RATE},
    sdk::launch,
};

// A voice of the simulated room, without the room.
#[path = "../sdk-sim/speech.rs"]
#[allow(dead_code, reason = "the room uses more of it")]
mod voice;

/// What the narrator says: about 26 s.
const NARRATION: &str = "Good morning. You are listening to a file that plays into a room, in \
    real time. A worker started the player, cut its sound into frames of twenty milliseconds, \
    and put ten of them into each message. One message in twenty is thrown away on purpose \
    before it reaches this listener. It notices the hole, asks the worker for the batch once \
    more, and puts it back where it belongs. Meanwhile, next door, another worker is about to \
    disappear without a word. Listen closely: nothing of what I say should be missing.";
/// What the two people in the other room say, again and again.
const ANN: &str = "Hello Ben, this is Ann. Can you hear me well? I am reading numbers to you. One, \
    two, three, four, five, six, seven, eight, nine, ten. If one of them is missing, tell me \
    which.";
const BEN: &str = "Hello Ann, this is Ben. I hear you very well. I count along with you, backwards. \
    Ten, nine, eight, seven, six, five, four, three, two, one. None of them was missing so far.";

/// A WAV file and its samples as s16le bytes.
#[derive(Debug)]
pub(crate) struct Speech {
    pub(crate) file: PathBuf,
    pub(crate) pcm: Vec<u8>,
}

/// What the demo plays.
#[derive(Debug)]
pub(crate) struct Media {
    /// For the room that plays a file.
    pub(crate) narrator: Speech,
    /// For the people in the simulated room.
    pub(crate) people: [Speech; 2],
    /// Where the narrator comes from.
    pub(crate) origin: String,
}

/// Where ffmpeg is, if it is installed.
pub(crate) fn ffmpeg() -> Option<PathBuf> {
    find("ffmpeg")
}

fn find(program: &str) -> Option<PathBuf> {
    launch::find_program(program.as_ref(), &launch::search_path()).ok()
}

/// Makes the speech in `dir`, at most `seconds` of the file that is named.
///
/// # Errors
/// Says what is missing and how to get it.
pub(crate) fn prepare(dir: &Path, file: Option<&Path>, seconds: u32) -> Result<Media> {
    let flite = find("flite");
    let speak = |name: &str, voice: &str, seed: u32, text: &str| -> Result<Speech> {
        let to = dir.join(name);
        match &flite {
            Some(flite) if say(flite, voice, text, &to) => (),
            _ => generate(seed, seconds, &to)?,
        }
        normalised(to, seconds)
    };
    let people = [speak("ann.wav", "slt", 1, ANN)?, speak("ben.wav", "rms", 2, BEN)?];
    let (narrator, origin) = match file {
        Some(file) => {
            let to = dir.join("source.wav");
            convert(file, &to, seconds)?;
            (normalised(to, seconds)?, file.display().to_string())
        }
        None => {
            let origin = match flite {
                Some(_) => "speech made with flite, voice slt",
                None => "a made-up voice (real speech: apt-get install flite, or name a file)",
            };
            (speak("source.wav", "slt", 3, NARRATION)?, origin.to_owned())
        }
    };
    Ok(Media { narrator, people, origin })
}

/// Lets flite speak; false where it cannot, for want of this voice.
fn say(flite: &Path, voice: &str, text: &str, to: &Path) -> bool {
    run(
        flite,
        &[
            "-voice".as_ref(),
            voice.as_ref(),
            "-t".as_ref(),
            text.as_ref(),
            "-o".as_ref(),
            to.as_ref(),
        ],
    )
    .is_ok()
}

/// Writes a made-up voice.
fn generate(seed: u32, seconds: u32, to: &Path) -> Result<()> {
    let mut samples = vec![0; (seconds * SAMPLE_RATE) as usize];
    voice::Speech::new(seed).fill(&mut samples);
    write(to, &samples)
}

/// Makes a 16 kHz mono WAV of any file.
fn convert(file: &Path, to: &Path, seconds: u32) -> Result<()> {
    ensure!(file.is_file(), "{} is no file: name a recording of speech", file.display());
    if let Ok(samples) = read(file) {
        return write(to, &samples);
    }
    let Some(ffmpeg) = ffmpeg() else {
        bail!(
            "{} is no 16 kHz mono WAV, and ffmpeg, which would convert it, is not installed: apt-get install ffmpeg",
            file.display()
        );
    };
    let seconds = seconds.to_string();
    let rate = SAMPLE_RATE.to_string();
    let input = std::path::absolute(file)?;
    let args: [&OsStr; 16] = [
        "-nostdin".as_ref(),
        "-v".as_ref(),
        "error".as_ref(),
        "-y".as_ref(),
        "-t".as_ref(),
        seconds.as_ref(),
        "-i".as_ref(),
        input.as_ref(),
        "-vn".as_ref(),
        "-ac".as_ref(),
        "1".as_ref(),
        "-ar".as_ref(),
        rate.as_ref(),
        "-c:a".as_ref(),
        "pcm_s16le".as_ref(),
        to.as_ref(),
    ];
    run(&ffmpeg, &args).with_context(|| format!("ffmpeg cannot read {}", file.display()))
}

/// Runs a program to its end; fails with what it said.
fn run(program: &Path, args: &[&OsStr]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", output.status, said.trim());
    Ok(())
}

/// Cuts a WAV file to whole frames and a length, and reads it.
fn normalised(file: PathBuf, seconds: u32) -> Result<Speech> {
    let mut samples = read(&file)?;
    samples.truncate((seconds * SAMPLE_RATE) as usize);
    samples.resize(samples.len().next_multiple_of(FRAME_SAMPLES), 0);
    ensure!(samples.iter().any(|&sample| sample != 0), "{} is silent", file.display());
    write(&file, &samples)?;
    let pcm = samples.into_iter().flat_map(i16::to_le_bytes).collect();
    Ok(Speech { file, pcm })
}

/// Reads a WAV file of the bus's format.
fn read(file: &Path) -> Result<Vec<i16>> {
    let mut wav = hound::WavReader::open(file)?;
    let spec = wav.spec();
    ensure!(
        (spec.sample_rate, spec.channels, spec.bits_per_sample) == (SAMPLE_RATE, 1, 16),
        "{} is not 16 kHz mono with 16 bits",
        file.display()
    );
    Ok(wav.samples().collect::<Result<_, _>>()?)
}

fn write(file: &Path, samples: &[i16]) -> Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(file, spec)
        .with_context(|| format!("cannot write {}", file.display()))?;
    for &sample in samples {
        wav.write_sample(sample)?;
    }
    Ok(wav.finalize()?)
}
