//! What is started and with which environment: the launcher that stands
//! between a worker and its adapters, how programs are found, and the short
//! list of variables an adapter may see.
//!
//! The launcher (`sdk-launch`) exists because everything that must happen in
//! the child before its program runs would otherwise force a `fork` of the
//! whole worker. Starting and watching processes is [`super::process`]'s.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The file name of the launcher.
pub const LAUNCHER: &str = "sdk-launch";

/// The variable every adapter of a worker carries and its descendants inherit.
/// Its value is made anew by each supervisor, so the guard finds what left its
/// process group.
pub const MARKER: &str = "AUDIO_GATEWAY_ADAPTER_OF";

/// What the launcher writes before the reason it could not start a program.
pub const CANNOT_START: &str = "sdk-launch: cannot start ";

/// Where programs are looked for if the worker itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Variables of the worker that an adapter sees; also all that begin `LC_`.
/// Nothing with a secret in it is ever added here.
const PASSED: [&str; 6] = ["PATH", "LANG", "LANGUAGE", "TZ", "HOME", "TMPDIR"];

/// A program with all it is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// Variables besides those of [`passed_env`].
    pub env: Vec<(OsString, OsString)>,
    /// Where it runs; `/` unless named.
    pub cwd: Option<PathBuf>,
    /// Whether it reads its stdin.
    pub stdin: bool,
    /// Whether its stdout is read.
    pub stdout: bool,
}

impl Command {
    /// A program without arguments whose stdin and stdout are both used.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            stdin: true,
            stdout: true,
        }
    }

    /// The same with one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }
}

/// Why a program cannot be started. The text says where it was looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// No such file on the path.
    #[error("{program:?} is not on the PATH ({path})")]
    OnPath {
        /// As it was named.
        program: String,
        /// The folders that were searched.
        path: String,
    },
    /// The file named is not there.
    #[error("{0} does not exist")]
    File(PathBuf),
    /// The file named is no program.
    #[error("{0} is not an executable file: set its x permission")]
    NotExecutable(PathBuf),
}

/// Finds a program: a name with a `/` is the file itself, any other is looked
/// for in the folders of `path`.
///
/// # Errors
/// [`NotFound`] says where it was looked for.
pub fn find_program(name: &OsStr, path: &OsStr) -> Result<PathBuf, NotFound> {
    if name.as_bytes().contains(&b'/') {
        let file = PathBuf::from(name);
        return match std::fs::metadata(&file) {
            Err(_) => Err(NotFound::File(file)),
            Ok(_) if !is_program(&file) => Err(NotFound::NotExecutable(file)),
            Ok(_) => Ok(file),
        };
    }
    env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| !name.is_empty() && is_program(file))
        .ok_or_else(|| NotFound::OnPath {
            program: name.to_string_lossy().into_owned(),
            path: path.to_string_lossy().into_owned(),
        })
}

/// Whether the file can be executed by this process.
fn is_program(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|about| about.is_file())
        && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Finds one of our own programs: beside this executable, else on the `PATH`.
///
/// # Errors
/// [`NotFound`] where it is in neither place.
pub fn find_own(name: &str) -> Result<PathBuf, NotFound> {
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    match beside {
        Some(file) if is_program(&file) => Ok(file),
        _ => find_program(name.as_ref(), &search_path()),
    }
}

/// Finds the launcher: the configured file, else as [`find_own`] does.
///
/// # Errors
/// [`NotFound`] where there is none.
pub fn find_launcher(configured: Option<&Path>) -> Result<PathBuf, NotFound> {
    match configured {
        Some(file) => find_program(file.as_os_str(), &search_path()),
        None => find_own(LAUNCHER),
    }
}

/// The `PATH` adapters are looked for on, and see.
#[must_use]
pub fn search_path() -> OsString {
    env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into())
}

/// What an adapter sees of this process's environment.
#[must_use]
pub fn passed_env() -> Vec<(OsString, OsString)> {
    let mut passed: Vec<_> = env::vars_os()
        .filter(|(name, _)| {
            PASSED.iter().any(|allowed| name == allowed) || name.as_bytes().starts_with(b"LC_")
        })
        .filter(|(name, _)| name != "PATH")
        .collect();
    passed.push(("PATH".into(), search_path()));
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_or_by_file() {
        let path = OsStr::new("relative:/nonexistent:/usr/bin:/bin");
        let shell = find_program(OsStr::new("sh"), path).unwrap();
        assert!(shell.is_absolute() && shell.ends_with("sh"));
        assert_eq!(find_program(shell.as_os_str(), path).unwrap(), shell);

        let missing = find_program(OsStr::new("no-such-program"), path).unwrap_err();
        assert!(missing.to_string().contains("not on the PATH"), "{missing}");
        let missing = find_program(OsStr::new("/no/such/program"), path).unwrap_err();
        assert_eq!(missing, NotFound::File("/no/such/program".into()));
        let plain = find_program(OsStr::new("/etc/passwd"), path).unwrap_err();
        assert_eq!(plain, NotFound::NotExecutable("/etc/passwd".into()));
        assert!(find_program(OsStr::new(""), path).is_err());
        assert!(find_program(OsStr::new("/usr/bin"), path).is_err(), "a folder is no program");
    }

    #[test]
    fn only_listed_variables_pass() {
        for (name, _) in passed_env() {
            let name = name.to_string_lossy();
            assert!(PASSED.contains(&&*name) || name.starts_with("LC_"), "{name}");
        }
        assert!(passed_env().iter().any(|(name, _)| name == "PATH"));
    }
}
