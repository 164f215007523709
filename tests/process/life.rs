//! From the start of a process to its end: what it sees, what is seen of it,
//! and how it is made to leave.

use std::time::{Duration, Instant};

use audio_gateway::{
    id::TaskId,
    limits,
    sdk::{
        launch::{Command, MARKER},
        process::{ChildKey, End, Patience, SpawnError, SpawnRequest, Stop, Supervisor},
    },
};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::*;

#[tokio::test]
async fn the_end_is_reported_with_code_and_last_words() {
    let mut bench = Bench::new();
    let spawned = bench.sh(7, "echo why >&2; exit 3").await;
    let exit = bench.exit().await;
    assert_eq!((exit.key, exit.pid, exit.end), (ChildKey(7), spawned.pid, End::Code(3)));
    assert_eq!((exit.task.as_str(), exit.stopped), ("t7", None));
    assert_eq!(exit.stderr_tail, "why");
    bench.sh(7, "kill -SEGV $$").await;
    assert_eq!(bench.exit().await.end, End::Signal(11));
    bench.shut_down().await;
}

#[tokio::test]
async fn the_end_of_stdin_is_leave() {
    let mut bench = Bench::new();
    let mut spawned = bench.sh(1, "cat").await;
    rustix::io::write(&spawned.stdin.as_ref().unwrap().fd, b"hello").unwrap();
    assert_eq!(read_until(&spawned, Some("hello")), "hello");
    bench.stop(1, Stop::Leave);
    spawned.stdin = None;
    let exit = bench.exit().await;
    assert_eq!((exit.end, exit.stopped), (End::Code(0), Some(Stop::Leave)));
    bench.shut_down().await;
}

#[tokio::test]
async fn what_does_not_leave_is_terminated_and_then_killed() {
    let mut bench = Bench::new();
    let polite = bench.sh(1, "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done").await;
    read_until(&polite, Some("ready"));
    bench.stop(1, Stop::Leave);
    let exit = bench.exit().await;
    assert_eq!((exit.end, exit.stopped), (End::Code(5), Some(Stop::Terminate)));

    let deaf = bench.sh(2, "trap '' TERM; echo ready; while :; do sleep 0.05; done").await;
    read_until(&deaf, Some("ready"));
    let began = Instant::now();
    bench.stop(2, Stop::Leave);
    bench.stop(2, Stop::Leave);
    let exit = bench.exit().await;
    assert_eq!((exit.end, exit.stopped), (End::Signal(9), Some(Stop::Kill)));
    assert!(began.elapsed() >= PATIENCE.leave + PATIENCE.terminate);
    bench.shut_down().await;
}

#[tokio::test]
async fn one_without_a_stdin_is_terminated_at_once() {
    let patience = Patience { leave: 10 * DEADLINE, terminate: 10 * DEADLINE };
    let mut bench = Bench::with(patience);
    let command = Command { stdin: false, ..sh("readlink /proc/self/fd/0; exec sleep 600") };
    let spawned = bench.spawn(1, command).await.unwrap();
    assert!(spawned.stdin.is_none());
    assert_eq!(read_until(&spawned, Some("\n")), "/dev/null\n");
    bench.stop(1, Stop::Leave);
    assert_eq!(bench.exit().await.end, End::Signal(15));

    let command = Command { stdout: false, ..sh("out=$(readlink /proc/$$/fd/1); echo $out >&2") };
    assert!(bench.spawn(2, command).await.unwrap().stdout.is_none());
    assert_eq!(bench.exit().await.stderr_tail, "/dev/null");
    bench.shut_down().await;
}

#[tokio::test]
async fn grandchildren_end_with_their_leader() {
    let mut bench = Bench::new();
    let leaves = "sleep 600 & echo $!; (trap '' TERM HUP; sleep 600; sleep 600) & echo $! ready";
    let spawned = bench.sh(1, leaves).await;
    let children = pids(&read_until(&spawned, Some("ready")));
    assert_eq!(bench.exit().await.end, End::Code(0));
    assert_eq!(children.len(), 2);
    assert!(children.iter().all(|&pid| ends(pid, GONE)));

    let stays = bench.sh(2, &format!("{leaves}; wait")).await;
    let children = pids(&read_until(&stays, Some("ready")));
    bench.stop(2, Stop::Kill);
    assert_eq!(bench.exit().await.end, End::Signal(9));
    assert!(children.iter().all(|&pid| ends(pid, GONE)));
    bench.shut_down().await;
}

#[tokio::test]
async fn one_that_left_its_group_ends_with_the_supervisor() {
    let mut bench = Bench::new();
    let spawned = bench.sh(1, "setsid sh -c 'echo $$ ready; exec sleep 600' & wait").await;
    let stray = pids(&read_until(&spawned, Some("ready")));
    bench.stop(1, Stop::Kill);
    bench.exit().await;
    assert!(!ends(stray[0], Duration::ZERO), "out of reach until the guard sweeps");
    bench.shut_down().await;
    assert!(ends(stray[0], GONE));
}

