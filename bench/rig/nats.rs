//! A nats-server for a bench, and a connection to it that knows just enough of
//! the protocol.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};

/// A server without JetStream. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(program: &Path) -> anyhow::Result<Self> {
        // The port is free now and ours a moment later.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut child = Command::new(program)
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let log = child.stderr.take().context("stderr is piped")?;
        let mut lines = BufReader::new(log).lines();
        loop {
            match lines.next() {
                Some(Ok(line)) if line.contains("Server is ready") => break,
                Some(Ok(_)) => (),
                _ => bail!("{} ended before it was ready", program.display()),
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address: format!("127.0.0.1:{port}") })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects, says `hello` after CONNECT, and waits until the server has taken
/// all of it.
pub(crate) fn connect(address: &str, hello: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let connect = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
    stream.write_all(format!("{connect}{hello}PING\r\n").as_bytes())?;
    let mut seen = Vec::new();
    while !seen.ends_with(b"PONG\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the server closed the connection")?;
        seen.push(byte[0]);
    }
    Ok(stream)
}
