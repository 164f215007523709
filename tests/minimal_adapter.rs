//! `docs/sdk-pipe.md` held to its word: the adapter that was written from it
//! alone, in another language, is understood.

mod adapter;

use std::process::Command;

use adapter::Adapter;
use audio_gateway::sdk::pipe::{Audio, FromAdapter, ToAdapter};
use serde_json::json;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/adapters/minimal.py");

fn minimal() -> Adapter {
    let found = Command::new("python3").arg("--version").output().is_ok();
    assert!(found, "this test needs python3 on the PATH: apt-get install python3");
    Adapter::start(Command::new("python3").arg(SCRIPT))
}

#[test]
fn it_is_heard_without_a_seam_and_leaves() {
    let mut adapter = minimal();
    adapter.join(&json!({"hz": 1_000}), false);
    let (mut tone, mut end) = (Vec::new(), None);
    adapter.until("half a second of audio", |message| {
        if let FromAdapter::Audio(Audio { stream: 1, pts, pcm }) = message {
            assert_eq!(end.unwrap_or(*pts), *pts);
            end = Some(pts + 20_000);
            let samples = pcm.as_chunks::<2>().0.iter();
            tone.extend(samples.map(|sample| i16::from_le_bytes(*sample)));
        }
        tone.len() == 8_000
    });
    // 1 kHz: every 16th sample is the same.
    assert!(tone.iter().zip(&tone[16..]).all(|(a, b)| a.abs_diff(*b) <= 1));
    assert!(tone.iter().max().is_some_and(|peak| *peak > 7_900));

    adapter.tell(&ToAdapter::Ping);
    adapter.until("STATS", |message| matches!(message, FromAdapter::Stats { .. }));
    adapter.close();
    adapter.until("BYE", |message| matches!(message, FromAdapter::Bye { .. }));
    let (status, log) = adapter.wait();
    assert_eq!((status.code(), log.as_str()), (Some(0), ""));
}

#[test]
fn it_refuses_what_it_cannot_do() {
    let mut adapter = minimal();
    adapter.join(&json!({}), true);
    adapter.until("a fatal ERROR", |message| {
        matches!(message, FromAdapter::Error { message, fatal: true } if message.contains("push"))
    });
    assert_eq!(adapter.wait().0.code(), Some(1));
}
