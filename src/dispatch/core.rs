//! The dispatcher's state and the one way in and out of it: [`Core::handle`].
//!
//! Every dispatcher follows both buckets and all heartbeats, so that taking
//! over needs no reload; only the leader schedules. After each input every task
//! that it touched is *stepped*: what is next follows from its record, its
//! room's record and its worker's last report, never from what was done before.
//! So it does not matter at which step a predecessor went away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    index::{Index, is_given},
    io::{Input, Key, Now, Outcome, Output, Record, Shelf},
    memory::{Claim, Plan, Timer, Waiting, Worker},
    quarantine::Quarantine,
    queue::{Moving, Places, Turn},
    table::{Change, End, Table},
    timers::Timers,
    waits::PlaceTimes,
};
use crate::{
    bus::messages::TaskEvent,
    id::{DispatcherId, RoomId, TaskId, WorkerId},
    limits,
    task::{Epoch, RoomRecord, TaskRecord, TaskState},
};

/// The dispatcher's core.
#[derive(Debug)]
pub struct Core {
    pub(super) me: DispatcherId,
    pub(super) now: Now,
    pub(super) out: Vec<Output>,
    pub(super) leads: bool,
    pub(super) up: bool,
    /// When anything last came from the server.
    heard: Instant,
    /// Since when silence counts.
    pub(super) hears_since: Instant,
    /// From when on silence has consequences.
    pub(super) judges_from: Instant,
    pub(super) tasks: Table<TaskId, Arc<TaskRecord>>,
    pub(super) rooms: Table<RoomId, Arc<RoomRecord>>,
    pub(super) index: Index,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// What the leader remembers of a task beside its record.
    pub(super) plans: BTreeMap<TaskId, Plan>,
    pub(super) claims: BTreeMap<TaskId, Claim>,
    pub(super) places: Places,
    pub(super) moving: Moving,
    pub(super) quarantine: Quarantine,
    pub(super) revoking: BTreeSet<(WorkerId, TaskId)>,
    pub(super) calls: BTreeMap<TaskId, Vec<Waiting>>,
    /// How long tasks waited.
    pub(super) placed: PlaceTimes,
    /// Events of writes that are under way, or may take place yet, and whether
    /// it is the last write of that key.
    pub(super) events: BTreeMap<TaskId, (TaskEvent, bool)>,
    pub(super) timers: Timers<Timer>,
    pub(super) dirty: BTreeSet<TaskId>,
    /// The highest epoch seen anywhere.
    pub(super) floor: Epoch,
}

impl Core {
    /// A dispatcher that knows nothing yet.
    #[must_use]
    pub fn new(me: DispatcherId, now: Now) -> Self {
        Self {
            me,
            now,
            out: Vec::new(),
            leads: false,
            up: true,
            heard: now.at,
            hears_since: now.at,
            judges_from: now.at + limits::HEARTBEAT + limits::LEASE_TTL,
            tasks: Table::default(),
            rooms: Table::default(),
            index: Index::default(),
            workers: BTreeMap::new(),
            plans: BTreeMap::new(),
            claims: BTreeMap::new(),
            places: Places::default(),
            moving: Moving::default(),
            quarantine: Quarantine::default(),
            revoking: BTreeSet::new(),
            calls: BTreeMap::new(),
            placed: PlaceTimes::default(),
            events: BTreeMap::new(),
            timers: Timers::default(),
            dirty: BTreeSet::new(),
            floor: Epoch::default(),
        }
    }

