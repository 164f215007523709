//! The services: they submit, repeat, contradict themselves, ask and cancel, at
//! any dispatcher, and come again where they get no answer.

use audio_gateway::{
    bus::messages::{Cancel, Get, List},
    dispatch::io::Request,
    id::TaskId,
    task::{PullUpdate, TaskSpec, Update},
};
use fastrand::Rng;

const MS: u64 = 1_000;

/// A call that was made and not answered.
#[derive(Debug, Clone)]
pub struct Call {
    pub request: Request,
    pub tries: u8,
}

/// What the services will do, by time in µs.
pub fn plan(rng: &mut Rng, until: u64, rooms: u32) -> Vec<(u64, Request)> {
    let mut plan = Vec::new();
    let tasks = rng.u32(3..20);
    for number in 0..tasks {
        let at = rng.u64(0..until);
        let id = format!("t{number}");
        let room = rng.u32(0..rooms);
        let spec = spec(&id, room, rng);
        plan.push((at, Request::Submit(Box::new(spec.clone()))));
        let mut soon = |most: u64| at + rng.u64(0..most) * MS;
        let (again, other, cancel, get) = (soon(300), soon(3_000), soon(30_000), soon(9_000));
        let task = TaskId::parse(&id).unwrap();
        if number % 3 == 0 {
            plan.push((again, Request::Submit(Box::new(spec.clone()))));
        }
        if number % 5 == 0 {
            let other_spec = TaskSpec { max_duration_s: 9, ..spec };
            plan.push((other, Request::Submit(Box::new(other_spec))));
        }
        if number % 4 == 0 {
            let reason = "enough".into();
            plan.push((cancel, Request::Cancel(Cancel { task: task.clone(), reason })));
        }
        for _ in 0..rng.u8(0..4) {
            let at = at + rng.u64(0..25_000) * MS;
            plan.push((at, Request::Update(Box::new(update(&task, rng)))));
        }
        plan.push((get, Request::Get(Get { task })));
        plan.push((get, Request::List(List::default())));
        plan.push((get, Request::Workers));
    }
    plan
}

/// One of a crowd that comes all at once, stays a moment and will not wait
/// for long.
pub fn passer_by(now: u64, number: u32, rng: &mut Rng) -> Request {
    let json = format!(
        r#"{{"id":"p{now}-{number}","room":"p{now}-{number}","sdk":"sim","max_duration_s":{},
            "start_within_s":{},"priority":{}}}"#,
        rng.u64(1..5),
        rng.u64(1..15),
        rng.u8(0..10)
    );
    Request::Submit(Box::new(TaskSpec::from_json(json.as_bytes()).unwrap()))
}

/// A change of what is pulled, or of something else, or of nothing.
fn update(task: &TaskId, rng: &mut Rng) -> Update {
    let roles = ["host", "guest", "agent"].into_iter().filter(|_| rng.bool());
    let pull = PullUpdate { roles: Some(roles.map(str::to_owned).collect()), ..Default::default() };
    Update {
        pull: rng.bool().then_some(pull),
        priority: rng.bool().then(|| rng.u8(0..10)),
        ..Update::of(task.clone())
    }
}

fn spec(id: &str, room: u32, rng: &mut Rng) -> TaskSpec {
    let (max, within) = match rng.u8(..) {
        0..20 => (rng.u64(1..20), 3_600),
        20..40 => (0, rng.u64(1..6)),
        _ => (0, 3_600),
    };
    let push =
        if rng.u8(0..3) == 0 { r#""push":{"from":"audio.push.r.tts"},"pull":{},"# } else { "" };
    let json = format!(
        r#"{{"id":"{id}","room":"r{room}","sdk":"sim",{push}"max_duration_s":{max},
            "start_within_s":{within},"priority":{}}}"#,
        rng.u8(0..10)
    );
    TaskSpec::from_json(json.as_bytes()).unwrap()
}
