//! An adapter for benches: it speaks the SDK pipe until its track is subscribed,
//! lends its standard output to the bench's feeder, and sleeps until it is told
//! to leave. A room of one participant, `user-0`.

use std::{
    io::{Read, Write},
    os::unix::net::UnixDatagram,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use audio_gateway::sdk::pipe::{
    Decoder, Encoder, FromAdapter, Hello, MediaClock, PROTOCOL, Participant, ToAdapter, Track,
};

fn main() -> anyhow::Result<()> {
    let feeder = std::env::args().nth(1).context("usage: bench-adapter SOCKET-OF-THE-FEEDER")?;
    let mut encoder = Encoder::default();
    let mut say = |messages: &[FromAdapter<'_>]| -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        for message in messages {
            encoder.write(message, &mut bytes)?;
        }
        std::io::stdout().lock().write_all(&bytes)?;
        Ok(std::io::stdout().lock().flush()?)
    };
    say(&[FromAdapter::Hello(Hello {
        protocol: PROTOCOL,
        name: "bench".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        clock: MediaClock::Unix,
    })])?;
    let (mut decoder, mut buffer) = (Decoder::to_adapter(), vec![0; 4096]);
    let mut room = String::new();
    loop {
        let count = std::io::stdin().lock().read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut input = &buffer[..count];
        while let Some(frame) = decoder.next(&mut input) {
            match ToAdapter::parse(frame)? {
                ToAdapter::Join(join) => {
                    room = join.room.to_string();
                    let (now, user) = (unix_us(), "user-0".to_owned());
                    let who = Participant { user: user.clone(), name: None, role: None };
                    let track = Track { user, role: None };
                    say(&[
                        FromAdapter::Joined { now, clock: MediaClock::Unix },
                        FromAdapter::ParticipantJoined(who),
                        FromAdapter::TrackOpened { stream: 1, pts: now, track },
                    ])?;
                }
                ToAdapter::Subscribe { stream: 1, on: true } => {
                    let lent = format!("{} {room}", std::process::id());
                    UnixDatagram::unbound()?
                        .send_to(lent.as_bytes(), &feeder)
                        .with_context(|| format!("cannot reach the feeder at {feeder}"))?;
                }
                ToAdapter::Leave { .. } => return Ok(()),
                _ => (),
            }
        }
    }
}

fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64
}
