//! What a task may ask of the simulated room, checked before it is played.
//! `docs/sim.md` lists it for people; nothing here acts.

use audio_gateway::{
    limits::{SIM_LIST_MAX, TASK_MAX_DURATION, TRACKS_MAX, USER_MAX_BYTES},
    task::Params,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A time in µs, written in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct Us(pub(crate) i64);

impl TryFrom<f64> for Us {
    type Error = String;
    fn try_from(seconds: f64) -> Result<Self, String> {
        let max = TASK_MAX_DURATION.as_secs_f64();
        if (0.0..=max).contains(&seconds) {
            Ok(Self((seconds * 1e6).round() as i64))
        } else {
            Err(format!("{seconds} is no time: use 0 to {max} seconds"))
        }
    }
}

/// Something that lasts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    /// Whom it concerns; everybody where absent.
    pub(crate) user: Option<String>,
    pub(crate) at_s: Us,
    pub(crate) for_s: Us,
}

impl Span {
    pub(crate) fn covers(&self, user: &str, at: i64) -> bool {
        (self.at_s.0..self.at_s.0.saturating_add(self.for_s.0)).contains(&at)
            && self.user.as_deref().is_none_or(|named| named == user)
    }
}

/// The whole room falls silent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stall {
    pub(crate) at_s: Us,
    pub(crate) for_s: Us,
    /// Whether what was held back comes afterwards, at once; else it is gone.
    #[serde(default = "yes")]
    pub(crate) burst: bool,
}

impl Stall {
    pub(crate) fn end(&self) -> i64 {
        self.at_s.0.saturating_add(self.for_s.0)
    }

    pub(crate) fn covers(&self, at: i64) -> bool {
        (self.at_s.0..self.end()).contains(&at)
    }
}

/// Somebody comes or goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Move {
    pub(crate) user: String,
    pub(crate) at_s: Us,
}

/// The media clock jumps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) at_s: Us,
    pub(crate) by_ms: i32,
}

/// What the media clock counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Counts {
    Own,
    Unix,
}

/// Bytes on stdout that are no frame.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Garbage {
    pub(crate) at_s: Us,
    pub(crate) bytes: u32,
}

/// Where a participant's samples come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = r#"use "speech", "tone", "ramp" or {"wav": "file"}"#)]
pub(crate) enum Source {
    Made(Made),
    File { wav: String },
}

/// A source without a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Made {
    Speech,
    Tone,
    Ramp,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "use true or a message")]
enum Fail {
    Flag(bool),
    Message(String),
}

/// The params as they are written.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    participants: Option<usize>,
    users: Option<Vec<String>>,
    roles: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    source: Vec<Source>,
    r#loop: bool,
    seconds: Us,
    echo: bool,
    frame_ms: u32,
    bundle: i64,
    join_delay_ms: u32,
    fail_join: Option<Fail>,
    crash_after_s: Option<Us>,
    crash_code: Option<u8>,
    exit_after_s: Option<Us>,
    hang_after_s: Option<Us>,
    ignore_sigterm: bool,
    #[serde(deserialize_with = "one_or_many")]
    stall: Vec<Stall>,
    #[serde(deserialize_with = "one_or_many")]
    mute: Vec<Span>,
    #[serde(deserialize_with = "one_or_many")]
    idle: Vec<Span>,
    #[serde(deserialize_with = "one_or_many")]
    lost: Vec<Span>,
    #[serde(deserialize_with = "one_or_many")]
    leave: Vec<Move>,
    #[serde(deserialize_with = "one_or_many")]
    join: Vec<Move>,
    clock: Counts,
    clock_skew_ppm: f64,
    #[serde(deserialize_with = "one_or_many")]
    clock_step: Vec<Step>,
    jitter_ms: u32,
    #[serde(deserialize_with = "one_or_many")]
    garbage: Vec<Garbage>,
    stderr_flood: u32,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            participants: None,
            users: None,
            roles: Vec::new(),
            source: vec![Source::Made(Made::Speech)],
            r#loop: true,
            seconds: Us(0),
            echo: false,
            frame_ms: 20,
            bundle: 1,
            join_delay_ms: 0,
            fail_join: None,
            crash_after_s: None,
            crash_code: None,
            exit_after_s: None,
            hang_after_s: None,
            ignore_sigterm: false,
            stall: Vec::new(),
            mute: Vec::new(),
            idle: Vec::new(),
            lost: Vec::new(),
            leave: Vec::new(),
            join: Vec::new(),
            clock: Counts::Own,
            clock_skew_ppm: 0.0,
            clock_step: Vec::new(),
            jitter_ms: 0,
            garbage: Vec::new(),
            stderr_flood: 0,
        }
    }
}

