//! Buckets against a real server: who makes them, and one that is made anew.

// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use audio_gateway::bus::{
    BusOptions, Link, Purpose,
    kv::{Bucket, Store, WriteError},
};
use support::NatsServer;

const SOON: Duration = Duration::from_secs(10);

async fn store(server: &NatsServer) -> (Link, Store) {
    let link = Link::connect(&BusOptions::plain(&server.url()), "t", Purpose::Control).await;
    let link = link.unwrap();
    let store = Store::new(&link, None);
    (link, store)
}

#[tokio::test]
async fn a_write_meant_for_a_bucket_that_was_deleted_is_none_for_the_next() {
    let server = NatsServer::start().await;
    let (link, store) = store(&server).await;
    let first: Bucket<String> = store.bucket("b", None).await.unwrap();
    let mut revisions = vec![first.create("k", &"first".to_owned()).await.unwrap()];
    for _ in 0..3 {
        let last = *revisions.last().unwrap();
        revisions.push(first.update("k", &"more".to_owned(), last).await.unwrap());
    }
    let deleted = link.ask_bytes("$JS.API.STREAM.DELETE.KV_b", "".into(), SOON).await.unwrap();
    assert!(String::from_utf8_lossy(&deleted).contains(r#""success":true"#), "{deleted:?}");
    assert_eq!(first.pulse().await.unwrap(), None);

    let next: Bucket<String> = store.bucket("b", None).await.unwrap();
    assert!(next.pulse().await.unwrap().unwrap().empty);
    let mut last = next.create("k", &"next".to_owned()).await.unwrap();
    // As many writes as there were before: none has the number of one of those.
    for _ in 0..4 {
        assert!(revisions.iter().all(|old| *old < last), "{last} after {revisions:?}");
        for old in &revisions {
            let late = next.update("k", &"late".to_owned(), *old).await;
            assert!(matches!(late, Err(WriteError::Conflict(_))), "{late:?}");
        }
        last = next.update("k", &"next".to_owned(), last).await.unwrap();
    }
    assert_eq!(next.get("k").await.unwrap().unwrap().value, "next");
}

#[tokio::test]
async fn of_many_who_make_a_bucket_all_have_the_same() {
    let server = NatsServer::start().await;
    let (_link, store) = store(&server).await;
    let makers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.bucket::<String>("b", None).await })
    });
    let mut buckets = Vec::new();
    for maker in makers.collect::<Vec<_>>() {
        buckets.push(maker.await.unwrap().unwrap());
    }
    let revision = buckets[0].create("k", &"v".to_owned()).await.unwrap();
    for bucket in &buckets {
        assert_eq!(bucket.get("k").await.unwrap().unwrap().revision, revision);
    }
}
