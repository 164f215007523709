//! The worker's configuration file as TOML spells it. What the keys mean
//! together is [`super::build`]'s to check.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{Direction, param::Chars};
use crate::id::{AdapterName, WorkerId};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) worker: WorkerSection,
    pub(super) media: MediaSection,
    pub(super) adapter: BTreeMap<AdapterName, AdapterSection>,
}

/// `[worker]`: the worker itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSection {
    /// Its id; one is made up where neither this nor `--id` names one.
    pub id: Option<WorkerId>,
    /// Sessions it runs at most.
    pub max_sessions: Option<usize>,
    /// Cores it may fill, where what its cgroup or host has is not the answer.
    pub cores: Option<f64>,
    /// MiB of memory it may fill, where that is less than its cgroup or host has.
    pub memory_mib: Option<u64>,
    /// What tasks may ask of a worker.
    pub labels: BTreeMap<String, String>,
    /// The file of `sdk-launch`, where it is neither beside the worker nor on
    /// the `PATH`.
    pub launcher: Option<PathBuf>,
    /// The adapters that need no section of their own.
    pub builtin: Vec<AdapterName>,
}

impl Default for WorkerSection {
    fn default() -> Self {
        let builtin = ["sim", "ffmpeg"];
        let builtin = builtin.iter().filter_map(|name| AdapterName::parse(name).ok()).collect();
        Self {
            id: None,
            max_sessions: None,
            cores: None,
            memory_mib: None,
            labels: BTreeMap::new(),
            launcher: None,
            builtin,
        }
    }
}

/// `[media]`: what adapters may read unless their own section says otherwise.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MediaSection {
    /// Folders of audio files.
    pub folders: Vec<PathBuf>,
    /// Schemes of URLs.
    pub schemes: Vec<String>,
    /// Hosts of URLs: names, `*.name`, or `*` for any.
    pub hosts: Vec<String>,
}

/// `[adapter.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdapterSection {
    pub(super) mode: ModeKey,
    pub(super) direction: Option<Direction>,
    pub(super) participant: Option<String>,
    pub(super) realtime: Option<bool>,
    pub(super) command: Option<Vec<String>>,
    #[serde(default)]
    pub(super) variant: Vec<VariantSection>,
    #[serde(default)]
    pub(super) params: BTreeMap<String, ParamSection>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) pass_env: Vec<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) max_sessions: Option<usize>,
    pub(super) cost_cores: Option<f64>,
}

/// `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ModeKey {
    Framed,
    Raw,
}

/// `[[adapter.NAME.variant]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VariantSection {
    pub(super) when: String,
    pub(super) command: Vec<String>,
}

/// `[adapter.NAME.params.PARAM]`. One form for all types, so that a key of
/// another type is said to be that and not merely unknown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ParamSection {
    #[serde(rename = "type")]
    pub(super) kind: TypeKey,
    pub(super) default: Option<serde_json::Value>,
    pub(super) schemes: Option<Vec<String>>,
    pub(super) hosts: Option<Vec<String>>,
    pub(super) folders: Option<Vec<PathBuf>>,
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
    pub(super) values: Option<Vec<String>>,
    pub(super) chars: Option<Chars>,
    pub(super) also: Option<String>,
    pub(super) max_len: Option<usize>,
}

/// `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TypeKey {
    Url,
    File,
    Int,
    Enum,
    Text,
}