/// While a process executes a program it shows no environment to be known by.
#[tokio::test]
async fn one_that_executes_itself_for_ever_ends_with_the_supervisor() {
    let executes = r#"again='exec sh -c "$0" "$0"'
        setsid sh -c 'echo $$ ready; exec sh -c "$0" "$0"' "$again" & wait"#;
    for _ in 0..20 {
        let mut bench = Bench::new();
        let spawned = bench.sh(1, executes).await;
        let stray = pids(&read_until(&spawned, Some("ready")));
        bench.stop(1, Stop::Kill);
        bench.exit().await;
        bench.shut_down().await;
        let ended = ends(stray[0], GONE);
        if !ended {
            // A test that fails leaves nothing running for ever.
            let _ = Pid::from_raw(stray[0]).map(|pid| kill_process(pid, Signal::KILL));
        }
        assert!(ended, "process {} lives on", stray[0]);
    }
}

#[tokio::test]
async fn a_flood_on_stderr_neither_blocks_nor_grows() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
    };
    let mut bench = Bench::new();
    let before = resident();
    bench.sh(1, "head -c 50000000 /dev/zero | tr '\\0' x >&2; exit 4").await;
    bench.sh(2, "yes 'a line of no great length' | head -c 50000000 >&2; exit 4").await;
    for _ in 0..2 {
        let exit = bench.exit().await;
        assert_eq!(exit.end, End::Code(4));
        assert!(exit.stderr_tail.len() <= limits::STDERR_TAIL);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 25_000_000, "{grown} bytes more for 100 MB");
    bench.shut_down().await;
}

#[tokio::test]
async fn two_hundred_quick_ones_are_all_reaped() {
    let mut bench = Bench::new();
    let mut pids = Vec::new();
    for key in 0..200 {
        pids.push(bench.spawn(key, Command::new("true")).await.unwrap().pid);
    }
    for _ in 0..200 {
        assert_eq!(bench.exit().await.end, End::Code(0));
    }
    let own = std::process::id().to_string();
    for pid in pids {
        // "pid (name) state parent …"
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        assert_ne!(parent, Some(own.as_str()), "{stat}");
    }
    bench.shut_down().await;
}

#[tokio::test]
async fn the_environment_is_a_short_list() {
    let mut bench = Bench::new();
    let mut command = sh("env; pwd");
    command.env.push(("LEVEL".into(), "3".into()));
    command.env.push(("NATS_CREDS".into(), "secret".into()));
    let spawned = bench.spawn(1, command).await.unwrap();
    bench.exit().await;
    let seen = read_until(&spawned, None);
    let listed = ["PATH", "LANG", "LANGUAGE", "TZ", "HOME", "TMPDIR", "LEVEL", MARKER];
    let of_shell = ["PWD", "OLDPWD", "SHLVL", "_"];
    let ours = std::env::vars().any(|(name, _)| !listed.contains(&&*name));
    assert!(ours, "this test needs an environment with something to hide");
    for (name, value) in seen.lines().filter_map(|line| line.split_once('=')) {
        let allowed = listed.contains(&name) || of_shell.contains(&name) || name.starts_with("LC_");
        assert!(allowed, "{name}={value}");
    }
    assert!(seen.contains("LEVEL=3\n") && seen.contains("PATH=/") && seen.ends_with("\n/\n"));
    bench.shut_down().await;
}

#[tokio::test]
async fn signals_and_descriptors_are_not_inherited() {
    // The thread that starts it blocks every signal; this holds a descriptor
    // without close-on-exec.
    let kept = rustix::io::dup(std::fs::File::open("/dev/null").unwrap()).unwrap();
    let mut bench = Bench::new();
    // Not through a shell, which would clear the mask itself.
    let mut bare = async |key, program: &str, file: &str| {
        let spawned = bench.spawn(key, Command::new(program).arg(file)).await.unwrap();
        bench.exit().await;
        read_until(&spawned, None)
    };
    let status = bare(1, "cat", "/proc/self/status").await;
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    // Rust ignores SIGPIPE; and glibc its own 32 and 33 in whatever it spawns.
    assert_eq!(mask("SigIgn:") & 0x7fff_ffff, 0);
    let open = bare(2, "ls", "/proc/self/fd").await;
    assert_eq!(open, "0\n1\n2\n3\n", "3 is the folder ls reads");
    drop(kept);
    bench.shut_down().await;
}

