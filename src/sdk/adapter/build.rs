//! From the file's text to adapters that hold together: every placeholder
//! declared, every list meaningful, every program found.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::Path,
};

use super::{
    Adapter, Adapters, ConfigError, Declared, Direction, MediaSection, Mode, Variant, WorkerFile,
    declare::{Place, Problem, check_media, declare, problem},
    file::{AdapterSection, File, ModeKey},
    template::Template,
};
use crate::{
    id::AdapterName,
    limits,
    sdk::launch::{self, MARKER},
};

/// The adapters that are there without a configuration, besides `sim`.
const BUILTIN: &str = include_str!("builtin.toml");
/// The program of the adapter `sim`, beside the worker's own.
const SIM: &str = "sdk-sim";
/// The user name of a raw adapter's track unless it is configured.
const PARTICIPANT: &str = "stream";

/// Checks the text of the file at `path`.
pub(super) fn build(text: &str, path: &Path) -> Result<WorkerFile, ConfigError> {
    let at = |(key, problem)| ConfigError::Key { file: path.to_owned(), key, problem };
    let File { mut worker, mut media, adapter: mut sections } = parse(text, path)?;
    let base = std::path::absolute(Path::new(".").join(path))
        .map_err(|source| ConfigError::Read { file: path.to_owned(), source })?;
    let base = base.parent().unwrap_or(Path::new("/"));

    if worker.cores.is_some_and(|cores| !(cores > 0.0 && cores <= 10_000.0)) {
        return Err(at(("worker.cores".into(), "must be a number of cores above 0".into())));
    }
    if worker.memory_mib == Some(0) {
        return Err(at(("worker.memory_mib".into(), "must be at least 1".into())));
    }
    worker.launcher = worker.launcher.map(|file| base.join(file));
    media.folders = media.folders.iter().map(|folder| base.join(folder)).collect();
    check_media(&media).map_err(at)?;

    let place = Place { base, media: &media };
    let mut adapters = BTreeMap::new();
    let mut builtin = parse(BUILTIN, Path::new("builtin.toml"))?.adapter;
    for name in &worker.builtin {
        if let Some(section) = builtin.remove(name) {
            if !sections.contains_key(name) {
                let adapter = adapter(name, section, &place).map_err(at)?;
                adapters.extend(adapter.ok().map(|adapter| (name.clone(), adapter)));
            }
        } else if name.as_str() == "sim" {
            adapters.extend(sim(name, &media).map(|sim| (name.clone(), sim)));
        } else {
            let problem = format!("names {name}, but only sim and ffmpeg are built in");
            return Err(at(("worker.builtin".into(), problem)));
        }
    }
    while let Some((name, section)) = sections.pop_first() {
        match adapter(&name, section, &place).map_err(at)? {
            Ok(adapter) => drop(adapters.insert(name, adapter)),
            Err(missing) => {
                adapters.remove(&name);
                let key = format!("adapter.{name}.command");
                tracing::warn!(
                    file = %path.display(), key, %missing,
                    "this adapter is not offered: install its program or mend the key"
                );
            }
        }
    }
    Ok(WorkerFile { worker, media, adapters: Adapters(adapters) })
}

/// The text as TOML of the right form.
fn parse(text: &str, path: &Path) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let message = error.message().replace('\n', " ");
        ConfigError::Syntax { file: path.to_owned(), line, message }
    })
}

/// The simulated room, if its program is there.
fn sim(name: &AdapterName, media: &MediaSection) -> Option<Adapter> {
    let program = launch::find_own(SIM).inspect_err(|missing| {
        tracing::debug!(%missing, "the adapter sim is not offered");
    });
    let literal = |text: &OsStr| Template::literal(text.to_owned());
    let args = media
        .folders
        .iter()
        .flat_map(|folder| [literal(OsStr::new("--media-dir")), literal(folder.as_os_str())]);
    let variant = Variant { when: None, program: program.ok()?, args: args.collect() };
    Some(Adapter {
        name: name.clone(),
        mode: Mode::Framed,
        max_sessions: None,
        cost_cores: limits::SESSION_COST,
        variants: vec![variant],
        params: BTreeMap::new(),
        env: Vec::new(),
        cwd: None,
    })
}

