//! Adapters as the worker's configuration names them: which program with
//! which arguments a task may start, and what its params may be.
//!
//! Nothing a task says reaches a shell, and nothing it says becomes an argument
//! but values of the types declared here. A *framed* adapter takes its params
//! on the pipe, so they are in no argument at all. Starting the command is
//! [`super::process`]'s.

mod build;
mod declare;
mod file;
mod param;
mod template;
mod url;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use self::file::{MediaSection, WorkerSection};
use self::{param::Kind, template::Template};
use super::launch::Command;
use crate::{id::AdapterName, limits, task::Params};

/// The worker's configuration file, checked.
#[derive(Debug, Clone)]
pub struct WorkerFile {
    /// `[worker]`, with paths made absolute.
    pub worker: WorkerSection,
    /// `[media]`, with paths made absolute.
    pub media: MediaSection,
    /// `[adapter.…]` and those built in.
    pub adapters: Adapters,
}

impl WorkerFile {
    /// Reads and checks the file; without one, all is as if it were empty.
    /// Paths in it are relative to its folder. An adapter whose program is not
    /// installed is left out, with a warning where the file names it.
    ///
    /// # Errors
    /// [`ConfigError`] is one line that names the file, the key and the mend.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return build::build("", Path::new("(no configuration)")) };
        let read = |source| ConfigError::Read { file: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > limits::CONFIG_MAX_BYTES {
            return Err(read(io::Error::other(format!("over {} bytes", limits::CONFIG_MAX_BYTES))));
        }
        build::build(&std::fs::read_to_string(path).map_err(read)?, path)
    }
}

/// Why a configuration file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no TOML, or holds an unknown key or a value of the wrong type.
    #[error("{}:{line}: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A value makes no sense.
    #[error("{}: {key} {problem}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The key, as `table.key`.
        key: String,
        /// What is wrong with it, and the mend.
        problem: String,
    },
}

/// Why a task's params are not taken. The text names the adapter, the param
/// and what is allowed, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sdk {adapter}: {problem}")]
pub struct ParamError {
    adapter: AdapterName,
    problem: String,
}

/// The adapters a worker can start.
#[derive(Debug, Clone, Default)]
pub struct Adapters(BTreeMap<AdapterName, Adapter>);

impl Adapters {
    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &AdapterName> {
        self.0.keys()
    }

    /// The names of those that speak in bare samples.
    pub fn raw(&self) -> impl Iterator<Item = &AdapterName> {
        let raw = |adapter: &&Adapter| adapter.mode != Mode::Framed;
        self.0.values().filter(raw).map(|adapter| &adapter.name)
    }

    /// What a session of each costs until it was measured, in cores, and how
    /// many of them may run.
    #[must_use]
    pub fn costs(&self) -> BTreeMap<AdapterName, (f64, Option<usize>)> {
        let told = |adapter: &Adapter| (adapter.cost_cores, adapter.max_sessions);
        self.0.iter().map(|(name, adapter)| (name.clone(), told(adapter))).collect()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &AdapterName) -> Option<&Adapter> {
        self.0.get(name)
    }
}

/// One adapter.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Its name, by which tasks ask for it.
    pub name: AdapterName,
    /// How it speaks.
    pub mode: Mode,
    /// Sessions of it a worker runs at most, where that is limited.
    pub max_sessions: Option<usize>,
    /// CPU of one session until it was measured, in cores.
    pub cost_cores: f64,
    variants: Vec<Variant>,
    params: BTreeMap<String, Declared>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
}

/// How an adapter speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Frames of the SDK pipe, both ways.
    Framed,
    /// Bare samples.
    Raw {
        /// Which way they go.
        direction: Direction,
        /// The user name of its one track.
        participant: String,
        /// Whether its stdout comes at the pace of real time; otherwise it is
        /// read at that pace.
        realtime: bool,
    },
}

