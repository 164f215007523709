//! `gateway leader`: which dispatcher leads.

use audio_gateway::client::Gateway;

use crate::{exit::Exit, show::Show};

pub(crate) async fn run(gateway: &Gateway, show: &Show) -> anyhow::Result<Exit> {
    let answer = gateway.leader().await?;
    if show.json {
        show.value(&answer)?;
    } else {
        let leader = answer.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        let row = vec![leader, answer.term.to_string(), answer.answered_by.to_string()];
        show.rows(&["leader", "term", "answered by"], &[row])?;
    }
    Ok(Exit::Done)
}
