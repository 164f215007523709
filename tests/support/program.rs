//! A program under test as a process: its output is kept, and neither it nor
//! anything it started outlives the test.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, setsid};
use tokio::sync::watch;

use super::wait::{eventually, within};

/// How long a program's outputs are read after its end.
const LAST_LINES: Duration = Duration::from_secs(2);
/// Lines kept of each output.
const KEPT_LINES: usize = 20_000;

/// A program to be started.
#[derive(Debug)]
pub struct Program(Command);

impl Program {
    /// By path: `env!("CARGO_BIN_EXE_worker")` for one of our own.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command)
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.0.args(args);
        self
    }

    /// One more variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.0.env(key, value);
        self
    }

    /// Where it starts.
    pub fn current_dir(mut self, path: impl AsRef<std::path::Path>) -> Self {
        self.0.current_dir(path);
        self
    }

    /// Starts it as the leader of a session of its own, by which its children
    /// are found again even after it is gone.
    pub fn start(mut self) -> Running {
        // SAFETY: setsid is async-signal-safe and touches no memory.
        unsafe {
            self.0.pre_exec(|| Ok(setsid().map(|_| ())?));
        }
        let name = self.0.get_program().to_owned();
        let mut child =
            self.0.spawn().unwrap_or_else(|error| panic!("cannot start {name:?}: {error}"));
        let stdout = Lines::collect(child.stdout.take().expect("stdout is piped"));
        let stderr = Lines::collect(child.stderr.take().expect("stderr is piped"));
        Running { name, child, stdout, stderr }
    }
}

/// A process of the session that a [`Running`] leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Process id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Program and arguments.
    pub command: String,
}

/// A program that was started. Dropping it kills it and its whole session.
#[derive(Debug)]
pub struct Running {
    name: OsString,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().try_into().expect("a process id is positive")
    }

    /// Sends it a signal; one that is gone gets none.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Kills it, alone, without warning, and waits for its end.
    pub fn kill(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, where it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Waits until it ends.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("end of {:?}", self.name);
        let status = eventually(&what, deadline, async || self.exited()).await;
        // Its last lines may still be on their way to here; what it started and
        // left behind may hold its outputs open for longer.
        for output in [&self.stdout, &self.stderr] {
            let _ = tokio::time::timeout(LAST_LINES, output.closed()).await;
        }
        status
    }

    /// Waits for a line of stderr that holds `text`, from its start on.
    pub async fn says(&self, text: &str, deadline: Duration) -> String {
        self.stderr.wait(&self.name, text, deadline).await
    }

    /// Waits for a line of stdout that holds `text`, from its start on.
    pub async fn prints(&self, text: &str, deadline: Duration) -> String {
        self.stdout.wait(&self.name, text, deadline).await
    }

    /// All of stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// All of stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Lines of stderr that were logged as errors.
    pub fn errors(&self) -> Vec<String> {
        let text = self.stderr.text();
        text.lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect()
    }

    /// What lives of its session besides itself: its children, theirs, and
    /// those that were left without a parent. Zombies do not count.
    pub fn children(&self) -> Vec<Living> {
        session(self.pid()).into_iter().filter(|one| one.pid != self.pid()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let left = self.children();
        self.kill();
        for one in left {
            if let Some(pid) = Pid::from_raw(one.pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("---- stderr of {:?}\n{}", self.name, self.stderr.text());
        }
    }
}

/// The processes of one session, without zombies.
fn session(leader: i32) -> Vec<Living> {
    let numbers = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        // A process that ends while it is looked at is none.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name in brackets: state, parent, process group, session.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let alive = !matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let same = fields.nth(1)?.parse() == Ok(leader);
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
        (alive && same).then_some(Living { pid, parent, command })
    })
    .collect()
}

/// The lines of an output, read by a thread until the last writer closes it.
#[derive(Debug, Clone)]
struct Lines {
    kept: Arc<Mutex<VecDeque<String>>>,
    /// Lines read in all; closes with the output.
    read: watch::Receiver<u64>,
}

impl Lines {
    fn collect(output: impl Read + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let (count, read) = watch::channel(0);
        let lines = kept.clone();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let mut lines = lines.lock().unwrap();
                if lines.len() == KEPT_LINES {
                    lines.pop_front();
                }
                lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
                count.send_modify(|count| *count += 1);
            }
        });
        Self { kept, read }
    }

    fn text(&self) -> String {
        Vec::from(self.kept.lock().unwrap().clone()).join("\n")
    }

    /// Waits until the last writer has closed it.
    async fn closed(&self) {
        let mut read = self.read.clone();
        while read.changed().await.is_ok() {}
    }

    async fn wait(&self, name: &OsStr, text: &str, deadline: Duration) -> String {
        let mut read = self.read.clone();
        let found = || self.kept.lock().unwrap().iter().find(|line| line.contains(text)).cloned();
        within(&format!("line {text:?} from {name:?}"), deadline, async {
            loop {
                read.borrow_and_update();
                if let Some(line) = found() {
                    return line;
                }
                let closed = read.changed().await.is_err();
                if closed {
                    return found().unwrap_or_else(|| {
                        panic!("{name:?} closed its output without {text:?}:\n{}", self.text())
                    });
                }
            }
        })
        .await
    }
}
