//! What the configuration of adapters promises.

use serde_json::json;

use super::*;

fn file(text: &str) -> Result<WorkerFile, ConfigError> {
    build::build(text, Path::new("/etc/gateway/worker.toml"))
}

/// The error of a text that is refused, as an operator sees it.
fn refusal(text: &str) -> String {
    let error = file(text).expect_err(text).to_string();
    assert!(error.starts_with("/etc/gateway/worker.toml") && !error.contains('\n'), "{error}");
    error
}

fn params(value: serde_json::Value) -> Params {
    serde_json::from_value(value).unwrap()
}

fn command(file: &WorkerFile, name: &str, given: serde_json::Value) -> Result<Command, String> {
    let adapter = file.adapters.get(&AdapterName::parse(name).unwrap()).expect("the adapter");
    adapter.command(&params(given)).map_err(|error| error.to_string())
}

const ECHO: &str = r#"
    [adapter.echo]
    mode = "raw"
    direction = "duplex"
    command = ["sh", "-c", "cat", "{word}", "gain={gain}"]
    env = { LEVEL = "3" }
    cwd = "work"
    [adapter.echo.params.word]
    type = "text"
    [adapter.echo.params.gain]
    type = "int"
    min = 0
    max = 10
    default = 5
"#;

#[test]
fn a_template_becomes_arguments() {
    let file = file(ECHO).unwrap();
    let command = command(&file, "echo", json!({"word": "hello"})).unwrap();
    assert!(command.program.is_absolute() && command.program.ends_with("sh"));
    assert_eq!(command.args, ["-c", "cat", "hello", "gain=5"]);
    assert_eq!(command.env, [("LEVEL".into(), "3".into())]);
    assert_eq!(command.cwd.as_deref(), Some(Path::new("/etc/gateway/work")));
    assert!(command.stdin && command.stdout);
}

