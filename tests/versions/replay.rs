//! Today's dispatcher leads the workers of the recording and serves its
//! services: every task comes to the same end, and 0.1.0 could read every word.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use audio_gateway::{
    bus::messages::{Assign, Cancel, Get, Heartbeat, List, RefusalCode, Verdict},
    dispatch::{
        core::Core,
        io::{Answer, CallId, Input, Key, NoAnswer, Now, Outcome, Output, Record, Request, Shelf},
    },
    id::{DispatcherId, TaskId, WorkerId},
    task::{TaskSpec, TaskState},
};
use serde_json::Value;

use crate::{
    old,
    story::{STORY, Said, kind},
};

/// When the clock of the stage began.
const UNIX_MS: u64 = 1_795_370_658_000;

/// A dispatcher with a store that answers at once, and the workers' last words.
struct Stage {
    core: Core,
    start: Instant,
    ms: u64,
    store: BTreeMap<Key, (Record, u64)>,
    revision: u64,
    /// Recorded epochs and what they are today, by how often a task was given.
    epochs: Vec<(u64, u64)>,
    given: BTreeMap<TaskId, usize>,
    /// The last heartbeats, as they were recorded.
    beats: BTreeMap<WorkerId, String>,
    seq: u64,
    answers: BTreeMap<CallId, Result<Answer, RefusalCode>>,
    calls: u64,
}

impl Stage {
    fn leader() -> Self {
        let start = Instant::now();
        let now = Now { at: start, unix_ms: UNIX_MS };
        let mut stage = Self {
            core: Core::new(DispatcherId::parse("d1").unwrap(), now),
            start,
            ms: 0,
            store: BTreeMap::new(),
            revision: 0,
            epochs: Vec::new(),
            given: BTreeMap::new(),
            beats: BTreeMap::new(),
            seq: 0,
            answers: BTreeMap::new(),
            calls: 0,
        };
        for shelf in [Shelf::Tasks, Shelf::Rooms] {
            stage.hand(Input::Watching(shelf));
            stage.hand(Input::Current(shelf));
        }
        stage.hand(Input::Elected);
        stage
    }

