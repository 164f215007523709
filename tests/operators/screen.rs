//! `gateway top` on a real terminal: what it draws, and that the terminal is as
//! it was when it goes, however it goes.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{
    rig::{Rig, SOON},
    support::eventually,
};

/// A program on a terminal of its own.
struct Terminal {
    keys: File,
    program: std::process::Child,
    /// The program's end of it, kept to be looked at.
    line: OwnedFd,
    drawn: Arc<Mutex<String>>,
}

const ROWS: usize = 24;
const COLUMNS: usize = 100;

/// What stands on the screen after all that was written to it, as far as this
/// program writes: text, and where it goes.
fn screen(written: &str) -> String {
    let mut rows = vec![vec![' '; COLUMNS]; ROWS];
    let (mut row, mut column) = (0, 0);
    let mut rest = written.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter != '\x1b' {
            if let Some(cell) = rows.get_mut(row).and_then(|row| row.get_mut(column)) {
                *cell = letter;
            }
            column += 1;
        } else if rest.next_if_eq(&'[').is_some() {
            let mut numbers = String::new();
            while let Some(letter) = rest.next_if(|letter| !letter.is_ascii_alphabetic()) {
                numbers.push(letter);
            }
            if rest.next() == Some('H') {
                let mut at = numbers.split(';').map(|text| text.parse().unwrap_or(1_usize) - 1);
                (row, column) = (at.next().unwrap_or(0), at.next().unwrap_or(0));
            }
        }
    }
    rows.into_iter().map(|row| row.into_iter().collect::<String>() + "\n").collect()
}

impl Terminal {
    fn start(rig: &Rig, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let line = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let (ws_row, ws_col) = (ROWS as u16, COLUMNS as u16);
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&line, size).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        let program = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(args)
            .env("NATS_URL", rig.server.url())
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let drawn = Arc::new(Mutex::new(String::new()));
        let kept = drawn.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { keys, program, line, drawn }
    }

    async fn shows(&self, text: &str) {
        eventually(text, SOON, async || {
            screen(&self.drawn.lock().unwrap()).contains(text).then_some(())
        })
        .await;
    }

    async fn writes(&self, text: &str) {
        let written = async || self.drawn.lock().unwrap().contains(text).then_some(());
        eventually(text, SOON, written).await;
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits for its end; the terminal is as it was.
    async fn ends(&mut self) -> Option<i32> {
        let ended = eventually("end", SOON, async || self.program.try_wait().unwrap()).await.code();
        assert!(!self.is_raw(), "the terminal is left raw");
        self.writes("\x1b[?1049l").await;
        ended
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[tokio::test]
async fn the_whole_is_drawn_and_a_key_leaves() {
    let rig = Rig::start(&["d1", "w1"]).await;
    rig.runs("call-42", "room-42").await;
    let mut top = Terminal::start(&rig, &["top"]);
    top.writes("\x1b[?1049h").await;
    for text in ["leader d1", "WORKER", "w1", "call-42", "room-42", "running"] {
        top.shows(text).await;
    }
    assert!(top.is_raw());
    top.press("?");
    top.shows("any key goes back").await;
    top.press(" q");
    assert_eq!(top.ends().await, Some(0));
}

#[tokio::test]
async fn the_terminal_is_given_back_at_ctrl_c_and_at_signals() {
    let rig = Rig::start(&["d1"]).await;
    for signal in [None, Some(Signal::TERM), Some(Signal::INT), Some(Signal::HUP)] {
        let mut top = Terminal::start(&rig, &["top"]);
        top.shows("no worker is there").await;
        match signal {
            None => top.press("\x03"),
            Some(signal) => kill_process(Pid::from_child(&top.program), signal).unwrap(),
        }
        assert_eq!(top.ends().await, Some(0), "{signal:?}");
    }
}

#[tokio::test]
async fn a_worker_is_drained_from_there_once_it_is_meant() {
    let rig = Rig::start(&["d1", "w1"]).await;
    let mut top = Terminal::start(&rig, &["top"]);
    top.shows("w1").await;
    top.press("d");
    top.shows("Drain w1?").await;
    top.press("y");
    top.shows("draining").await;
    let workers = rig.json(&["workers"]).await;
    assert_eq!(workers[0]["phase"], "lame_duck");
    top.press("q");
    assert_eq!(top.ends().await, Some(0));
}

#[tokio::test]
async fn where_there_is_no_terminal_programs_are_told_what_to_use() {
    let rig = Rig::start(&[]).await;
    let said = rig.run(&["top"]).await;
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("gateway workers --json"), "{}", said.err);
}
