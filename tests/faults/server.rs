//! The one server stands still.

use std::time::Duration;

use crate::{
    ears::Ears,
    rig::{Rig, SETTLED},
    support::{NatsServer, lasting},
};

#[tokio::test]
async fn a_server_that_stood_still_costs_no_room() {
    let server = NatsServer::start().await;
    let rig = Rig::start(&server.url(), &["d1", "d2"], &["w1", "w2"]).await;
    let ears = Ears::start(&server.url()).await;
    rig.ramps(0..4).await;
    ears.hear(4).await;
    let before = ears.rooms();
    // Connections stay open, shorter and longer than anybody waits for a sign.
    for still in [1, 6] {
        server.stop().await;
        lasting(Duration::from_secs(still)).await;
        server.cont();
        rig.leader(None).await;
        lasting(SETTLED).await;
        ears.go_on(5).await;
        ears.assert_untouched(&before);
    }
    rig.ramps(4..5).await;
    rig.assert_no_errors();
}