    fn hand(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let now =
                Now { at: self.start + Duration::from_millis(self.ms), unix_ms: UNIX_MS + self.ms };
            let outputs = self.core.handle(input, now);
            inputs.extend(outputs.into_iter().rev().filter_map(|output| self.answer(output)));
        }
    }

    /// Holds each word against the old rules, and answers it.
    fn answer(&mut self, output: Output) -> Option<Input> {
        let revision = |store: &BTreeMap<Key, (Record, u64)>, key: &Key| {
            store.get(key).map_or(0, |(_, revision)| *revision)
        };
        Some(match output {
            Output::Put { record, expected } => {
                match &record {
                    Record::Task(record) => drop(old::reads::<old::TaskRecord>(&**record)),
                    Record::Room(record) => drop(old::reads::<old::RoomRecord>(&**record)),
                }
                let key = record.key();
                assert_eq!(revision(&self.store, &key), expected, "nobody else writes");
                self.revision += 1;
                self.store.insert(key.clone(), (record, self.revision));
                Input::Finished { key, outcome: Outcome::Written(self.revision) }
            }
            Output::Drop { key, .. } => {
                self.store.remove(&key);
                Input::Finished { key, outcome: Outcome::Dropped }
            }
            Output::Read(key) => {
                let outcome = Outcome::Found(self.store.get(&key).cloned());
                Input::Finished { key, outcome }
            }
            Output::Assign { worker, assign } => {
                old::reads::<old::Assign>(&*assign);
                self.translate(&assign);
                let verdict = Verdict { accepted: true, reason: String::new(), fatal: false };
                Input::Assigned { worker, assign, answer: Ok(verdict) }
            }
            Output::Revoke { worker, revoke } => {
                old::reads::<old::Revoke>(&revoke);
                Input::Revoked { worker, task: revoke.task }
            }
            // Nobody updates anything in it, and its worker serves none.
            Output::Update { .. } => return None,
            Output::Ping(worker) => Input::Ponged { worker, answer: Err(NoAnswer::NoResponder) },
            Output::Event(event) => {
                old::reads::<old::TaskEvent>(&event);
                return None;
            }
            Output::Answer { call, answer } => {
                match &answer {
                    Ok(Answer::Submitted(message)) => drop(old::reads::<old::Submitted>(message)),
                    Ok(Answer::Task(message)) => drop(old::reads::<old::TaskView>(message)),
                    Ok(Answer::Listed(message)) => drop(old::reads::<old::Listed>(message)),
                    Ok(Answer::Workers(_)) => (),
                    Err(refusal) => drop(old::reads::<old::Refusal>(refusal)),
                }
                self.answers.insert(call, answer.map_err(|refusal| refusal.error));
                return None;
            }
        })
    }

    /// The recorded assignment of this task, that often given, stands for this.
    fn translate(&mut self, assign: &Assign) {
        let count = self.given.entry(assign.task.clone()).or_default();
        let recorded = STORY
            .iter()
            .filter(|said| said.subject.ends_with(".assign"))
            .map(Said::json)
            .filter(|recorded| recorded["task"] == assign.task.as_str())
            .map(|recorded| recorded["epoch"].as_u64().unwrap())
            .take(*count + 1)
            .last()
            .expect("the recording has it");
        *count += 1;
        // Given more often than then, the last one stands for the newest.
        self.epochs.retain(|(epoch, _)| *epoch != recorded);
        self.epochs.push((recorded, assign.epoch.0));
    }

    /// Lets time pass; the workers go on beating as long as they are there.
    fn run_to(&mut self, ms: u64) {
        while self.ms < ms {
            self.ms += 10;
            if self.ms.is_multiple_of(500) {
                let beats: Vec<String> = self.beats.values().cloned().collect();
                beats.iter().for_each(|beat| self.beat(beat));
                self.hand(Input::Heard);
            }
            let due = self.core.deadline();
            if due.is_some_and(|due| due <= self.start + Duration::from_millis(self.ms)) {
                self.hand(Input::Tick);
            }
        }
    }

    /// With the epochs of today, where the recorded ones have one.
    fn today(&self, data: &str) -> String {
        let translate = |data: String, (recorded, today): &(u64, u64)| {
            data.replace(&recorded.to_string(), &today.to_string())
        };
        self.epochs.iter().fold(data.to_owned(), translate)
    }

    fn beat(&mut self, data: &str) {
        let mut beat: Heartbeat = serde_json::from_str(&self.today(data)).unwrap();
        self.seq += 1;
        beat.seq = self.seq;
        let is_last =
            !STORY.iter().any(|said| said.ms > self.ms && is_from(&said.subject, &beat.worker));
        if is_last && beat.worker.as_str() == "w1" {
            self.beats.remove(&beat.worker);
        } else {
            self.beats.insert(beat.worker.clone(), data.to_owned());
        }
        self.hand(Input::Heartbeat(Box::new(beat)));
    }

    fn call(&mut self, request: Request) -> Option<Result<Answer, RefusalCode>> {
        self.calls += 1;
        let call = CallId(self.calls);
        self.hand(Input::Call { call, request });
        self.answers.remove(&call)
    }

    fn hear(&mut self, said: &Said) {
        self.run_to(said.ms);
        let data = self.today(&said.data);
        let answer = match kind(said).as_deref() {
            Some("gateway.worker.*.heartbeat") => {
                return self.beat(&said.data);
            }
            Some("gateway.task.submit") => match TaskSpec::from_json(data.as_bytes()) {
                Ok(spec) => self.call(Request::Submit(Box::new(spec))),
                Err(_) => Some(Err(RefusalCode::BadRequest)),
            },
            Some("gateway.task.get") => {
                self.call(Request::Get(serde_json::from_str::<Get>(&data).unwrap()))
            }
            Some("gateway.task.cancel") => {
                self.call(Request::Cancel(serde_json::from_str::<Cancel>(&data).unwrap()))
            }
            Some("gateway.task.list") => {
                let list = serde_json::from_str::<List>(&data).unwrap_or_default();
                self.call(Request::List(list))
            }
            _ => return,
        };
        let answer = answer.expect("a store that answers at once keeps nobody waiting");
        let recorded = STORY.iter().find(|it| it.subject == said.reply).map(Said::json);
        let (Some(recorded), "gateway.task.submit" | "gateway.task.cancel") =
            (recorded, said.subject.as_str())
        else {
            return;
        };
        // As it was: taken, known, or refused for the same reason.
        let error = |value: &Value| value.get("error").cloned();
        let is = match answer {
            Err(code) => serde_json::json!({ "error": code }),
            Ok(Answer::Submitted(said)) => serde_json::to_value(said).unwrap(),
            Ok(Answer::Task(said)) => serde_json::to_value(said).unwrap(),
            Ok(other) => panic!("{other:?}"),
        };
        assert_eq!(error(&is), error(&recorded), "{said:?}");
        for key in ["duplicate", "task"] {
            assert_eq!(is.get(key), recorded.get(key), "{said:?}");
        }
    }

    fn ends(&self) -> BTreeMap<String, TaskState> {
        let task = |(key, (record, _)): (&Key, &(Record, u64))| match (key, record) {
            (Key::Task(task), Record::Task(record)) => Some((task.to_string(), record.state)),
            _ => None,
        };
        self.store.iter().filter_map(task).collect()
    }
}