/// Which way the samples of a raw adapter go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Out of the room: its stdout.
    Pull,
    /// Into the room: its stdin.
    Push,
    /// Both.
    Duplex,
}

/// A param that a raw adapter takes.
#[derive(Debug, Clone)]
struct Declared {
    kind: Kind,
    default: Option<serde_json::Value>,
}

/// One form of an adapter's command.
#[derive(Debug, Clone)]
struct Variant {
    /// The param that chooses it; none where there is only this form.
    when: Option<String>,
    program: PathBuf,
    args: Vec<Template>,
}

impl Variant {
    fn mentions(&self, param: &str) -> bool {
        self.args.iter().any(|arg| arg.params().any(|name| name == param))
    }
}

impl Adapter {
    /// The command for a task with these params. Looks at the file system where
    /// a param is a file.
    ///
    /// # Errors
    /// [`ParamError`] where a param is missing, unknown or not allowed.
    pub fn command(&self, params: &Params) -> Result<Command, ParamError> {
        let (stdin, stdout) = match self.mode {
            Mode::Framed | Mode::Raw { direction: Direction::Duplex, .. } => (true, true),
            Mode::Raw { direction: Direction::Pull, .. } => (false, true),
            Mode::Raw { direction: Direction::Push, .. } => (true, false),
        };
        let (variant, values) = match self.mode {
            Mode::Framed => (self.choose(&Params::default())?, BTreeMap::new()),
            Mode::Raw { .. } => {
                let variant = self.choose(params)?;
                (variant, self.values(variant, params)?)
            }
        };
        let value = |name: &str| values.get(name).map(OsString::as_os_str);
        Ok(Command {
            program: variant.program.clone(),
            args: variant.args.iter().map(|arg| arg.fill(value)).collect(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            stdin,
            stdout,
        })
    }

    /// The form that the params choose.
    fn choose(&self, params: &Params) -> Result<&Variant, ParamError> {
        let given = |variant: &&Variant| {
            variant.when.as_ref().is_none_or(|when| params.0.contains_key(when))
        };
        let mut chosen = self.variants.iter().filter(given);
        match (chosen.next(), chosen.next()) {
            (Some(variant), None) => Ok(variant),
            _ => {
                let whens = self.variants.iter().filter_map(|variant| variant.when.as_deref());
                let whens = whens.collect::<Vec<_>>().join(", ");
                Err(self.refuse(format!("give exactly one of the params {whens}")))
            }
        }
    }

    /// Every param the form mentions, checked; and no other was given.
    fn values<'a>(
        &'a self,
        variant: &'a Variant,
        params: &Params,
    ) -> Result<BTreeMap<&'a str, OsString>, ParamError> {
        if let Some(stranger) = params.0.keys().find(|name| !self.params.contains_key(*name)) {
            let known = self.params.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none" } else { &known };
            return Err(
                self.refuse(format!("param {} is unknown; it takes {known}", shown(stranger)))
            );
        }
        if let Some(unused) = params.0.keys().find(|name| !variant.mentions(name)) {
            let when = variant.when.as_deref().unwrap_or_default();
            return Err(self.refuse(format!("param {unused} has no use together with {when}")));
        }
        let mut values = BTreeMap::new();
        for name in variant.args.iter().flat_map(Template::params) {
            let Some(declared) = self.params.get(name) else { continue };
            let Some(value) = params.0.get(name).or(declared.default.as_ref()) else {
                return Err(self.refuse(format!("param {name} is missing")));
            };
            let checked = declared.kind.check(value);
            let checked = checked.map_err(|why| self.refuse(format!("param {name} {why}")))?;
            values.insert(name, checked);
        }
        Ok(values)
    }

    fn refuse(&self, problem: String) -> ParamError {
        ParamError { adapter: self.name.clone(), problem }
    }
}

/// A param's name as a stranger wrote it: escaped, and not long.
fn shown(name: &str) -> String {
    let head: String = name.chars().take(32).collect();
    format!("{head:?}")
}

#[cfg(test)]
mod tests;