fn yes() -> bool {
    true
}

fn one_or_many<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    let items = match Value::deserialize(from)? {
        Value::Array(items) => items,
        one => vec![one],
    };
    if items.len() > SIM_LIST_MAX {
        return Err(serde::de::Error::custom(format!("at most {SIM_LIST_MAX} of them")));
    }
    items
        .into_iter()
        .map(|item| serde_json::from_value(item).map_err(serde::de::Error::custom))
        .collect()
}

/// Somebody the room will hold.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) user: String,
    pub(crate) role: String,
    pub(crate) source: Source,
    /// Whether they are there from the start.
    pub(crate) present: bool,
}

/// How the process ends of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Everything was played: BYE.
    Ended,
    /// Exit 0 without a word.
    Exit,
    /// SIGABRT, or this exit code.
    Crash(Option<u8>),
    /// No output, no input, still there.
    Hang,
}

/// Everything a room will do, in times since JOINED.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) people: Vec<Person>,
    pub(crate) repeat: bool,
    pub(crate) echo: bool,
    pub(crate) frame_us: i64,
    /// Slots that are written together.
    pub(crate) bundle: i64,
    pub(crate) join_delay_ms: u32,
    /// The message of an ERROR instead of JOINED.
    pub(crate) fail_join: Option<String>,
    /// Sorted by time.
    pub(crate) fates: Vec<(i64, Fate)>,
    pub(crate) ignore_sigterm: bool,
    pub(crate) stalls: Vec<Stall>,
    pub(crate) mutes: Vec<Span>,
    pub(crate) idles: Vec<Span>,
    pub(crate) losses: Vec<Span>,
    /// Time, user, whether they come; sorted by time.
    pub(crate) moves: Vec<(i64, String, bool)>,
    /// Whether its clock shows Unix time.
    pub(crate) unix: bool,
    pub(crate) skew_ppm: f64,
    pub(crate) steps: Vec<Step>,
    pub(crate) jitter_us: i64,
    /// Sorted by time.
    pub(crate) garbage: Vec<Garbage>,
    pub(crate) stderr_flood: u32,
}

/// Reads the params of a task.
///
/// # Errors
/// A line that names the param and the mend.
pub(crate) fn parse(params: &Params) -> Result<Plan, String> {
    // One by one first, since only then does an error know its param.
    for (name, value) in &params.0 {
        read(Map::from_iter([(name.clone(), value.clone())]))
            .map_err(|error| format!("params.{}: {error}", shown(name)))?;
    }
    plan(read(params.0.clone()).map_err(|error| format!("params: {error}"))?)
}

fn read(params: Map<String, Value>) -> Result<Written, serde_json::Error> {
    serde_json::from_value(Value::Object(params))
}

