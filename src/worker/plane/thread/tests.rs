//! What the audio thread does with what it is told.

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;

use super::*;
use crate::{
    bus::messages::Clock,
    sdk::{
        adapter::Mode,
        pipe::{Encoder, FromAdapter},
        process::Pipe,
    },
    task::{Epoch, Params, Pull},
    worker::plane::{Plane, outbox},
};

/// A thread that obeys what comes out of this queue, and what it reports.
fn thread(queue: Receiver<Command>, reports: usize) -> (Thread, mpsc::Receiver<Report>) {
    let (publish, _batches) = outbox();
    let (record, _recorded) = mpsc::channel(1);
    let (again, _agains) = mpsc::channel(1);
    let (reports, reported) = mpsc::channel(reports);
    let (stats, rooms) = (watch::Sender::new(PlaneStats::default()), watch::Sender::default());
    let out = Outlets { publish, record, again, reports };
    (Thread::new(queue, out, 0, stats, rooms), reported)
}

/// What a thread reports that is told all this at once, and then to stop.
fn told(commands: Vec<Command>) -> Vec<Report> {
    let count = commands.len() + 1;
    let (sender, queue) = std::sync::mpsc::sync_channel(count);
    for command in commands.into_iter().chain([Command::Stop]) {
        sender.try_send(command).unwrap();
    }
    let (thread, mut reported) = thread(queue, 2 * count);
    thread.run();
    std::iter::from_fn(|| reported.try_recv().ok()).collect()
}

fn spec() -> Box<Spec> {
    Box::new(Spec {
        room: "r".parse().unwrap(),
        task: "t".parse().unwrap(),
        epoch: Epoch(1),
        origin_us: 0,
        worker: "w".parse().unwrap(),
        mode: Mode::Framed,
        params: Params::default(),
        pull: Some(Pull::default()),
        push: None,
        held: false,
        taken_over: false,
    })
}

#[test]
fn what_is_left_to_do_at_the_end_is_done() {
    let (publish, _batches) = outbox();
    let (record, _recorded) = mpsc::channel(1);
    let (again, _agains) = mpsc::channel(1);
    let count = 2 * limits::PLANE_COMMANDS as u64;
    let (reports, mut reported) = mpsc::channel(2 * limits::PLANE_COMMANDS);
    let mut plane = Plane::start(Outlets { publish, record, again, reports }, 0).unwrap();
    let all = || (0..count).map(ChildKey);
    plane.stop(all().map(|child| Command::Drain(SessionKey(child.0), child)));
    assert!(all().all(|child| reported.try_recv() == Ok(Report::Drained(child))));
}

#[test]
fn every_command_is_obeyed_however_many_come_at_once() {
    let all = || (0..5 * COMMANDS_AT_ONCE as u64 + 1).map(ChildKey);
    let reports = told(all().map(|child| Command::Drain(SessionKey(child.0), child)).collect());
    assert_eq!(reports, all().map(Report::Drained).collect::<Vec<_>>());
}

#[test]
fn the_last_words_of_an_adapter_that_is_gone_are_heard() {
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
    let mut said = Vec::new();
    let bye = FromAdapter::Bye { reason: "the call is over".to_owned() };
    Encoder::default().write(&bye, &mut said).unwrap();
    rustix::io::write(&writer, &said).unwrap();
    drop(writer);
    let (session, child) = (SessionKey(1), ChildKey(2));
    let stdout = Some(Pipe { fd: reader, capacity: 65_536 });
    let reports = told(vec![
        Command::Open(session, spec()),
        Command::Attach { session, child, stdin: None, stdout },
        Command::Drain(session, child),
    ]);
    let bye = Report::Adapter(child, Word::Bye("the call is over".to_owned()));
    assert_eq!(reports, [bye, Report::Drained(child)]);
}

#[test]
fn what_a_clock_shows_goes_with_what_is_reported_next() {
    let (_commands, queue) = std::sync::mpsc::sync_channel(1);
    let (mut thread, mut reported) = thread(queue, 10);
    let (first, second) = (SessionKey(1), SessionKey(2));
    for session in [first, second] {
        thread.obey(Command::Open(session, spec()));
    }
    let clock = || {
        let corrected_samples = 320;
        let clock = Clock { adapter_us: None, drift_ppm: None, delay_ms: None, corrected_samples };
        Notice::News { pos: 1, time: 2, what: RoomNews::Clock(clock) }
    };
    let mut say = |thread: &mut Thread, session, notice| {
        thread.effects.notices.push(notice);
        thread.apply(session, 0);
        let said = std::iter::from_fn(|| match reported.try_recv().ok()? {
            Report::Event(event) => Some(event.what),
            other => panic!("{other:?}"),
        });
        said.map(|what| matches!(what, RoomNews::Clock(_))).collect::<Vec<_>>()
    };
    assert!(say(&mut thread, first, clock()).is_empty());
    let muted = RoomNews::Muted { track: "a".parse().unwrap() };
    let muted = Notice::News { pos: 1, time: 2, what: muted };
    assert_eq!(say(&mut thread, second, muted), [true, false], "in order");
    assert!(say(&mut thread, first, clock()).is_empty());
    assert!(say(&mut thread, second, clock()).is_empty());
    // Or a fifth of a second later.
    thread.tidy_due = 0;
    thread.tidy();
    assert_eq!(reported.len(), 2);
}
