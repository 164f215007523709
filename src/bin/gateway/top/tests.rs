//! Whole frames against files: `BLESS=1 cargo test --bin gateway` writes them
//! anew, to be looked at before they are kept. And what keys do.

use std::{fs, path::Path};

use audio_gateway::bus::messages::{Leader, WorkerPhase, WorkerView};
use ratatui::{Terminal, backend::TestBackend, style::Modifier};
use serde_json::{Value, json};

use super::{
    model::{Front, Key, Model, Pane, Picture, Rates, Wish},
    view,
};

const NOW: u64 = 1_767_225_600_000;

#[expect(clippy::needless_pass_by_value, reason = "each is made where it is named")]
fn worker(name: &str, more: Value) -> WorkerView {
    let mut worker = json!({
        "worker": name, "phase": "running", "version": "0.1.0",
        "load": {"cores": 8.0, "cores_used": 1.2, "memory": 17_179_869_184_u64,
                 "memory_used": 3_221_225_472_u64, "sessions_max": 1500, "session_cost": 0.012},
        "adapters": ["ffmpeg", "sim"], "labels": {"zone": "a"}, "sessions": 41, "heard_ms": 180,
    });
    worker.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(worker).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "each is made where it is named")]
fn task(name: &str, room: &str, state: &str, seconds: u64, more: Value) -> Value {
    let mut task = json!({
        "task": name, "room": room, "sdk": "sim", "state": state, "epoch": NOW - 1_000 * seconds,
        "priority": 5, "created_ms": 0, "changed_ms": NOW - 1_000 * seconds,
    });
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    task
}

/// A night in which a few things go wrong.
fn night() -> Model {
    let mut model = Model::new("nats://10.0.0.1:4222");
    model.now_ms = NOW;
    let silent = json!({"heard_ms": 3_400, "sessions": 12});
    let leaving = json!({"phase": "lame_duck", "sessions": 7, "heard_ms": 60});
    let put_away = json!({"quarantined": [{"adapter": "ffmpeg", "for_ms": 41_000,
                                            "reason": "cannot start: no such file"}]});
    let full = json!({"load": {"cores": 4.0, "cores_used": 3.4, "memory": 8_589_934_592_u64,
                               "memory_used": 8_000_000_000_u64, "sessions_max": 30,
                               "session_cost": 0.1}, "sessions": 30});
    let tasks = vec![
        task("call-1", "1", "running", 4_000, json!({"worker": "w-blue-1"})),
        task("call-2", "2", "running", 90, json!({"worker": "w-blue-1"})),
        task(
            "call-3",
            "3",
            "pending",
            12,
            json!({"epoch": 0,
             "reason": "every worker that could take it is full: add one"}),
        ),
        task(
            "call-4",
            "4",
            "failed",
            300,
            json!({"worker": "w-blue-2",
             "reason": "the adapter keeps failing: exit status: 1; it wrote: token expired, ask \
                        the vendor's console for a new one and hand the task in again"}),
        ),
        task(
            "a-call-with-a-name-too-long-for-its-column",
            "5",
            "draining",
            1,
            json!({
             "worker": "w-green-1", "reason": "worker w-blue-2 drains"}),
        ),
        task("call-6", "6", "starting", 2, json!({"worker": "w-green-1"})),
    ];
    model.heard(Picture {
        workers: vec![
            worker("w-blue-1", full),
            worker("w-blue-2", leaving),
            worker("w-green-1", json!({})),
            worker("w-green-2", put_away),
            worker("w-red-1", silent),
        ],
        tasks: tasks.into_iter().map(|task| serde_json::from_value(task).unwrap()).collect(),
        truncated: false,
        leader: Some(Leader {
            leader: Some("d1".parse().unwrap()),
            answered_by: "d2".parse().unwrap(),
            term: 1_767_225_000,
        }),
        rates: Rates {
            events: Some(1.5),
            submits: Some(0.5),
            batches: Some(412.4),
            refusals: Some(0.0),
        },
        place_ms: Some((3, 42)),
    });
    model
}

/// The frame as text, a line a row; what is reversed is between `«` and `»`.
fn drawn(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut marked = false;
        for x in 0..width {
            let cell = &buffer[(x, y)];
            let reversed = cell.modifier.contains(Modifier::REVERSED);
            if reversed != marked {
                line.push(if reversed { '«' } else { '»' });
                marked = reversed;
            }
            line.push_str(cell.symbol());
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[track_caller]
fn looks_like(name: &str, model: &Model, width: u16, height: u16) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/gateway/top/frames").join(name);
    let frame = drawn(model, width, height);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &frame).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == frame, "{} is\n{frame}\nand not\n{kept}", path.display());
}

#[test]
fn a_night_at_several_sizes() {
    let mut model = night();
    looks_like("night-80x24.txt", &model, 80, 24);
    looks_like("night-120x40.txt", &model, 120, 40);
    looks_like("night-40x12.txt", &model, 40, 12);
    model.press(Key::Tab);
    looks_like("tasks-80x24.txt", &model, 80, 24);
}