fn plan(written: Written) -> Result<Plan, String> {
    let users = users(&written)?;
    let role = |index: usize| match written.roles.as_slice() {
        [] if index == 0 => "host".to_owned(),
        [] => "guest".to_owned(),
        roles => roles[index % roles.len()].clone(),
    };
    if written.source.is_empty() {
        return Err("params.source: the list is empty".to_owned());
    }
    let people = users.iter().enumerate().map(|(index, user)| Person {
        user: user.clone(),
        role: role(index),
        source: written.source[index % written.source.len()].clone(),
        present: is_present(user, &written),
    });
    if ![10, 20, 40, 60].contains(&written.frame_ms) {
        return Err(format!("params.frame_ms: {}: use 10, 20, 40 or 60", written.frame_ms));
    }
    if !(1..=50).contains(&written.bundle) {
        return Err(format!("params.bundle: {}: use 1 to 50 slots", written.bundle));
    }
    if written.clock_skew_ppm.abs() > 100_000.0 {
        return Err("params.clock_skew_ppm: use -100000 to 100000".to_owned());
    }
    let come = |coming: bool| move |m: Move| (m.at_s.0, m.user, coming);
    let mut plan = Plan {
        people: people.collect(),
        repeat: written.r#loop,
        echo: written.echo,
        frame_us: i64::from(written.frame_ms) * 1_000,
        bundle: written.bundle,
        join_delay_ms: written.join_delay_ms,
        fail_join: match written.fail_join {
            Some(Fail::Message(message)) => Some(message),
            Some(Fail::Flag(true)) => Some("the room cannot be joined".to_owned()),
            Some(Fail::Flag(false)) | None => None,
        },
        fates: [
            (Some(written.seconds).filter(|end| end.0 > 0), Fate::Ended),
            (written.exit_after_s, Fate::Exit),
            (written.crash_after_s, Fate::Crash(written.crash_code)),
            (written.hang_after_s, Fate::Hang),
        ]
        .into_iter()
        .filter_map(|(at, fate)| Some((at?.0, fate)))
        .collect(),
        ignore_sigterm: written.ignore_sigterm,
        stalls: written.stall,
        mutes: written.mute,
        idles: written.idle,
        losses: written.lost,
        moves: (written.leave.into_iter().map(come(false)))
            .chain(written.join.into_iter().map(come(true)))
            .collect(),
        unix: written.clock == Counts::Unix,
        skew_ppm: written.clock_skew_ppm,
        steps: written.clock_step,
        jitter_us: i64::from(written.jitter_ms) * 1_000,
        garbage: written.garbage,
        stderr_flood: written.stderr_flood,
    };
    plan.fates.sort_by_key(|(at, _)| *at);
    plan.moves.sort_by_key(|(at, ..)| *at);
    plan.garbage.sort_by_key(|garbage| garbage.at_s);
    Ok(plan)
}

/// Everybody who is ever in the room, in the order of their indices.
fn users(written: &Written) -> Result<Vec<String>, String> {
    let mut users = match (&written.users, written.participants) {
        (Some(users), count) if count.is_none_or(|count| count == users.len()) => users.clone(),
        (Some(_), _) => return Err("params.participants: differs from the length of users".into()),
        (None, Some(count)) if count > TRACKS_MAX => Vec::new(), // refused below
        (None, count) => (0..count.unwrap_or(1)).map(|index| format!("user-{index}")).collect(),
    };
    if written.participants.unwrap_or(users.len()) > TRACKS_MAX || users.is_empty() {
        return Err(format!("params.participants: use 1 to {TRACKS_MAX}"));
    }
    for coming in &written.join {
        if !users.contains(&coming.user) {
            users.push(coming.user.clone());
        }
    }
    if users.len() + usize::from(written.echo) > TRACKS_MAX {
        return Err(format!("params.users: at most {TRACKS_MAX} tracks with join and echo"));
    }
    for (index, user) in users.iter().enumerate() {
        if users[..index].contains(user) || (written.echo && user == "echo") {
            return Err(format!("params.users: {} is there twice", shown(user)));
        }
        if user.len() > USER_MAX_BYTES {
            return Err(format!("params.users: at most {USER_MAX_BYTES} bytes each"));
        }
    }
    if let Some(role) = written.roles.iter().find(|role| role.len() > USER_MAX_BYTES) {
        return Err(format!("params.roles: {}: at most {USER_MAX_BYTES} bytes", shown(role)));
    }
    let spans = [("mute", &written.mute), ("idle", &written.idle), ("lost", &written.lost)];
    let named = spans
        .iter()
        .flat_map(|(name, spans)| spans.iter().filter_map(|s| Some((*name, s.user.as_ref()?))))
        .chain(written.leave.iter().map(|leave| ("leave", &leave.user)));
    for (name, user) in named {
        if !users.contains(user) {
            return Err(format!("params.{name}: nobody is called {}", shown(user)));
        }
    }
    Ok(users)
}

/// Whoever has yet to come is not there: their first move is a join.
fn is_present(user: &str, written: &Written) -> bool {
    let first = |moves: &[Move]| moves.iter().filter(|m| m.user == user).map(|m| m.at_s).min();
    match (first(&written.join), first(&written.leave)) {
        (Some(joins), Some(leaves)) => leaves < joins,
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// A name from outside as an error shows it.
fn shown(name: &str) -> String {
    let head: String = name.chars().take(40).collect();
    format!("{head:?}")
}