    /// Takes in what happened and says what is to be done.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Output> {
        self.now = now;
        if input.is_from_server() {
            self.hear();
        }
        match input {
            Input::Elected => self.elected(),
            Input::Deposed => self.deposed(),
            Input::BusUp => self.bus_up(),
            Input::BusDown => self.up = false,
            Input::Watching(Shelf::Tasks) => self.tasks.watching(),
            Input::Watching(Shelf::Rooms) => self.rooms.watching(),
            Input::Current(shelf) => self.current(shelf),
            Input::Wiped(shelf) => self.wiped(shelf),
            Input::Changed { key, revision, record } => self.changed(&key, revision, record),
            Input::Finished { key, outcome } => self.finished(key, outcome),
            Input::Heartbeat(beat) => self.heartbeat(*beat),
            Input::Renewed(worker) => self.renewed(&worker),
            Input::Ponged { worker, answer } => self.ponged(&worker, answer),
            Input::Assigned { worker, assign, answer } => {
                self.assigned(&worker, &assign, answer);
            }
            Input::Revoked { worker, task } => {
                self.revoking.remove(&(worker, task));
            }
            Input::Call { call, request } => self.call(call, request),
            Input::Tick | Input::Heard => (),
        }
        self.settle();
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due, where nothing else comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.earliest()
    }

    /// Whether this dispatcher schedules.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// Tasks looked at for a place since the beginning.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.places.looks
    }

    /// Whether scheduling is ours and what we know is whole.
    pub(super) fn schedules(&self) -> bool {
        self.leads && self.up && self.tasks.is_current() && self.rooms.is_current()
    }

    /// Puts everything that was touched in order again.
    fn settle(&mut self) {
        while let Some(timer) = self.timers.due(self.now.at) {
            match timer {
                Timer::Worker(worker) => self.judge(&worker),
                Timer::Task(task) => self.touch(&task),
                Timer::Room(room) => {
                    if self.rooms.is_due(&room, self.now.at) {
                        self.read_room(&room);
                    }
                }
                Timer::Unsaid(task) => self.forget_unsaid(&task),
                Timer::Queue => self.look_through(),
                Timer::Sweep => self.sweep(),
            }
        }
        while let Some(task) = self.dirty.pop_first() {
            self.step(&task);
        }
        self.place();
        self.place_successors();
    }

    /// Has a task stepped before this input is done with.
    pub(super) fn touch(&mut self, task: &TaskId) {
        self.dirty.insert(task.clone());
        if let Some(record) = self.tasks.get(task)
            && record.state == TaskState::Pending
        {
            self.places.again(record);
        }
    }

    pub(super) fn touch_room(&mut self, room: &RoomId) {
        let tasks: Vec<TaskId> = self.index.of_room(room).cloned().collect();
        tasks.iter().for_each(|task| self.touch(task));
    }

    /// The moment at which `span` since the Unix time `since_ms` is over. The
    /// clock is looked at once: whoever keeps the moment cares for no step of
    /// the clock after that.
    pub(super) fn moment(&self, since_ms: u64, span: Duration) -> Instant {
        let gone = Duration::from_millis(self.now.unix_ms.saturating_sub(since_ms));
        self.now.at + span.saturating_sub(gone)
    }

    // ---- this process ----

    /// Something came from the server. Where nothing did for a while, we were
    /// paused or cut off, and heard nobody: that is no sign of their death.
    fn hear(&mut self) {
        if self.is_deaf() {
            self.hears_since = self.now.at;
            let grace = limits::HEARTBEAT + limits::LEASE_TTL;
            self.judges_from = self.judges_from.max(self.now.at + grace);
        }
        self.heard = self.now.at;
    }

    /// Whether nothing at all has come for two heartbeats.
    pub(super) fn is_deaf(&self) -> bool {
        self.now.at.saturating_duration_since(self.heard) > 2 * limits::HEARTBEAT
    }

    fn bus_up(&mut self) {
        if !self.up {
            self.up = true;
            self.hears_since = self.now.at;
            // The others may take longer to find the server again than we did.
            self.judges_from = self.now.at + limits::WORKER_GONE + limits::LEASE_TTL;
            self.touch_all();
        }
    }

    fn elected(&mut self) {
        self.leads = true;
        self.forget_plans();
        self.repeat_events();
        let with_tasks: Vec<WorkerId> = self.index.workers().cloned().collect();
        for worker in &with_tasks {
            self.expect(worker);
        }
        for worker in self.workers.keys().cloned().collect::<Vec<_>>() {
            self.timers.set(Timer::Worker(worker.clone()), Some(self.now.at));
            self.review(&worker);
        }
        self.timers.set(Timer::Sweep, Some(self.now.at + limits::SWEEP_EVERY));
        self.touch_all();
    }

    fn deposed(&mut self) {
        self.leads = false;
        self.forget_plans();
    }

    fn forget_plans(&mut self) {
        self.plans.clear();
        self.claims.clear();
        self.places.clear();
        self.moving = Moving::default();
        self.workers.values_mut().for_each(Worker::absolve);
    }

    fn touch_all(&mut self) {
        let open = |(task, record): (&TaskId, &Arc<TaskRecord>)| {
            (!record.state.is_terminal()).then(|| task.clone())
        };
        let tasks: Vec<TaskId> = self.tasks.iter().filter_map(open).collect();
        tasks.iter().for_each(|task| self.touch(task));
    }

    // ---- the buckets ----

    fn current(&mut self, shelf: Shelf) {
        match shelf {
            Shelf::Tasks => {
                for (task, before) in self.tasks.all_told() {
                    self.task_changed(&task, &Change { before: Some(before), after: None });
                }
            }
            Shelf::Rooms => {
                for (room, _) in self.rooms.all_told() {
                    self.touch_room(&room);
                }
            }
        }
        if self.schedules() {
            self.touch_all();
            for worker in self.workers.keys().cloned().collect::<Vec<_>>() {
                self.review(&worker);
            }
        }
    }

    fn changed(&mut self, key: &Key, revision: u64, record: Option<Record>) {
        match (key, record) {
            (Key::Task(task), None) => {
                let change = self.tasks.seen(task, revision, None);
                self.take_task(task, change);
            }
            (Key::Task(task), Some(Record::Task(record))) => {
                let change = self.tasks.seen(task, revision, Some(record));
                self.take_task(task, change);
            }
            (Key::Room(room), None) => {
                let change = self.rooms.seen(room, revision, None);
                self.take_room(room, change);
            }
            (Key::Room(room), Some(Record::Room(record))) => {
                let change = self.rooms.seen(room, revision, Some(record));
                self.take_room(room, change);
            }
            (Key::Task(_), Some(Record::Room(_))) | (Key::Room(_), Some(Record::Task(_))) => (),
        }
    }

    fn finished(&mut self, key: Key, outcome: Outcome) {
        match key {
            Key::Task(task) => {
                let outcome = outcome.map(|record| match record {
                    Record::Task(record) => Some(record),
                    Record::Room(_) => None,
                });
                self.task_finished(&task, outcome);
            }
            Key::Room(room) => {
                let outcome = outcome.map(|record| match record {
                    Record::Room(record) => Some(record),
                    Record::Task(_) => None,
                });
                self.room_finished(&room, outcome);
            }
        }
    }

    fn room_finished(&mut self, room: &RoomId, outcome: Outcome<Arc<RoomRecord>>) {
        let retry = self.now.at + limits::WRITE_RETRY;
        let (change, end) = self.rooms.finished(room, outcome, retry);
        self.take_room(room, change);
        match end {
            End::Fine => (),
            End::ReadNow => self.out.push(Output::Read(Key::Room(room.clone()))),
            End::Restore => {
                if let Some(record) = self.rooms.get(room).cloned() {
                    self.restore(Record::Room(record));
                }
            }
            End::Later | End::Unanswered => self.timers.set(Timer::Room(room.clone()), Some(retry)),
        }
        self.room_settled(room);
        self.touch_room(room);
    }

    fn take_room(&mut self, room: &RoomId, change: Option<Change<Arc<RoomRecord>>>) {
        if let Some(change) = change {
            if let Some(record) = &change.after {
                self.floor = self.floor.max(record.epoch);
            }
            self.touch_room(room);
        }
    }

    pub(super) fn take_task(&mut self, task: &TaskId, change: Option<Change<Arc<TaskRecord>>>) {
        let Some(change) = change else { return };
        self.task_changed(task, &change);
        if let Change { before: Some(ended), after: Some(now) } = &change
            && ended.state.is_terminal()
            && !now.state.is_terminal()
            && now.created_ms == ended.created_ms
            && !self.tasks.is_busy(task)
        {
            // Somebody who had not heard of its end wrote it again after a loss.
            self.put(TaskRecord::clone(ended));
        }
    }

    pub(super) fn read_room(&mut self, room: &RoomId) {
        self.rooms.read(room);
        self.out.push(Output::Read(Key::Room(room.clone())));
    }

    pub(super) fn read_task(&mut self, task: &TaskId) {
        self.tasks.read(task);
        self.out.push(Output::Read(Key::Task(task.clone())));
    }

    /// A task's record changed, whoever changed it: everything that hangs on it
    /// follows.
    fn task_changed(&mut self, task: &TaskId, change: &Change<Arc<TaskRecord>>) {
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        self.index.update(before, after);
        self.placed.changed(before, after);
        if let Some(old) = before.filter(|old| old.state == TaskState::Pending) {
            self.places.left(old);
        }
        if let Some(old) = before.filter(|old| is_given(old.state)) {
            self.taken_from(old);
        }
        if after.is_none() {
            self.events.remove(task);
        }
        if let Some(new) = after {
            self.floor = self.floor.max(new.epoch);
            self.tell_if_ours(new);
            if is_given(new.state) {
                self.given_to(new);
            }
        }
        if let (Some(old), Some(new)) = (before, after)
            && old.spec.priority != new.spec.priority
        {
            self.moving.turns.remove(&Turn::of(old));
        }
        let epochs = |record: Option<&TaskRecord>| record.map(|record| record.epoch);
        if epochs(before) != epochs(after)
            && let Some(plan) = self.plans.get_mut(task)
        {
            plan.next_epoch();
        }
        let open = |record: Option<&TaskRecord>| record.is_some_and(|r| !r.state.is_terminal());
        if open(before) && !open(after) {
            // Its room is free for another.
            if let Some(old) = before {
                self.touch_room(&old.spec.room.clone());
            }
        }
        self.touch(task);
        let ended_handover = before.is_some_and(|old| old.from.is_some());
        self.moving.due |= ended_handover && !self.moving.turns.is_empty();
        let left = before.and_then(|old| old.from.as_ref()).map(|from| &from.worker);
        let workers = after.or(before).into_iter().flat_map(TaskRecord::workers).chain(left);
        for worker in workers.cloned().collect::<BTreeSet<_>>() {
            self.review_task(&worker, task);
        }
    }
}