/// An adapter of the file; the inner error is a program that is not installed.
fn adapter(
    name: &AdapterName,
    section: AdapterSection,
    place: &Place<'_>,
) -> Result<Result<Adapter, launch::NotFound>, Problem> {
    let key = |rest: &str| format!("adapter.{name}.{rest}");
    let mode = mode(&section, key)?;
    let mut params = BTreeMap::new();
    for (param, declared) in section.params {
        let key = key(&format!("params.{param}"));
        params.insert(param, declare(declared, &key, place)?);
    }
    let env = environment(section.env, &section.pass_env, key)?;
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
    let path = path.unwrap_or_else(launch::search_path);

    let commands = match (section.command, section.variant) {
        (Some(command), variants) if variants.is_empty() => vec![(None, command)],
        (None, variants) if !variants.is_empty() => {
            variants.into_iter().map(|variant| (Some(variant.when), variant.command)).collect()
        }
        (None, _) => {
            return problem(key("command"), "is missing: name the program and its arguments");
        }
        (Some(_), _) => {
            return problem(key("command"), "and variants exclude each other: keep one");
        }
    };
    let mut variants = Vec::new();
    let mut missing = None;
    for (when, command) in commands {
        match variant(when, command, &params, &path, place.base, key)? {
            Ok(variant) => variants.push(variant),
            Err(why) => missing = Some(why),
        }
    }
    if let Some(missing) = missing {
        return Ok(Err(missing));
    }
    for param in params.keys() {
        if !variants.iter().any(|variant| variant.mentions(param)) {
            let why = format!("is in no command: write {{{param}}} where it goes, or remove it");
            return problem(key(&format!("params.{param}")), why);
        }
    }
    let cost_cores = section.cost_cores.unwrap_or(limits::SESSION_COST);
    if !(cost_cores > 0.0 && cost_cores <= 1_000.0) {
        return problem(key("cost_cores"), "must be a number of cores above 0");
    }
    if section.max_sessions == Some(0) {
        return problem(key("max_sessions"), "must be at least 1");
    }
    Ok(Ok(Adapter {
        name: name.clone(),
        mode,
        max_sessions: section.max_sessions,
        cost_cores,
        variants,
        params,
        env,
        cwd: section.cwd.map(|cwd| place.base.join(cwd)),
    }))
}

fn mode(section: &AdapterSection, key: impl Fn(&str) -> String) -> Result<Mode, Problem> {
    if section.mode == ModeKey::Framed {
        let of_raw = [
            ("direction", section.direction.is_some()),
            ("participant", section.participant.is_some()),
            ("realtime", section.realtime.is_some()),
            ("params", !section.params.is_empty()),
            ("variant", !section.variant.is_empty()),
        ];
        return match of_raw.iter().find(|(_, set)| *set) {
            Some((name, _)) => problem(
                key(name),
                "is for mode = \"raw\": a framed adapter goes both ways, names its own \
                 participants and takes its params on the pipe",
            ),
            None => Ok(Mode::Framed),
        };
    }
    let Some(direction) = section.direction else {
        return problem(key("direction"), "is missing: say \"pull\", \"push\" or \"duplex\"");
    };
    let participant = section.participant.clone().unwrap_or_else(|| PARTICIPANT.into());
    if participant.is_empty() || participant.len() > limits::USER_MAX_BYTES {
        let max = limits::USER_MAX_BYTES;
        return problem(key("participant"), format!("must have 1 to {max} bytes"));
    }
    if section.realtime.is_some() && direction == Direction::Push {
        return problem(key("realtime"), "is about what is pulled: remove it");
    }
    Ok(Mode::Raw { direction, participant, realtime: section.realtime.unwrap_or(true) })
}

fn variant(
    when: Option<String>,
    command: Vec<String>,
    params: &BTreeMap<String, Declared>,
    path: &OsStr,
    base: &Path,
    key: impl Fn(&str) -> String,
) -> Result<Result<Variant, launch::NotFound>, Problem> {
    let place = match &when {
        Some(when) => key(&format!("variant[when={when}].command")),
        None => key("command"),
    };
    let here = || place.clone();
    let mut command = command.into_iter();
    let program = match command.next() {
        Some(program) if !program.is_empty() && !program.contains(['{', '}', '\0']) => program,
        _ => return problem(here(), "must begin with a program, without placeholders"),
    };
    let mut args = Vec::new();
    for arg in command {
        let arg = Template::parse(&arg).map_err(|why| (here(), why))?;
        if let Some(name) = arg.params().find(|name| !params.contains_key(*name)) {
            let declare = key(&format!("params.{name}"));
            return problem(here(), format!("mentions {{{name}}}: declare it in [{declare}]"));
        }
        args.push(arg);
    }
    // A name with a `/` is a file, relative to the configuration.
    let program: OsString = match program.contains('/') {
        true => base.join(program).into_os_string(),
        false => program.into(),
    };
    let program = match launch::find_program(&program, path) {
        Ok(program) => program,
        Err(missing) => return Ok(Err(missing)),
    };
    let variant = Variant { when, program, args };
    match &variant.when {
        Some(when) if !variant.mentions(when) => {
            problem(here(), format!("must mention {{{when}}}, the param that chooses it"))
        }
        _ => Ok(Ok(variant)),
    }
}

/// The variables an adapter gets besides those every one sees.
fn environment(
    env: BTreeMap<String, String>,
    pass: &[String],
    key: impl Fn(&str) -> String,
) -> Result<Vec<(OsString, OsString)>, Problem> {
    let check = |table: &str, name: &str, value: &str| {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(letters) || value.contains('\0') {
            return problem(key(table), format!("holds {name:?}, which cannot be a variable"));
        }
        if name.starts_with("NATS_") || name == MARKER {
            return problem(
                key(table),
                format!("holds {name}, which no adapter may see: remove it"),
            );
        }
        Ok(())
    };
    let mut all = Vec::new();
    for name in pass {
        check("pass_env", name, "")?;
        all.extend(std::env::var_os(name).map(|value| (name.into(), value)));
    }
    for (name, value) in env {
        check("env", &name, &value)?;
        all.push((name.into(), value.into()));
    }
    Ok(all)
}
