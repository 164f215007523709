//! What runs the server: a process, or, with `TEST_NATS=container`, a container
//! that testcontainers starts. Its image holds the same binary and nothing
//! else, so that no registry is needed.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use rustix::process::Signal;
use testcontainers::{
    ContainerAsync, GenericBuildableImage, GenericImage, ImageExt,
    core::{BuildImageOptions, Mount},
    runners::{AsyncBuilder, AsyncRunner},
};

use super::program::{Program, Running};

/// A server binary that can be started, killed, and started again.
#[derive(Debug)]
pub enum Engine {
    /// As a process of ours.
    Process(Option<Running>),
    /// As a container on the host's network.
    Container(Option<Box<ContainerAsync<GenericImage>>>),
}

impl Engine {
    /// The engine that the environment asks for.
    pub fn choose() -> Self {
        match std::env::var("TEST_NATS").as_deref() {
            Ok("container") => Self::Container(None),
            Ok("process" | "") | Err(_) => Self::Process(None),
            Ok(other) => panic!("TEST_NATS={other}: say process or container"),
        }
    }

    /// Starts the server. `folders` are those it reads and writes.
    pub async fn start(
        &mut self,
        args: &[OsString],
        env: &[(OsString, OsString)],
        folders: &[&Path],
    ) {
        let text = |text: &OsString| text.to_str().expect("arguments are text").to_owned();
        match self {
            Self::Process(running) => {
                let mut program = Program::new(binary()).args(args);
                for (key, value) in env {
                    program = program.env(key, value);
                }
                *running = Some(program.start());
            }
            Self::Container(container) => {
                // The old one goes before the new one takes its port.
                drop(container.take());
                let mut request =
                    image().await.with_cmd(args.iter().map(text)).with_network("host");
                for (key, value) in env {
                    request = request.with_env_var(text(key), text(value));
                }
                for folder in folders {
                    let folder = folder.to_str().expect("a path that is text");
                    request = request.with_mount(Mount::bind_mount(folder, folder));
                }
                let started = request.start().await.expect("the container starts");
                *container = Some(Box::new(started));
            }
        }
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        match self {
            Self::Process(Some(running)) => running.kill(),
            Self::Container(Some(container)) => {
                // Fails only where it is gone already.
                docker(&["kill", container.id()]);
                docker(&["wait", container.id()]);
            }
            _ => (),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        match self {
            Self::Process(Some(running)) => running.signal(signal),
            Self::Container(Some(container)) => {
                let number = format!("--signal={}", signal.as_raw());
                docker(&["kill", &number, container.id()]);
            }
            _ => panic!("the server was not started"),
        }
    }

    /// Its process id, as this host counts.
    pub fn pid(&self) -> i32 {
        match self {
            Self::Process(Some(running)) => running.pid(),
            Self::Container(Some(container)) => {
                let pid = docker(&["inspect", "--format={{.State.Pid}}", container.id()]);
                pid.trim().parse().expect("a running container has a process")
            }
            _ => panic!("the server was not started"),
        }
    }

    /// Whether it lives.
    pub fn is_running(&mut self) -> bool {
        match self {
            Self::Process(Some(running)) => running.exited().is_none(),
            Self::Container(Some(container)) => {
                docker(&["inspect", "--format={{.State.Running}}", container.id()]).contains("true")
            }
            _ => false,
        }
    }

    /// What it logged since its last start.
    pub fn log(&self) -> String {
        match self {
            Self::Process(Some(running)) => running.stderr(),
            Self::Container(Some(container)) => docker(&["logs", container.id()]),
            _ => String::new(),
        }
    }
}

/// Runs the `docker` command: what testcontainers has no word for.
fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().expect("the docker command runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// The image: the binary alone, built once.
async fn image() -> GenericImage {
    GenericBuildableImage::new("audio-gateway-test-nats", "local")
        .with_dockerfile_string("FROM scratch\nCOPY nats-server /\nENTRYPOINT [\"/nats-server\"]\n")
        .with_file(binary(), "nats-server")
        .build_image_with(BuildImageOptions::new())
        .await
        .expect("the image is built")
}

/// The nats-server that `scripts/nats-server.sh` finds or fetches, once.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/nats-server.sh");
        let found = Command::new(script).output().expect("scripts/nats-server.sh runs");
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        String::from_utf8(found.stdout).expect("a path that is text").trim().into()
    })
}
