//! The programs of the demo as child processes: started, killed, and none left
//! behind, whatever way the demo itself ends.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{
    Pid, Signal, kill_process_group, set_parent_process_death_signal, test_kill_process,
};
use tokio::time::sleep;

/// How long programs may take to leave when asked to.
const LEAVE: Duration = Duration::from_secs(3);
/// How often it is looked whether a process has ended. Those that are not
/// our children tell nobody.
const LOOK: Duration = Duration::from_millis(10);
/// Lines of a log that are shown where a program failed.
const TAIL: usize = 8;

/// One program. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program whose output goes to `log`. It dies with this process:
    /// its parent is the main thread, which lives as long.
    pub(crate) fn start(
        name: &str,
        file: &Path,
        args: &[&OsStr],
        env: &[(&str, &str)],
        log: PathBuf,
    ) -> Result<Self> {
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(file);
        command
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Of its own, so that Ctrl-C reaches the demo alone.
            .process_group(0);
        // SAFETY: one system call, which allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", file.display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    /// Fails where it has ended, with the last lines it wrote.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}); it said:\n{}", self.name, tail(&self.log));
        }
        Ok(())
    }

    /// Kills it alone, without warning, and waits for its end.
    pub(crate) fn kill(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to leave.
    fn ask_to_leave(&self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::TERM);
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        self.kill();
    }
}

/// Lets all programs leave, in this order, and kills those that do not.
/// Returns the processes that still live, of them and of what they started.
pub(crate) async fn stop(programs: Vec<Program>) -> Vec<String> {
    let mut all = Vec::new();
    for program in &programs {
        all.push(program.pid());
        all.extend(descendants(program.pid()));
    }
    for mut program in programs {
        program.ask_to_leave();
        let until = Instant::now() + LEAVE;
        while !program.has_ended() && Instant::now() < until {
            sleep(LOOK).await;
        }
    }
    let until = Instant::now() + LEAVE;
    while all.iter().any(|&pid| is_alive(pid)) && Instant::now() < until {
        sleep(LOOK).await;
    }
    all.into_iter().filter(|&pid| is_alive(pid)).map(described).collect()
}

/// Every process below this one.
pub(crate) fn descendants(of: i32) -> Vec<i32> {
    let processes: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.1)))
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let of_parent = processes.iter().filter(|(_, its_parent)| *its_parent == parent);
        found.extend(of_parent.map(|(pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}

/// Whether there is such a process; one that has ended and waits to be noticed
/// is none.
pub(crate) fn is_alive(pid: i32) -> bool {
    let there = Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    there && stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn described(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " ").trim())
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_else(|error: io::Error| error.to_string());
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    last.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}