#[test]
fn params_are_refused_by_name_and_not_by_value() {
    let file = file(ECHO).unwrap();
    let refused = |given| command(&file, "echo", given).unwrap_err();
    assert_eq!(refused(json!({})), "sdk echo: param word is missing");
    let error = refused(json!({"word": "a", "gain": 11}));
    assert_eq!(error, "sdk echo: param gain must be a whole number from 0 to 10");
    let error = refused(json!({"word": "a", "argv": "-y"}));
    assert_eq!(error, "sdk echo: param \"argv\" is unknown; it takes gain, word");
    let error = refused(json!({"word": "s3cret; rm"}));
    assert!(!error.contains("s3cret") && error.contains("A-Z"), "{error}");
    let error = refused(json!({"word": "a", "\u{1b}[2J".repeat(999): 1}));
    assert!(error.len() < 300 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn a_variant_is_chosen_by_its_param() {
    let file = file(
        r#"
        [adapter.play]
        mode = "raw"
        direction = "push"
        [[adapter.play.variant]]
        when = "a"
        command = ["sh", "{a}"]
        [[adapter.play.variant]]
        when = "b"
        command = ["sh", "{b}", "{extra}"]
        [adapter.play.params]
        a = { type = "text" }
        b = { type = "enum", values = ["x"] }
        extra = { type = "text", default = "none" }
        "#,
    )
    .unwrap();
    assert_eq!(command(&file, "play", json!({"a": "1"})).unwrap().args, ["1"]);
    let b = command(&file, "play", json!({"b": "x"})).unwrap();
    assert_eq!(b.args, ["x", "none"]);
    assert!(b.stdin && !b.stdout);
    for given in [json!({}), json!({"a": "1", "b": "x"}), json!({"extra": "y"})] {
        let error = command(&file, "play", given).unwrap_err();
        assert_eq!(error, "sdk play: give exactly one of the params a, b");
    }
    let error = command(&file, "play", json!({"a": "1", "extra": "y"})).unwrap_err();
    assert_eq!(error, "sdk play: param extra has no use together with a");
}

#[test]
fn framed_adapters_take_their_params_on_the_pipe() {
    let text = "[adapter.x]\nmode = 'framed'\ncommand = ['sh', '-c', 'exit {{0}}']\n";
    let file = file(text).unwrap();
    let command = command(&file, "x", json!({"token": "s3cret", "-y": {"a": [1]}})).unwrap();
    assert_eq!(command.args, ["-c", "exit {0}"]);
    assert!(command.stdin && command.stdout && command.env.is_empty());
    let adapter = file.adapters.get(&AdapterName::parse("x").unwrap()).unwrap();
    assert_eq!(adapter.mode, Mode::Framed);
    let error = refusal(&format!("{text}[adapter.x.params.a]\ntype = 'text'\n"));
    assert!(error.contains("adapter.x.params is for mode = \"raw\""), "{error}");
}

#[test]
fn without_a_configuration_ffmpeg_plays_nothing() {
    let file = WorkerFile::load(None).unwrap();
    assert_eq!(file.worker.max_sessions, None);
    for (given, key) in [
        (json!({"file": "/etc/passwd"}), "media.folders"),
        (json!({"url": "http://127.0.0.1/"}), "media.schemes"),
        (json!({"file_url": "http://127.0.0.1/"}), "media.schemes"),
    ] {
        let error = command(&file, "ffmpeg", given).unwrap_err();
        assert!(error.contains(&format!("set {key} in its configuration")), "{error}");
    }
}

#[test]
fn ffmpeg_gets_what_the_media_section_allows() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a b.wav"), "x").unwrap();
    let text = format!(
        "[media]\nfolders = [{:?}]\nschemes = ['https']\nhosts = ['*.example.org']\n",
        folder.path()
    );
    let file = file(&text).unwrap();
    let played = command(&file, "ffmpeg", json!({"file": "a b.wav"})).unwrap();
    let real = folder.path().canonicalize().unwrap();
    let input = format!("file:{}", real.join("a b.wav").display());
    assert!(played.args.contains(&OsString::from(input)), "{:?}", played.args);
    assert!(!played.stdin && played.stdout);
    let live = command(&file, "ffmpeg", json!({"url": "https://a.example.org/x"})).unwrap();
    assert!(live.args.contains(&"https://a.example.org/x".into()));
    for bad in ["-y", "http://a.example.org/", "https://example.net/", "file:///etc/passwd"] {
        assert!(command(&file, "ffmpeg", json!({"url": bad})).is_err(), "{bad}");
    }
}

#[test]
fn mistakes_are_said_with_their_place_and_mend() {
    let raw = "[adapter.x]\nmode = 'raw'\n";
    let pull = format!("{raw}direction = 'pull'\n");
    for (text, said) in [
        ("[worker]\nmax_session = 3\n".to_owned(), "worker.toml:2: unknown field `max_session`"),
        ("[worker]\nid = 'a.b'\n".into(), "is not a token"),
        ("[worker]\nbuiltin = ['sox']\n".into(), "worker.builtin names sox"),
        ("[media]\nschemes = ['HTTP']\n".into(), "media.schemes holds \"HTTP\""),
        ("[media]\nhosts = ['http://a']\n".into(), "media.hosts holds \"http://a\""),
        ("[adapter.'a b']\nmode = 'framed'\n".into(), "is not a token"),
        ("[adapter.x]\nmode = 'fast'\n".into(), "worker.toml:2: unknown variant `fast`"),
        ("[adapter.x]\n".into(), "missing field `mode`"),
        (format!("{raw}command = ['sh']\n"), "adapter.x.direction is missing"),
        (pull.clone(), "adapter.x.command is missing"),
        (format!("{pull}command = []\n"), "adapter.x.command must begin with a program"),
        (format!("{pull}command = ['{{a}}']\n"), "without placeholders"),
        (format!("{pull}command = ['sh', '{{a}}']\n"), "declare it in [adapter.x.params.a]"),
        (format!("{pull}command = ['sh', 'a}}']\n"), "lone }"),
        (
            format!("{pull}command = ['sh']\n[adapter.x.params.a]\ntype = 'text'\n"),
            "adapter.x.params.a is in no command",
        ),
        (
            format!("{pull}command = ['sh', '{{a}}']\n[adapter.x.params.a]\ntype = 'int'\n"),
            "adapter.x.params.a needs min and max",
        ),
        (
            format!("{pull}command = ['sh', '{{a}}']\nparams.a = {{ type = 'text', min = 1 }}\n"),
            "adapter.x.params.a.min is for a param of another type",
        ),
        (
            format!(
                "{pull}command = ['sh', '{{a}}']\nparams.a = {{ type = 'enum', values = ['-y'] }}\n"
            ),
            "adapter.x.params.a.values must list words",
        ),
        (
            format!(
                "{pull}command = ['sh', '{{a}}']\nparams.a = {{ type = 'text', default = 'a b' }}\n"
            ),
            "adapter.x.params.a.default must be 1 to",
        ),
        (format!("{pull}command = ['sh']\nenv = {{ NATS_CREDS = 'x' }}\n"), "NATS_CREDS"),
        (format!("{pull}command = ['sh']\npass_env = ['A=B']\n"), "adapter.x.pass_env holds"),
        (format!("{pull}command = ['sh']\ncost_cores = -1.0\n"), "adapter.x.cost_cores must"),
        (format!("{pull}command = ['sh']\nmax_sessions = 0\n"), "adapter.x.max_sessions must"),
        ("[adapter.x\n".into(), "worker.toml:1:"),
    ] {
        let error = refusal(&text);
        assert!(error.contains(said), "{text}\n→ {error}");
    }
    let missing = WorkerFile::load(Some(Path::new("/no/such.toml"))).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read /no/such.toml"), "{missing}");
}

#[test]
fn a_program_that_is_not_installed_is_not_offered() {
    let text = "[adapter.x]\nmode = 'framed'\ncommand = ['no-such-program']\n";
    let file = file(text).unwrap();
    assert!(file.adapters.get(&AdapterName::parse("x").unwrap()).is_none());
}

#[test]
fn a_section_replaces_what_is_built_in() {
    let file = file("[adapter.ffmpeg]\nmode = 'framed'\ncommand = ['sh']\n").unwrap();
    let adapter = file.adapters.get(&AdapterName::parse("ffmpeg").unwrap()).unwrap();
    assert_eq!(adapter.mode, Mode::Framed);
    let none = super::build::build("[worker]\nbuiltin = []\n", Path::new("/x.toml")).unwrap();
    assert_eq!(none.adapters.names().count(), 0);
}

#[test]
fn the_shipped_example_is_valid_and_so_is_all_it_shows() {
    let shipped = include_str!("../../../config/worker.toml");
    file(shipped).unwrap();
    // Each line of the example that is commented out begins "#" without a
    // space; prose begins "# ".
    let shown: String = shipped
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let file = file(&shown).unwrap();
    let names: Vec<_> = file.adapters.names().map(AdapterName::as_str).collect();
    for name in ["ffmpeg", "ffmpeg-push", "ffmpeg-live"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let ffmpeg = AdapterName::parse("ffmpeg").unwrap();
    let variants = |file: &WorkerFile| format!("{:?}", file.adapters.0[&ffmpeg].variants);
    assert_eq!(variants(&file), variants(&WorkerFile::load(None).unwrap()), "as it is built in");
}
