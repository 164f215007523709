//! Holds the house in order: floors, purity, file sizes, words that have no
//! place here, and the permissions against the subjects in the code.
//!
//! Each check walks the tree, and says which file and line breaks the rule and
//! what to do about it. `ARCHITECTURE.md` says why the rules are there.

#[path = "tidy/cycles.rs"]
mod cycles;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/permissions.rs"]
mod permissions;
#[path = "tidy/purity.rs"]
mod purity;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use source::{Breach, Source};

/// Fails the test with all that was found.
fn report(breaches: &[Breach]) {
    let lines: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn a_module_uses_only_floors_below_its_own() {
    let floors = floors::read();
    report(
        &source::library_and_binaries()
            .iter()
            .flat_map(|file| floors.check(file))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn files_do_not_refer_to_each_other_in_circles() {
    report(&cycles::check(&source::library_and_binaries()));
}

#[test]
fn pure_modules_touch_no_clock_no_runtime_and_no_socket() {
    report(&source::library_and_binaries().iter().flat_map(purity::check).collect::<Vec<_>>());
}

#[test]
fn the_nats_client_is_named_in_the_bus_alone() {
    report(
        &source::library_and_binaries().iter().flat_map(purity::check_client).collect::<Vec<_>>(),
    );
}

#[test]
fn every_file_says_what_it_owns_and_fits_on_a_few_screens() {
    report(&source::all_rust().iter().flat_map(words::check_shape).collect::<Vec<_>>());
    report(&source::other_code().iter().flat_map(words::check_length).collect::<Vec<_>>());
}

#[test]
fn nothing_is_half_done_unbounded_or_slept_through() {
    report(&source::all_rust().iter().flat_map(words::check_words).collect::<Vec<_>>());
}

#[test]
fn nothing_speaks_of_how_it_was_made() {
    report(&source::all_text().iter().flat_map(words::check_provenance).collect::<Vec<_>>());
}

#[test]
fn each_subject_of_the_code_is_open_to_its_roles_alone() {
    report(&permissions::check());
}

/// The checks above pass on a tidy tree; these show that each can fail.
mod breaches_are_seen {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source::new(path, text)
    }

    fn seen(breaches: &[Breach], text: &str) {
        let found = breaches.iter().any(|breach| breach.to_string().contains(text));
        assert!(found, "{text:?} is not among {breaches:?}");
    }

    #[test]
    fn floors() {
        let floors = floors::parse(
            "// floor 0: x\npub mod limits;\n// floor 2: y\npub mod audio;\npub mod task;\n\
             // floor 3: z\npub mod bus;\n",
        );
        let up = floors.check(&file("src/audio/ring.rs", "//! x\nuse crate::{limits, bus::Link};"));
        assert_eq!(up.len(), 1);
        seen(&up, "src/audio/ring.rs:2");
        seen(&floors.check(&file("src/task.rs", "fn f() { crate::audio::go() }")), "task");
        seen(&floors.check(&file("src/task.rs", "mod t { use super::super::bus::X; }")), "bus");
        seen(&floors.check(&file("src/bus/kv.rs", "use super::super::unheard::X;")), "unheard");
        seen(&floors.check(&file("src/unheard.rs", "")), "lib.rs");
        let fine = "/// [`crate::bus`]\nuse crate::limits; const X: &str = \"crate::bus\";";
        assert!(floors.check(&file("src/audio/mod.rs", fine)).is_empty());
        seen(&floors.check(&file("src/audio/x.rs", "use audio_gateway::bus::Link;")), "bus");
    }

    #[test]
    fn circles() {
        let circle = [
            file("src/bus/mod.rs", "pub mod a; pub mod b; pub use a::A;"),
            file("src/bus/a.rs", "use super::b::B;"),
            file("src/bus/b.rs", "use crate::bus::{a::A};"),
        ];
        seen(&cycles::check(&circle), "src/bus/a.rs");
        let parent = [
            file("src/bus/mod.rs", "pub mod a; pub use a::A;"),
            file("src/bus/a.rs", "use super::B;"),
        ];
        assert!(cycles::check(&parent).is_empty(), "a parent that names its children is no circle");
    }

    #[test]
    fn purity() {
        for (text, what) in [
            ("fn f() { let now = Instant::now(); }", "Instant::now"),
            ("use std::time::SystemTime;", "SystemTime"),
            ("use tokio::sync::watch;", "tokio"),
            ("use std::{fs, fmt};", "std::fs"),
            ("fn f() { std::net::TcpStream::connect(1) }", "std::net"),
            ("use rand::Rng;", "rand"),
        ] {
            seen(&purity::check(&file("src/audio/ring.rs", text)), what);
        }
        let tested =
            "use std::time::Instant;\n#[cfg(test)]\nmod tests { fn f() { Instant::now() } }";
        assert!(purity::check(&file("src/audio/ring.rs", tested)).is_empty());
        assert!(purity::check(&file("src/worker/run.rs", "use tokio::time;")).is_empty());
        let client = file("src/worker/run.rs", "fn f(c: async_nats::Client) {}");
        seen(&purity::check_client(&client), "src/worker/run.rs:1");
    }

    #[test]
    fn words() {
        let later = ["// TO", "DO: later"].concat();
        let port = ["\"127.0.0.1", ":4222\""].concat();
        for (path, text, what) in [
            ("src/a.rs", "fn f() { todo!() }", "todo"),
            ("src/a.rs", later.as_str(), "do it"),
            ("tests/a.rs", "#[ignore = \"x\"]", "ignore"),
            ("src/a.rs", "let (a, b) = mpsc::unbounded_channel();", "unbounded"),
            ("src/a.rs", "fn f() { std::thread::sleep(x) }", "thread::sleep"),
            ("tests/a.rs", "fn f() { tokio::time::sleep(x).await }", "sleep"),
            ("src/a.rs", "#[cfg(test)]\nmod tests { fn f() { sleep(x).await } }", "a.rs:2"),
            ("tests/a.rs", port.as_str(), "port"),
            ("src/bus/helpers.rs", "", "helpers"),
        ] {
            seen(&words::check_words(&file(path, text)), what);
        }
        assert!(words::check_words(&file("src/a.rs", "tokio::time::sleep(x).await")).is_empty());
        seen(&words::check_shape(&file("src/a.rs", "use x;")), "//!");
        seen(&words::check_shape(&file("src/a.rs", "//! (being built)")), "//!");
        let long = format!("//! Owns x.\n{}", "\n".repeat(500));
        seen(&words::check_shape(&file("src/a.rs", &long)), "501");
        let made = file("docs/a.md", &["see /", "work/shared"].concat());
        seen(&words::check_provenance(&made), "docs/a.md:1");
    }

    #[test]
    fn permissions() {
        let code = "\"gateway.task.get\" \"audio.live.{}.{}\" \"audio.new.{}\"";
        let user = |publish: &str| {
            format!(
                "{{ user: \"service\"\n publish: {{ allow: [\n {publish}\n ] }}\n \
                 subscribe: {{ allow: [\n \"_INBOX.service.>\" ] }} }}"
            )
        };
        let check = |publish: &str| permissions::check_text(code, &user(publish));
        seen(&check("\"gateway.task.get\""), "audio.new.*");
        seen(&check("\"gateway.task.list\""), "gateway.task.get");
        seen(&check("\"audio.live.*.*\""), "audio.live.*.*");
        seen(&check("\"$JS.API.>\""), "$JS.API.>");
        seen(&check("\"$JS.API.STREAM.>\""), "$JS.API.STREAM.>");
        seen(&check("\">\""), "\">\"");
        seen(&check("\"x\"\n allow_responses: true"), "allow_responses");
        seen(&check("\"x\""), "dispatcher");
    }
}
