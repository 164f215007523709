//! The built-in adapter `ffmpeg`: it plays what the configuration allows,
//! sample for sample and in real time, and opens nothing else, whatever a task,
//! a file or a server says. Needs ffmpeg on the `PATH`.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use audio_gateway::{
    id::{AdapterName, TaskId},
    limits::{FRAME_BYTES, SAMPLE_RATE},
    sdk::{
        adapter::WorkerFile,
        launch::Command,
        process::{ChildKey, End, Patience, SpawnRequest, Stop, Supervisor},
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);
/// Length of the recordings here, in samples.
const LENGTH: usize = SAMPLE_RATE as usize;

/// A folder that tasks may play from, and one beside it that they may not.
struct Folders {
    root: TempDir,
}

impl Folders {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["open", "closed"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        let folders = Self { root };
        folders.write("closed/secret.wav", &wav(LENGTH));
        folders
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.root.path().join(name), content).unwrap();
    }

    /// The command of a worker that allows the open folder and 127.0.0.1.
    fn command(&self, params: serde_json::Value) -> Result<Command, String> {
        let file = self.root.path().join("worker.toml");
        let text = "[media]\nfolders = ['open']\nschemes = ['http']\nhosts = ['127.0.0.1']\n";
        std::fs::write(&file, text).unwrap();
        let adapters = WorkerFile::load(Some(&file)).unwrap().adapters;
        let ffmpeg = adapters.get(&AdapterName::parse("ffmpeg").unwrap()).expect("ffmpeg on PATH");
        let params = serde_json::from_value(params).unwrap();
        ffmpeg.command(&params).map_err(|error| error.to_string())
    }
}

fn samples(length: usize) -> Vec<i16> {
    (0..length).map(|n| (n.wrapping_mul(7_919) % 60_000) as i16).collect()
}

fn wav(length: usize) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    samples(length).into_iter().for_each(|sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    file.into_inner()
}

/// What an adapter wrote, in the pieces it came in, and how it ended.
struct Played {
    pieces: Vec<usize>,
    pcm: Vec<u8>,
    took: Duration,
    end: End,
    stderr: String,
}

async fn play(command: Command) -> Played {
    let launcher = env!("CARGO_BIN_EXE_sdk-launch").into();
    let (supervisor, mut exits) = Supervisor::start(launcher, Patience::default()).unwrap();
    let task = TaskId::parse("play").unwrap();
    let request = SpawnRequest { key: ChildKey(1), task, command };
    let stdout = supervisor.spawn(request).await.unwrap().stdout.unwrap().fd;
    let mut pieces = Vec::new();
    let mut pcm = Vec::new();
    let mut began = None;
    let wait = Timespec::try_from(DEADLINE).unwrap();
    loop {
        assert!(poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&wait)).unwrap() > 0);
        let mut buffer = [0; 65_536];
        let count = rustix::io::read(&stdout, &mut buffer).unwrap();
        if count == 0 {
            break;
        }
        began.get_or_insert_with(Instant::now);
        pieces.push(count);
        pcm.extend_from_slice(&buffer[..count]);
    }
    let took = began.map_or(Duration::ZERO, |began| began.elapsed());
    let exit = tokio::time::timeout(DEADLINE, exits.recv()).await.unwrap().unwrap();
    supervisor.shut_down(Stop::Kill).await;
    Played { pieces, pcm, took, end: exit.end, stderr: exit.stderr_tail }
}

fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// A web server that counts what it was asked for.
struct Web {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start(pages: impl Fn(u16) -> BTreeMap<&'static str, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pages, asked) = (pages(port), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let none = b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec();
                let answer = pages.get(path.as_str()).unwrap_or(&none);
                seen.lock().unwrap().push(path);
                let _ = (&stream).write_all(answer);
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn page(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn a_recording_comes_sample_for_sample_in_real_time() {
    let folders = Folders::new();
    folders.write("open/a.wav", &wav(LENGTH));
    let played = play(folders.command(json!({"file": "a.wav"})).unwrap()).await;
    assert_eq!(played.end, End::Code(0), "{}", played.stderr);
    assert!(played.pcm == bytes(&samples(LENGTH)));
    assert!(played.took >= Duration::from_millis(900), "{:?}", played.took);
    // A busy reader finds some of them joined.
    assert!(played.pieces.contains(&FRAME_BYTES), "one frame at a time: {:?}", played.pieces);
}

#[tokio::test]
async fn a_recording_of_another_rate_comes_in_frames_too() {
    let folders = Folders::new();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer =
        hound::WavWriter::create(folders.root.path().join("open/a.wav"), spec).unwrap();
    samples(8_000).into_iter().for_each(|sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    let played = play(folders.command(json!({"file": "a.wav"})).unwrap()).await;
    assert_eq!(played.pcm.len(), 2 * LENGTH);
    assert!(played.pieces.contains(&FRAME_BYTES), "{:?}", played.pieces);
}

#[tokio::test]
async fn no_file_leads_ffmpeg_to_another() {
    let folders = Folders::new();
    let web = Web::start(|_| BTreeMap::from([("/secret.wav", page("audio/wav", &wav(LENGTH)))]));
    let secret = folders.root.path().join("closed/secret.wav");
    let link = folders.root.path().join("open/link.wav");
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    let (secret, link) = (secret.display(), Path::new("link.wav").display());
    let away = format!("http://127.0.0.1:{}/secret.wav", web.port);

    let hls = |uri: &str| {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{uri}\n#EXT-X-ENDLIST\n")
    };
    let concat = |file: &str| format!("ffconcat version 1.0\nfile '{file}'\n");
    let lists = [
        hls(&secret.to_string()),
        hls(&link.to_string()),
        hls(&away),
        concat(&secret.to_string()),
        concat(&link.to_string()),
        concat(&away),
        concat(&format!("file:{secret}")),
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
            .into(),
        format!(
            "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\"><Period><AdaptationSet>\
             <Representation><BaseURL>{away}</BaseURL></Representation></AdaptationSet></Period></MPD>"
        ),
        format!("[playlist]\nFile1={away}\n"),
        "AviSource(\"x\")\n".into(),
    ];
    for (at, list) in lists.iter().enumerate() {
        // The name is the author's choice as much as the content is.
        for kind in ["m3u8", "wav"] {
            let name = format!("{at}.{kind}");
            folders.write(&format!("open/{name}"), list.as_bytes());
            let played = play(folders.command(json!({"file": name})).unwrap()).await;
            assert!(played.pcm.is_empty(), "{name} played something:\n{list}");
            assert!(!matches!(played.end, End::Code(0)), "{name}:\n{list}");
        }
    }
    assert_eq!(web.asked(), [""; 0]);
    for bad in ["link.wav", "../closed/secret.wav", "file:link.wav", "concat:link.wav", "-y"] {
        assert!(folders.command(json!({"file": bad})).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn no_server_leads_ffmpeg_to_another() {
    let folders = Folders::new();
    let other = Web::start(|_| BTreeMap::from([("/a.wav", page("audio/wav", &wav(LENGTH)))]));
    let away = format!("http://localhost:{}/a.wav", other.port);
    let secret = folders.root.path().join("closed/secret.wav").display().to_string();
    let hls = |uri: &str| {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{uri}\n#EXT-X-ENDLIST\n")
    };
    let concat = |uri: &str| format!("ffconcat version 1.0\nfile '{uri}'\n");
    let web = Web::start(|_| {
        let playlist = "application/vnd.apple.mpegurl";
        let redirect =
            format!("HTTP/1.1 302 Found\r\nLocation: {away}\r\nContent-Length: 0\r\n\r\n");
        let inward = format!("HTTP/1.1 302 Found\r\nLocation: file://{secret}\r\n\r\n");
        BTreeMap::from([
            ("/a.wav", page("audio/wav", &wav(LENGTH))),
            ("/redirect", redirect.into_bytes()),
            ("/inward", inward.into_bytes()),
            ("/away.m3u8", page(playlist, hls(&away).as_bytes())),
            ("/in.m3u8", page(playlist, hls(&format!("file://{secret}")).as_bytes())),
            ("/concat", page("text/plain", concat(&away).as_bytes())),
            ("/concat-in", page("text/plain", concat(&secret).as_bytes())),
        ])
    });
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", web.port);

    let recording = play(folders.command(json!({"file_url": url("/a.wav")})).unwrap()).await;
    assert!(recording.pcm == bytes(&samples(LENGTH)), "{}", recording.stderr);
    assert!(recording.took >= Duration::from_millis(900));
    let live = play(folders.command(json!({"url": url("/a.wav")})).unwrap()).await;
    assert!(live.pcm.len() > LENGTH, "{}", live.stderr);

    for path in ["/redirect", "/inward", "/away.m3u8", "/in.m3u8", "/concat", "/concat-in"] {
        for param in ["url", "file_url"] {
            let played = play(folders.command(json!({param: url(path)})).unwrap()).await;
            assert!(played.pcm.is_empty(), "{param} {path} played something");
            assert!(!matches!(played.end, End::Code(0)), "{param} {path}");
        }
    }
    assert_eq!(other.asked(), [""; 0]);
    assert!(web.asked().len() >= 14, "each was tried: {:?}", web.asked());
    for bad in [away.as_str(), "file:///etc/passwd", "concat:http://127.0.0.1/", "-y"] {
        assert!(folders.command(json!({"url": bad})).is_err(), "{bad}");
    }
}
