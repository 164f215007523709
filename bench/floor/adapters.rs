//! Adapters as a worker has them, spoken to just enough.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context, bail};
use audio_gateway::{
    id::{RoomId, TaskId, WorkerId},
    limits,
    sdk::pipe::{Decoder, Encoder, FromAdapter, Join, PROTOCOL, ToAdapter, Welcome},
    task::Params,
};
use rustix::pipe::fcntl_setpipe_size;

use crate::{Adapters, Options};

/// One adapter that has joined. Its standard input is kept: its end would make
/// it leave.
pub(crate) struct Adapter {
    child: Child,
    stdin: ChildStdin,
    encoder: Encoder,
    pub(crate) stdout: std::process::ChildStdout,
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one for each room and lets all of them speak.
pub(crate) fn start(options: &Options) -> anyhow::Result<Vec<Adapter>> {
    let mut adapters = Vec::with_capacity(options.rooms);
    for room in 0..options.rooms {
        adapters.push(start_one(options, room)?);
    }
    for adapter in &mut adapters {
        adapter.wait_for_track()?;
    }
    // Only now: until the first is read, its pipe must hold what it says.
    for adapter in &mut adapters {
        adapter.say(&ToAdapter::Subscribe { stream: 1, on: true })?;
        rustix::io::ioctl_fionbio(&adapter.stdout, true)?;
    }
    Ok(adapters)
}

fn start_one(options: &Options, room: usize) -> anyhow::Result<Adapter> {
    let bin = match &options.bin {
        // The adapters start in the root of the file system.
        Some(bin) => std::path::absolute(bin)?,
        None => std::env::current_exe()?.parent().map(Path::to_owned).context("no folder")?,
    };
    let mut command = match options.adapters {
        Adapters::Sim => Command::new(bin.join("sdk-sim")),
        Adapters::Fed => Command::new(bin.join("bench-adapter")),
    };
    if options.adapters == Adapters::Fed {
        command.arg(options.feeder.as_ref().map_or_else(PathBuf::new, Clone::clone));
    }
    let mut child = command
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start an adapter of {}", bin.display()))?;
    let stdin = child.stdin.take().context("stdin is piped")?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    fcntl_setpipe_size(&stdout, limits::PIPE_BYTES)?;
    let mut adapter = Adapter { child, stdin, encoder: Encoder::default(), stdout };
    let params = serde_json::json!({"source": "ramp", "clock": "unix"});
    let welcome = Welcome {
        protocol: PROTOCOL,
        worker: WorkerId::parse("floor")?,
        rate: limits::SAMPLE_RATE,
        channels: 1,
    };
    let join = Join {
        room: RoomId::parse(&format!("bench-{room}"))?,
        task: TaskId::parse(&format!("bench-{room}"))?,
        params: Params(match (options.adapters, params) {
            (Adapters::Sim, serde_json::Value::Object(params)) => params,
            _ => serde_json::Map::new(),
        }),
        pull: true,
        push: false,
    };
    adapter.say(&ToAdapter::Welcome(welcome))?;
    adapter.say(&ToAdapter::Join(join))?;
    Ok(adapter)
}

impl Adapter {
    fn say(&mut self, message: &ToAdapter<'_>) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        self.encoder.write(message, &mut bytes)?;
        Ok(self.stdin.write_all(&bytes)?)
    }

    fn wait_for_track(&mut self) -> anyhow::Result<()> {
        let (mut decoder, mut buffer) = (Decoder::from_adapter(), [0; 4096]);
        loop {
            let count = self.stdout.read(&mut buffer)?;
            if count == 0 {
                bail!("an adapter has left before it had a track");
            }
            let mut input = &buffer[..count];
            while let Some(frame) = decoder.next(&mut input) {
                if let FromAdapter::TrackOpened { .. } = FromAdapter::parse(frame)? {
                    return Ok(());
                }
            }
        }
    }
}