#[tokio::test]
async fn a_program_that_cannot_run_is_named() {
    let mut bench = Bench::new();
    let error = bench.spawn(1, Command::new("no-such-program")).await.unwrap_err();
    assert!(matches!(error, SpawnError::NotFound(_)));
    assert!(error.to_string().contains("\"no-such-program\" is not on the PATH"), "{error}");
    let error = bench.spawn(1, Command::new("/etc/passwd")).await.unwrap_err();
    assert!(error.to_string().contains("/etc/passwd is not an executable"), "{error}");
    let command = Command { cwd: Some("/no/such".into()), ..sh("true") };
    let error = bench.spawn(1, command).await.unwrap_err();
    assert!(error.to_string().contains("the folder to run in"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.spawn(1, Command::new(&script)).await.unwrap();
    match bench.exit().await.end {
        End::NotStarted(why) => assert!(why.contains("script") && why.contains("No such"), "{why}"),
        other => panic!("{other}"),
    }
    bench.shut_down().await;

    let error = Supervisor::start("/no/such/launcher".into(), PATIENCE).unwrap_err();
    assert!(error.to_string().contains("/no/such/launcher"), "{error}");
}

#[tokio::test]
async fn a_key_is_one_living_process() {
    let mut bench = Bench::new();
    let first = bench.sh(1, "exec sleep 600").await;
    let error = bench.spawn(1, sh("true")).await.unwrap_err();
    assert!(matches!(error, SpawnError::Duplicate(ChildKey(1))));
    bench.stop(2, Stop::Kill);
    bench.stop(1, Stop::Kill);
    assert_eq!(bench.exit().await.pid, first.pid);
    bench.sh(1, "true").await;
    bench.exit().await;

    let supervisor = bench.supervisor.clone();
    bench.shut_down().await;
    let task = TaskId::parse("late").unwrap();
    let request = SpawnRequest { key: ChildKey(9), task, command: sh("true") };
    assert!(matches!(supervisor.spawn(request).await, Err(SpawnError::Stopped)));
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_is_taken_back() {
    let bench = Bench::new();
    for key in 0..20 {
        // Polled once, so the order is given, and dropped.
        let mut order = std::pin::pin!(bench.spawn(key, sh("exec sleep 600")));
        std::future::poll_fn(|cx| {
            // One that is answered at once is not taken back.
            if order.as_mut().poll(cx).is_ready() {
                bench.stop(key, Stop::Kill);
            }
            std::task::Poll::Ready(())
        })
        .await;
    }
    // Orders are served in turn: after this one all of those have been.
    let last = bench.sh(99, "exec sleep 600").await;
    let mut bench = bench;
    bench.stop(99, Stop::Kill);
    while bench.exit().await.pid != last.pid {}
    tokio::time::timeout(DEADLINE, bench.supervisor.shut_down(Stop::Leave)).await.unwrap();
    while let Some(exit) = bench.exits.recv().await {
        assert_eq!(exit.stopped, Some(Stop::Kill), "{exit:?}");
    }
}

#[tokio::test]
async fn shutting_down_ends_all_and_can_be_hurried() {
    let patience = Patience { leave: 10 * DEADLINE, terminate: 10 * DEADLINE };
    let mut bench = Bench::with(patience);
    let mut kept = Vec::new();
    for key in 0..5 {
        kept.push(bench.sh(key, "cat").await);
    }
    let supervisor = bench.supervisor.clone();
    let gentle = tokio::spawn(async move { supervisor.shut_down(Stop::Leave).await });
    tokio::task::yield_now().await; // so that it has been asked for
    drop(kept.pop());
    let exit = bench.exit().await;
    assert_eq!((exit.end, exit.stopped), (End::Code(0), Some(Stop::Leave)));
    tokio::time::timeout(DEADLINE, bench.supervisor.shut_down(Stop::Kill)).await.unwrap();
    gentle.await.unwrap();
    let mut ends = Vec::new();
    while let Some(exit) = bench.exits.recv().await {
        ends.push(exit.end);
    }
    assert_eq!(ends, vec![End::Signal(9); 4]);
}

#[tokio::test]
async fn what_each_uses_can_be_read() {
    let mut bench = Bench::new();
    let spawned =
        bench.sh(1, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo ready; cat").await;
    let _idle = bench.sh(2, "cat").await;
    read_until(&spawned, Some("ready"));
    let times = bench.supervisor.cpu_times();
    assert_eq!(times.iter().map(|usage| usage.key.0).collect::<Vec<_>>(), [1, 2]);
    assert!(times[0].cpu > Duration::from_millis(1), "{times:?}");
    let resident = bench.supervisor.resident(&[ChildKey(1), ChildKey(2)]);
    assert!(resident.len() == 2 && resident.iter().all(|(_, bytes)| *bytes > 10_000));
    bench.stop(1, Stop::Kill);
    let exit = bench.exit().await;
    assert!(exit.cpu >= times[0].cpu, "{:?} {times:?}", exit.cpu);
    assert_eq!(bench.supervisor.cpu_times().len(), 1);
    bench.shut_down().await;
}

#[tokio::test]
async fn our_ends_never_block_and_say_their_size() {
    let bench = Bench::new();
    let spawned = bench.sh(1, "exec sleep 600").await;
    let (stdin, stdout) = (spawned.stdin.unwrap(), spawned.stdout.unwrap());
    assert_eq!(rustix::io::read(&stdout.fd, &mut [0; 1]), Err(rustix::io::Errno::AGAIN));
    let mut written = 0;
    while let Ok(count) = rustix::io::write(&stdin.fd, &[0; 4096]) {
        written += count;
    }
    assert_eq!((written, stdout.capacity), (stdin.capacity, stdin.capacity));
    bench.shut_down().await;
}
