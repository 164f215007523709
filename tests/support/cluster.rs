//! Three real nats-servers as one cluster, each of which may be killed, stopped
//! and started again.

use std::{path::PathBuf, time::Duration};

use rustix::process::Signal;

use super::{
    server::{NatsServer, free_port},
    wait::eventually,
};

/// How long the three may take to agree, on a busy machine.
const TOGETHER: Duration = Duration::from_secs(60);

/// Each drops another that stands still after as long as nats/server.conf says.
/// The shortest lame duck there is: nobody is put off slowly here.
const CONFIG: &str = r#"
jetstream { store_dir: $NATS_STORE_DIR }
ping_interval: "2s"
ping_max: 2
lame_duck_grace_period: "100ms"
lame_duck_duration: "30s"
"#;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<NatsServer>,
    _config: tempfile::TempDir,
}

impl Cluster {
    /// Starts all three and waits until they agree on who leads.
    pub async fn start() -> Self {
        let config = tempfile::tempdir().expect("a folder for the configuration");
        let file: PathBuf = config.path().join("node.conf");
        std::fs::write(&file, CONFIG).expect("the configuration is written");
        let ports = [free_port(), free_port(), free_port()];
        let routes = ports.map(|port| format!("nats://127.0.0.1:{port}"));
        let mut nodes = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let node = NatsServer::build()
                .config(&file)
                .arg("--name")
                .arg(name(index))
                .arg("--cluster_name")
                .arg("test")
                .arg("--cluster")
                .arg(route)
                .arg("--routes")
                .arg(routes.join(","));
            nodes.push(node.start().await);
        }
        Self { nodes, _config: config }
    }

    /// All of them, for a client.
    pub fn url(&self) -> String {
        self.url_but(usize::MAX)
    }

    /// All but one.
    pub fn url_but(&self, but: usize) -> String {
        let others = self.nodes.iter().enumerate().filter(|(index, _)| *index != but);
        others.map(|(_, node)| node.url()).collect::<Vec<_>>().join(",")
    }

    /// One of them, alone.
    pub fn node(&mut self, index: usize) -> &mut NatsServer {
        &mut self.nodes[index]
    }

    /// Which of them leads a stream, as one that is not `but` says.
    pub async fn leader(&self, stream: &str, but: Option<usize>) -> usize {
        eventually(&format!("leader of {stream}"), TOGETHER, async || {
            let info = self.info(stream, but.unwrap_or(usize::MAX)).await?;
            let leader = info["cluster"]["leader"].as_str()?.to_owned();
            (0..self.nodes.len()).find(|index| name(*index) == leader && Some(*index) != but)
        })
        .await
    }

    /// Waits until a stream has three copies that are there and current.
    pub async fn whole(&self, stream: &str) {
        eventually(&format!("three copies of {stream}"), TOGETHER, async || {
            let info = self.info(stream, usize::MAX).await?;
            let copies = info["cluster"]["replicas"].as_array()?.clone();
            let there = |copy: &serde_json::Value| {
                copy["current"].as_bool() == Some(true) && copy["offline"].as_bool() != Some(true)
            };
            (copies.len() == 2 && copies.iter().all(there)).then_some(())
        })
        .await;
    }

    /// Waits until a node that was told to has ended, and starts it again.
    pub async fn start_again(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        eventually("end of a server", TOGETHER, async || (!node.is_running()).then_some(())).await;
        node.restart().await;
    }

    async fn info(&self, stream: &str, but: usize) -> Option<serde_json::Value> {
        let urls = self.url_but(but);
        let servers: Vec<&str> = urls.split(',').collect();
        let client = async_nats::connect(servers).await.ok()?;
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        let asked = client.request(subject, "".into());
        let answer = tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?.ok()?;
        serde_json::from_slice(&answer.payload).ok()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            // One that stands still would not hear that it is to end.
            node.signal(Signal::CONT);
        }
    }
}

fn name(index: usize) -> String {
    format!("n{}", index + 1)
}