fn is_from(subject: &str, worker: &WorkerId) -> bool {
    subject == format!("gateway.worker.{worker}.heartbeat")
}

#[test]
fn every_task_comes_to_the_same_end_under_a_dispatcher_of_today() {
    let mut stage = Stage::leader();
    STORY.iter().for_each(|said| stage.hear(said));
    let end = stage.ms + 10_000;
    stage.run_to(end);
    let mut recorded = BTreeMap::new();
    for said in STORY.iter().filter(|said| said.subject.starts_with("$KV.gateway_tasks.")) {
        let state: TaskState = serde_json::from_value(said.json()["state"].clone()).unwrap();
        recorded.insert(said.subject.rsplit('.').next().unwrap().to_owned(), state);
    }
    assert_eq!(stage.ends(), recorded);
    assert_eq!(recorded.len(), 5);
}

#[test]
fn a_dispatcher_of_today_takes_over_and_moves_nothing() {
    let start = Instant::now();
    let mut core = Core::new(DispatcherId::parse("d2").unwrap(), Now { at: start, unix_ms: 0 });
    let mut out = Vec::new();
    let mut hand = |core: &mut Core, ms: u64, input: Input| {
        let now = Now { at: start + Duration::from_millis(ms), unix_ms: UNIX_MS + ms };
        out.extend(core.handle(input, now));
    };
    for shelf in [Shelf::Tasks, Shelf::Rooms] {
        hand(&mut core, 0, Input::Watching(shelf));
        hand(&mut core, 0, Input::Current(shelf));
    }
    // Up to where both rooms run on the second worker; then the old one resigns.
    let resigned = STORY.iter().position(|said| said.headers.contains_key("KV-Operation"));
    let mut last = None;
    for (revision, said) in STORY.iter().take(resigned.unwrap()).enumerate() {
        let record = match kind(said).as_deref() {
            Some("$KV.gateway_tasks") => Record::Task(
                serde_json::from_str::<_>(&said.data).map(std::sync::Arc::new).unwrap(),
            ),
            Some("$KV.gateway_rooms") => Record::Room(
                serde_json::from_str::<_>(&said.data).map(std::sync::Arc::new).unwrap(),
            ),
            Some("gateway.worker.*.heartbeat") => {
                let beat: Heartbeat = serde_json::from_str(&said.data).unwrap();
                last = Some(beat.clone()).filter(|beat| beat.worker.as_str() == "w2").or(last);
                hand(&mut core, said.ms, Input::Heartbeat(Box::new(beat)));
                continue;
            }
            _ => continue,
        };
        let revision = revision as u64 + 1;
        let input = Input::Changed { key: record.key(), revision, record: Some(record) };
        hand(&mut core, said.ms, input);
    }
    let began = STORY[resigned.unwrap()].ms;
    hand(&mut core, began, Input::Elected);
    let mut beat = last.unwrap();
    for ms in (began..began + 20_000).step_by(500) {
        beat.seq += 1;
        hand(&mut core, ms, Input::Heartbeat(Box::new(beat.clone())));
        hand(&mut core, ms, Input::Tick);
    }
    let moved: Vec<_> = out
        .iter()
        .filter(|output| {
            matches!(output, Output::Put { .. } | Output::Assign { .. } | Output::Revoke { .. })
        })
        .collect();
    assert!(moved.is_empty(), "{moved:#?}");
}
