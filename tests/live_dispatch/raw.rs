//! A client that shows headers and sets any reply subject.

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::support::NatsServer;

/// A bare connection.
pub struct Raw(BufReader<TcpStream>, u32);

/// A message that came in.
#[derive(Debug)]
pub struct Message {
    pub subject: String,
    pub headers: String,
    pub payload: String,
}

impl Raw {
    pub async fn connect(server: &NatsServer) -> Self {
        let stream = TcpStream::connect(server.addr()).await.unwrap();
        let mut raw = Self(BufReader::new(stream), 0);
        raw.line().await; // INFO
        raw.send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n").await;
        raw
    }

    async fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    pub async fn subscribe(&mut self, subject: &str) {
        self.1 += 1;
        self.send(&format!("SUB {subject} {}\r\n", self.1)).await;
    }

    pub async fn publish(&mut self, subject: &str, reply: &str, payload: &str) {
        self.send(&format!("PUB {subject} {reply} {}\r\n{payload}\r\n", payload.len())).await;
    }

    /// Returns once the server has dealt with all that was sent.
    pub async fn barrier(&mut self) {
        self.send("PING\r\n").await;
        while self.line().await != "PONG" {}
    }

    pub async fn next(&mut self) -> Message {
        loop {
            let line = self.line().await;
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "PING" => self.send("PONG\r\n").await,
                "MSG" | "HMSG" => {
                    let number = |back: usize| words[words.len() - back].parse::<usize>().unwrap();
                    let headers = if words[0] == "HMSG" { number(2) } else { 0 };
                    let mut bytes = vec![0; number(1) + 2];
                    self.0.read_exact(&mut bytes).await.unwrap();
                    bytes.truncate(bytes.len() - 2);
                    let payload = String::from_utf8(bytes.split_off(headers)).unwrap();
                    let headers = String::from_utf8(bytes).unwrap();
                    return Message { subject: words[1].to_owned(), headers, payload };
                }
                _ => (),
            }
        }
    }

    /// Asks and returns the answer.
    pub async fn ask(&mut self, subject: &str, payload: &str) -> Message {
        self.publish(subject, "_INBOX.raw.1", payload).await;
        self.next().await
    }
}
