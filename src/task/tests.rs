//! What a task may say, and where it may go from where it stands.

use super::*;

fn spec(json: &str) -> Result<TaskSpec, SpecError> {
    TaskSpec::from_json(json.as_bytes())
}

#[test]
fn only_room_and_sdk_are_required() {
    let spec = spec(r#"{"room":"42","sdk":"sim"}"#).unwrap();
    assert_eq!((spec.priority, spec.start_within_s), (5, 30));
    assert_eq!(spec.pull_or_default(), Some(Pull::default()));
}

#[test]
fn bad_fields_are_named() {
    for (json, field) in [
        (r#"{"room":"a.b","sdk":"sim"}"#, "token"),
        (r#"{"room":"42"}"#, "sdk"),
        (r#"{"room":"42","sdk":"sim","typo":1}"#, "typo"),
        (r#"{"room":"42","sdk":"sim","pull":{"batch_frames":51}}"#, "batch_frames"),
        (r#"{"room":"42","sdk":"sim","pull":{"participants":false}}"#, "name a mix"),
        (r#"{"room":"42","sdk":"sim","push":{"from":"audio.push.*.x"}}"#, "push.from"),
        (r#"{"room":"42","sdk":"sim","push":{"from":"$JS.API.x.y"}}"#, "push.from"),
        (r#"{"room":"42","sdk":"sim","priority":10}"#, "priority"),
        (r#"{"room":"42","sdk":"sim","priority":"7"}"#, "`priority`: invalid type"),
        (r#"{"room":"42","sdk":"sim","pull":{"roles":[1]}}"#, "`pull.roles[0]`: invalid type"),
        (r#"{"room":42,"sdk":"sim"}"#, "`room`: invalid type: integer `42`, expected a string"),
        (r#"["t1","42","sim",{},null,null,5,0,30,{}]"#, "no JSON object"),
        ("", "empty"),
        (r#"{"room":"42","sdk":"sim","start_within_s":0}"#, "start_within_s"),
    ] {
        let error = spec(json).unwrap_err().to_string();
        assert!(error.contains(field), "{json}: {error}");
    }
}

#[test]
fn saying_what_goes_without_saying_asks_for_the_same() {
    let plain = spec(r#"{"room":"42","sdk":"sim"}"#).unwrap();
    let record = serde_json::json!({
        "task": "t", "spec": plain, "state": "pending", "epoch": 0, "created_ms": 0,
        "changed_ms": 0, "pending_ms": 0, "cancel": false,
    });
    let record: TaskRecord = serde_json::from_value(record).unwrap();
    for (json, differs) in [
        (r#"{"room":"42","sdk":"sim","pull":{}}"#, None),
        (r#"{"room":"42","sdk":"sim","pull":{"participants":true,"mix":[]},"labels":{}}"#, None),
        (r#"{"room":"42","sdk":"sim","pull":{"batch_frames":2}}"#, Some("pull")),
        (r#"{"room":"42","sdk":"sim","params":{"a":1},"priority":7}"#, Some("params")),
        (r#"{"room":"42","sdk":"sim","priority":7}"#, Some("priority")),
        (r#"{"room":"42","sdk":"sim","push":{"from":"audio.push.42.tts"}}"#, Some("pull")),
    ] {
        assert_eq!(record.differs_from(&spec(json).unwrap()), differs, "{json}");
    }
}

#[test]
fn nothing_leaves_a_terminal_state() {
    use TaskState::*;
    let all = [Pending, Assigned, Starting, Running, Draining, Done, Failed, Cancelled, Expired];
    for from in all.into_iter().filter(|state| state.is_terminal()) {
        assert!(all.into_iter().all(|to| !from.may_become(to)));
    }
    assert!(Pending.may_become(Assigned) && !Running.may_become(Expired));
}

#[test]
fn a_task_is_handed_over_while_it_runs_and_runs_then() {
    use TaskState::*;
    assert!([Pending, Assigned, Starting].into_iter().all(|it| !it.may_become(Draining)));
    assert!(Running.may_become(Draining) && Draining.may_become(Draining));
    assert!(Draining.may_become(Running) && Draining.may_become(Pending));
}

#[test]
fn epochs_never_fall() {
    assert_eq!(Epoch(7).next(3), Epoch(8));
    assert_eq!(Epoch(7).next(1_000), Epoch(1_000));
}

#[test]
fn params_show_in_no_log() {
    let spec = spec(r#"{"room":"42","sdk":"sim","params":{"token":"s3cret"}}"#).unwrap();
    assert!(!format!("{spec:?}").contains("s3cret"));
}

fn update(json: &str) -> Result<Update, SpecError> {
    Update::from_json(json.as_bytes())
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let whole = spec(r#"{"room":"42","sdk":"sim","priority":3,"labels":{"a":"b"}}"#).unwrap();
    let none = update(r#"{"task":"t"}"#).unwrap();
    assert_eq!(none.apply(&whole).unwrap(), whole);
    let hosts = update(r#"{"task":"t","pull":{"roles":["host"]},"max_duration_s":60}"#).unwrap();
    let changed = hosts.apply(&whole).unwrap();
    let pull = Some(Pull { roles: vec!["host".into()], ..Pull::default() });
    assert_eq!(changed, TaskSpec { pull, max_duration_s: 60, ..whole.clone() });
    // Back to what it was, whether or not that was written down.
    let back = r#"{"task":"t","pull":{"roles":[]},"max_duration_s":0,"labels":{}}"#;
    let back = update(back).unwrap().apply(&changed).unwrap();
    assert_eq!((back.pull_or_default(), back.labels.len()), (whole.pull_or_default(), 0));
    let same = update(r#"{"task":"t","pull":{"participants":true,"mix":[]}}"#).unwrap();
    assert_eq!(same.apply(&whole).unwrap(), whole);
}

#[test]
fn what_an_update_may_not_change_is_named() {
    for (json, field) in [
        (r#"{"task":"t","room":"43"}"#, "`room`"),
        (r#"{"task":"t","params":{}}"#, "`params`"),
        (r#"{"task":"t","pull":{"batch_frames":1}}"#, "`pull.batch_frames`"),
        (r#"{"task":"t","typo":1}"#, "`typo`"),
        (r#"{"pull":{}}"#, "missing field `task`"),
        (r#"{"task":"t","priority":"high"}"#, "invalid type"),
    ] {
        let error = update(json).unwrap_err().to_string();
        assert!(error.contains(field), "{json}: {error}");
        assert!(!field.starts_with('`') || error.contains("pull.roles, pull.mix"), "{error}");
    }
    let task = spec(r#"{"room":"42","sdk":"sim"}"#).unwrap();
    for (json, field) in [
        (r#"{"task":"t","priority":10}"#, "priority: "),
        (r#"{"task":"t","max_duration_s":604801}"#, "max_duration_s: "),
        (r#"{"task":"t","pull":{"participants":false}}"#, "pull.participants: "),
        (r#"{"task":"t","pull":{"mix":7}}"#, "pull.mix: "),
        (r#"{"task":"t","pull":{"mix":[{"name":"a","typo":1}]}}"#, "pull.mix: unknown field"),
        (r#"{"task":"t","pull":{"mix":["a","a"]}}"#, "pull.mix: a is named twice"),
    ] {
        let error = update(json).unwrap().apply(&task).unwrap_err().to_string();
        assert!(error.starts_with(field), "{json}: {error}");
    }
    let plays = spec(r#"{"room":"42","sdk":"sim","push":{"from":"audio.push.42.x"}}"#).unwrap();
    let error = update(r#"{"task":"t","pull":{}}"#).unwrap().apply(&plays).unwrap_err();
    assert!(error.to_string().starts_with("pull: "), "{error}");
}

fn mixes(json: &str) -> Result<Vec<Mix>, SpecError> {
    let spec = spec(&format!(r#"{{"room":"42","sdk":"sim","pull":{{"mix":{json}}}}}"#))?;
    Ok(spec.pull.unwrap_or_default().mix)
}

#[test]
fn a_mix_is_a_name_or_says_who_is_in_it() {
    let read = mixes(
        r#"["all", {"name":"too"}, {"name":"call","channels":[{"roles":["broker"]},{"users":["u"],"except_roles":["x"]}]}]"#,
    )
    .unwrap();
    assert_eq!(read[1], Mix::of_all(TrackId::parse("too").unwrap()));
    assert_eq!(read[0].channels_of("whoever", "whatever"), 1);
    let of = |user, role| read[2].channels_of(user, role);
    assert_eq!([of("b", "broker"), of("u", "broker"), of("u", "x"), of("c", "")], [1, 3, 0, 0]);
    // Who knows names alone reads those.
    let written = serde_json::to_string(&read).unwrap();
    assert!(written.starts_with(r#"["all","too",{"name":"call","channels":[{"roles":["br"#));
    assert_eq!(mixes(&written).unwrap(), read);
    // Another version's fields are read over where the task is kept.
    let kept: Mix = serde_json::from_str(r#"{"name":"a","gain":3}"#).unwrap();
    assert_eq!(kept, Mix::of_all(TrackId::parse("a").unwrap()));
    let only = r#"{"room":"42","sdk":"sim","pull":{"participants":false,"mix":["m"]}}"#;
    assert!(!spec(only).unwrap().pull.unwrap().has_track_of("host"));
}

#[test]
fn lists_are_as_long_as_is_promised_and_no_longer() {
    let most = limits::TASK_MAX_LIST;
    let roles = |count| (0..count).map(|at| format!("\"r{at}\"")).collect::<Vec<_>>().join(",");
    let labels =
        |count| (0..count).map(|at| format!("\"k{at}\":\"v\"")).collect::<Vec<_>>().join(",");
    let read = |roles: String, labels: String| {
        spec(&format!(
            r#"{{"room":"42","sdk":"sim","pull":{{"roles":[{roles}]}},"labels":{{{labels}}}}}"#
        ))
    };
    assert!(read(roles(most), labels(most)).is_ok());
    for (roles, labels, field) in
        [(roles(most + 1), labels(most), "pull.roles"), (roles(most), labels(most + 1), "labels")]
    {
        let error = read(roles, labels).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains(&format!("at most {most}")), "{error}");
    }
}

#[test]
fn bad_mixes_are_named() {
    let many: Vec<_> = (0..=limits::TASK_MAX_MIXES).map(|at| format!("\"m{at}\"")).collect();
    let roles: Vec<_> = (0..=limits::TASK_MAX_LIST).map(|at| format!("\"r{at}\"")).collect();
    for (json, part) in [
        (r#"["a.b"]"#.to_owned(), "a.b"),
        (r#"["=YSBi"]"#.to_owned(), "token"),
        (r#"["a","a"]"#.to_owned(), "twice"),
        (r#"[1]"#.to_owned(), "name and channels"),
        (r#"[{"channels":[{}]}]"#.to_owned(), "name"),
        (r#"[{"name":"a","channels":[]}]"#.to_owned(), "a has 0 channels"),
        (r#"[{"name":"a","channels":[{},{},{}]}]"#.to_owned(), "a has 3 channels"),
        (r#"[{"name":"a","chanels":[{}]}]"#.to_owned(), "chanels"),
        (r#"[{"name":"a","channels":[{"role":["x"]}]}]"#.to_owned(), "role"),
        (format!("[{}]", many.join(",")), "at most 16"),
        (format!(r#"[{{"name":"a","channels":[{{"users":[{}]}}]}}]"#, roles.join(",")), "32 roles"),
        (format!(r#"[{{"name":"a","channels":[{{"users":["{}"]}}]}}]"#, "x".repeat(257)), "256"),
    ] {
        let error = mixes(&json).unwrap_err().to_string();
        assert!(error.contains(part), "{json}: {error}");
    }
}
