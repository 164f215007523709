//! What services do with answers, and with none.

use audio_gateway::{
    bus::messages::{Refusal, RefusalCode},
    dispatch::io::{Answer, CallId, Input},
};

use super::{
    client::Call,
    node::Message,
    world::{Event, MS, S, STORMY, World},
};

/// How long a service waits.
const PATIENCE: u64 = 4 * S;

impl World {
    pub fn call(&mut self, call: Call) {
        self.count += 1;
        let id = CallId(self.count);
        // The server knows who is gone, and not who is merely cut off.
        let alive: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].alive).collect();
        let at = alive.get(self.rng.usize(0..alive.len().max(1))).copied().unwrap_or(0);
        let node = &self.nodes[at];
        let reached = node.alive && !node.port.is_cut() && !self.weather.loses(&mut self.rng);
        if reached {
            let (life, delay) = (self.nodes[at].life, self.weather.delay(&mut self.rng));
            let message = Message::Core(Input::Call { call: id, request: call.request.clone() });
            self.after(delay, Event::Node { at, life, message });
        }
        self.calls.insert(id, call);
        self.after(PATIENCE, Event::CallTimedOut(id));
    }

    /// A call goes unanswered, or was refused for now.
    pub fn again(&mut self, mut call: Call) {
        if self.now > STORMY + 25 * S {
            return self.checker.breaks(format!("calm, and not answered: {call:?}"));
        }
        call.tries = call.tries.saturating_add(1);
        let delay = self.rng.u64(50..1_000) * MS;
        self.after(delay, Event::Call(call));
    }

    pub fn answered(&mut self, id: CallId, answer: Result<Answer, Refusal>) {
        if !self.answered.insert(id) {
            return self.checker.breaks(format!("{id:?} was answered twice"));
        }
        if let Ok(Answer::Submitted(submitted)) = &answer {
            self.checker.promised(submitted, &self.store, self.now);
        }
        let Some(call) = self.calls.remove(&id) else { return };
        match answer {
            Ok(Answer::Task(view)) => self.checker.told(&view),
            Ok(_) => (),
            Err(refusal) => match refusal.error {
                RefusalCode::Unavailable | RefusalCode::RateLimited | RefusalCode::QueueFull => {
                    self.again(call);
                }
                RefusalCode::Conflict | RefusalCode::NotFound => (),
                RefusalCode::BadRequest | RefusalCode::Internal | RefusalCode::Other => {
                    self.checker.breaks(format!("{call:?}: {refusal}"));
                }
            },
        }
    }
}
