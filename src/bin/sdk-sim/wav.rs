//! Speech from a file, read as it is played. Only files inside the folders
//! that the worker's configuration names are opened, whatever the task says.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use audio_gateway::limits::SAMPLE_RATE;
use hound::{SampleFormat, WavReader};

/// A file that is being played.
pub(crate) struct Wav {
    reader: WavReader<BufReader<File>>,
    repeat: bool,
    ended: bool,
}

impl Wav {
    /// Opens a file of one of `dirs`, relative to it or absolute.
    ///
    /// # Errors
    /// A line that says why not and the mend.
    pub(crate) fn open(name: &str, dirs: &[PathBuf], repeat: bool) -> Result<Self, String> {
        let path = resolve(name, dirs)?;
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let reader = WavReader::open(&path).map_err(|error| wrong(&error))?;
        let spec = reader.spec();
        let fits = spec.channels == 1
            && spec.sample_rate == SAMPLE_RATE
            && spec.bits_per_sample == 16
            && spec.sample_format == SampleFormat::Int;
        if !fits {
            return Err(wrong(&format!(
                "{} Hz, {} channels, {} bits; make it 16 kHz mono 16-bit: \
                 ffmpeg -i IN.wav -ac 1 -ar 16000 -c:a pcm_s16le OUT.wav",
                spec.sample_rate, spec.channels, spec.bits_per_sample
            )));
        }
        if reader.duration() == 0 {
            return Err(wrong(&"holds no samples"));
        }
        Ok(Self { reader, repeat, ended: false })
    }

    /// The next samples; zeros after the end.
    pub(crate) fn fill(&mut self, out: &mut [i16]) {
        let mut filled = 0;
        while filled < out.len() && !self.ended {
            match self.reader.samples::<i16>().next() {
                Some(Ok(sample)) => {
                    out[filled] = sample;
                    filled += 1;
                }
                // A file that is shorter than it says ends there.
                Some(Err(_)) => self.ended = true,
                None => self.ended = !self.repeat || self.reader.seek(0).is_err(),
            }
        }
        out[filled..].fill(0);
        // Known with the last sample, not one call later.
        self.ended |= !self.repeat && self.reader.samples::<i16>().len() == 0;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }
}

/// The file that is meant, where it is a plain file inside one of the folders
/// after every `..` and link was followed.
fn resolve(name: &str, dirs: &[PathBuf]) -> Result<PathBuf, String> {
    if dirs.is_empty() {
        return Err("params.source: this adapter plays no files: \
                    start it with --media-dir DIR to allow those of a folder"
            .to_owned());
    }
    let named = format!("params.source: {:?}", name.chars().take(200).collect::<String>());
    let inside = |dir: &PathBuf| {
        let dir = dir.canonicalize().ok()?;
        let path = dir.join(Path::new(name)).canonicalize().ok()?;
        path.starts_with(&dir).then_some(path)
    };
    match dirs.iter().find_map(inside) {
        Some(path) if path.is_file() => Ok(path),
        Some(_) => Err(format!("{named} is no file")),
        None => Err(format!("{named} is not in a folder that --media-dir names")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, rate: u32, channels: u16, samples: &[i16]) {
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
    }

    fn refused(name: &str, dirs: &[PathBuf]) -> String {
        Wav::open(name, dirs, true).err().expect("refused")
    }

    #[test]
    fn a_file_repeats_without_a_seam_or_ends() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().to_owned()];
        write(&dir.path().join("five.wav"), 16_000, 1, &[1, 2, 3, 4, 5]);
        let mut out = [9; 12];
        let mut wav = Wav::open("five.wav", &dirs, true).unwrap();
        wav.fill(&mut out);
        assert_eq!(out, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]);

        let mut wav = Wav::open("five.wav", &dirs, false).unwrap();
        wav.fill(&mut out[..3]);
        assert!(!wav.has_ended());
        wav.fill(&mut out[..2]);
        assert!(wav.has_ended(), "with its last sample");
        wav.fill(&mut out);
        assert_eq!(out, [0; 12]);
    }

    #[test]
    fn only_files_of_the_named_folders_are_played() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out.wav"));
        std::fs::create_dir(&inside).unwrap();
        write(&outside, 16_000, 1, &[1]);
        std::os::unix::fs::symlink(&outside, inside.join("link.wav")).unwrap();
        let dirs = [inside.clone()];
        for name in ["../out.wav", "link.wav", "/etc/passwd", "none.wav", "a\0b"] {
            let error = refused(name, &dirs);
            assert!(error.contains("--media-dir"), "{error}");
        }
        assert!(refused(".", &dirs).contains("is no file"));
        assert!(refused("out.wav", &[]).contains("plays no files"));
        write(&inside.join("ok.wav"), 16_000, 1, &[1]);
        assert!(Wav::open("ok.wav", &dirs, true).is_ok());
        assert!(Wav::open(inside.join("ok.wav").to_str().unwrap(), &dirs, true).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().to_owned()];
        write(&dir.path().join("a.wav"), 44_100, 2, &[1, 2]);
        assert!(refused("a.wav", &dirs).contains("-ar 16000"));
        write(&dir.path().join("b.wav"), 16_000, 1, &[]);
        assert!(refused("b.wav", &dirs).contains("no samples"));
        std::fs::write(dir.path().join("c.wav"), "text").unwrap();
        assert!(refused("c.wav", &dirs).contains("c.wav"));
    }
}
