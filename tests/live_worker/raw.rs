//! Raw adapters: programs that know nothing of us.

use audio_gateway::{bus::messages::SessionState, id::AdapterName};
use serde_json::json;

use crate::{
    rig::{Rig, assignment, next},
    support::within,
};

#[tokio::test]
async fn a_file_is_read_at_the_pace_of_time_and_heard_whole() {
    let folder = tempfile::tempdir().unwrap();
    // Six seconds without an exact zero, which would be silence.
    let samples = (0..96_000_u32).map(|at| (at % 65_535 + 1) as u16);
    let ramp: Vec<u8> = samples.flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.path().join("ramp.raw"), &ramp).unwrap();
    let path = folder.path().to_str().unwrap();
    let config = format!(
        r#"
        [adapter.file]
        mode = "raw"
        direction = "pull"
        participant = "file"
        realtime = false
        command = ["cat", "{{file}}"]
        [adapter.file.params.file]
        type = "file"
        folders = ["{path}"]
        "#
    );
    let file = folder.path().join("worker.toml");
    std::fs::write(&file, config).unwrap();
    let rig = Rig::start_with(&["--config", file.to_str().unwrap()]).await;
    let mut heard = rig.listen("raw").await;
    let mut assign = assignment("raw", 1, json!({"file": "ramp.raw"}));
    assign.sdk = AdapterName::parse("file").unwrap();
    let begin = std::time::Instant::now();
    let verdict = rig.give(&assign).await;
    assert!(verdict.accepted, "{}", verdict.reason);
    let mut samples = Vec::new();
    while samples.len() < ramp.len() {
        let (subject, batch) = next(&mut heard).await;
        assert_eq!(subject, "audio.live.raw.file");
        samples.extend_from_slice(&batch.pcm);
    }
    assert!(samples == ramp, "every sample, once and in order");
    // One second is read ahead, and the last two are in the pipe when it ends.
    assert!(begin.elapsed().as_millis() > 2_500, "{:?}", begin.elapsed());
    rig.state("raw", SessionState::Done).await;

    // Another file is none of its business.
    let mut assign = assignment("raw", 2, json!({"file": "/etc/passwd"}));
    assign.sdk = AdapterName::parse("file").unwrap();
    let verdict = within("verdict", crate::rig::SOON, rig.give(&assign)).await;
    assert!(!verdict.accepted && verdict.fatal, "{verdict:?}");
}