#[test]
fn what_stands_in_front() {
    let mut model = night();
    model.press(Key::Char('?'));
    looks_like("help-80x24.txt", &model, 80, 24);
    model.press(Key::Esc);
    model.press(Key::Char('d'));
    looks_like("drain-80x24.txt", &model, 80, 24);
}

#[test]
fn nothing_there_and_nobody_who_answers() {
    let mut model = Model::new("nats://10.0.0.1:4222");
    model.now_ms = NOW;
    model.failed(
        "nobody answers on gateway.admin.workers: is the program that serves it running?".into(),
    );
    model.now_ms = NOW + 12_000;
    looks_like("nobody-80x24.txt", &model, 80, 24);
    model.heard(Picture {
        leader: Some(Leader { leader: None, answered_by: "d2".parse().unwrap(), term: 7 }),
        ..Picture::default()
    });
    looks_like("empty-80x24.txt", &model, 80, 24);
}

#[test]
fn no_size_is_too_small_to_draw() {
    let mut model = night();
    for front in [Front::Nothing, Front::Help, Front::Drain("w-blue-1".parse().unwrap())] {
        model.front = front;
        for (width, height) in [(1, 1), (2, 30), (200, 2), (7, 7), (20, 4), (500, 120)] {
            drawn(&model, width, height);
        }
    }
}

#[test]
fn a_worker_is_drained_only_where_it_is_meant() {
    let mut model = night();
    assert_eq!(model.press(Key::Char('d')), None);
    assert_eq!(model.press(Key::Char('n')), None);
    assert_eq!(model.notice, "nothing was done");
    assert_eq!(model.press(Key::Char('y')), None, "a `y` out of the blue does nothing");
    model.press(Key::Char('d'));
    let first = Wish::Drain("w-blue-1".parse().unwrap());
    assert_eq!(model.press(Key::Char('y')), Some(first));
    // One that drains already is undrained instead.
    model.press(Key::Down);
    model.press(Key::Char('d'));
    assert_eq!((model.notice.as_str(), &model.front), ("w-blue-2 drains already", &Front::Nothing));
    model.press(Key::Char('u'));
    let second = Wish::Undrain("w-blue-2".parse().unwrap());
    assert_eq!(model.press(Key::Char('y')), Some(second));
    model.press(Key::Tab);
    model.press(Key::Char('d'));
    assert!(model.notice.contains("choose a worker"));
}

#[test]
fn the_question_stays_with_the_worker_it_was_asked_about() {
    let mut model = night();
    model.press(Key::Char('d'));
    // Meanwhile that worker goes, and another stands in its row.
    model.picture.workers.remove(0);
    let asked = Wish::Drain("w-blue-1".parse().unwrap());
    assert_eq!(model.press(Key::Char('y')), Some(asked));
}

#[test]
fn what_is_chosen_stays_chosen_where_rows_move() {
    let mut model = night();
    model.press(Key::Char('j'));
    model.press(Key::Char('j'));
    assert_eq!(model.worker().unwrap().worker.as_str(), "w-green-1");
    model.press(Key::Char('s'));
    assert_eq!(model.order(Pane::Workers), "rooms");
    assert_eq!(model.worker().unwrap().worker.as_str(), "w-green-1");
    model.press(Key::End);
    assert_eq!(model.chosen(Pane::Workers), 4);
    model.press(Key::Home);
    model.press(Key::Up);
    assert_eq!(model.chosen(Pane::Workers), 0);
}

#[test]
fn a_filter_finds_text_anywhere() {
    let mut model = night();
    model.press(Key::Char('/'));
    "TOKEN q".chars().for_each(|letter| assert_eq!(model.press(Key::Char(letter)), None));
    model.press(Key::Backspace);
    model.press(Key::Backspace);
    model.press(Key::Enter);
    let found: Vec<_> = model.tasks().iter().map(|task| task.task.to_string()).collect();
    assert_eq!(found, ["call-4"]);
    assert!(model.workers().is_empty());
    model.press(Key::Esc);
    assert_eq!((model.tasks().len(), model.workers().len()), (6, 5));
}

#[test]
fn trouble_comes_first() {
    let model = night();
    let order: Vec<_> = model.tasks().iter().map(|task| task.state.to_string()).collect();
    assert_eq!(order, ["failed", "pending", "draining", "starting", "running", "running"]);
    assert_eq!(model.picture.workers[1].phase, WorkerPhase::LameDuck);
}

#[test]
fn two_keys_leave() {
    for key in [Key::Char('q'), Key::Interrupt] {
        assert_eq!(night().press(key), Some(Wish::Quit));
    }
    let mut model = night();
    model.press(Key::Char('/'));
    assert_eq!(model.press(Key::Char('q')), None);
    assert_eq!(model.press(Key::Interrupt), Some(Wish::Quit));
}
