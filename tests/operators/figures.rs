//! What any NATS client sees: the micro services' own words, in the shapes of
//! their protocol, and the buckets' values.

use serde_json::{Value, json};

use crate::{
    rig::{Rig, SOON},
    support::eventually,
};

/// The first endpoint's data in a service's statistics, once they hold.
async fn figures(rig: &Rig, service: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
    let subject = format!("$SRV.STATS.{service}");
    eventually("figures", SOON, async || {
        let data = rig.ask(&subject, "").await["endpoints"][0]["data"].take();
        holds(&data).then_some(data)
    })
    .await
}

#[tokio::test]
async fn a_dispatcher_tells_who_leads_what_waits_and_how_long() {
    let rig = Rig::start(&["d1", "w1"]).await;
    rig.runs("call", "r").await;
    let moon = ["submit", "--id=moon", "--room=m", "--sdk=sim", "--label=zone=moon"];
    assert_eq!(rig.run(&moon).await.code, 0);
    for args in [&["get", "nobody"][..], &["submit", "--id=x", "--room=r", "--sdk=sim"]] {
        assert_ne!(rig.run(args).await.code, 0);
    }
    let data = figures(&rig, "dispatcher", |data| data["refusals"]["conflict"] == 1).await;
    let leader = &rig.json(&["leader"]).await[0];
    let said = |key: &str| &data[key];
    assert_eq!((said("is_leader"), said("leader")), (&json!(true), &json!("d1")));
    assert_eq!(said("term"), &leader["term"]);
    assert_eq!(said("queue"), 1);
    assert_eq!(said("tasks"), &json!({"pending": 1, "running": 1}));
    assert_eq!(said("workers"), &json!({"running": 1, "lame_duck": 0, "silent": 0}));
    assert_eq!(said("refusals"), &json!({"not_found": 1, "conflict": 1}));
    let place = said("place_ms");
    assert_eq!(place["of"], 1);
    assert!(place["p50"].is_u64() && place["p50"] == place["p99"], "{place}");
    rig.assert_no_errors();
}

#[tokio::test]
async fn a_worker_tells_what_it_runs_and_sends() {
    let rig = Rig::start(&["d1", "w1"]).await;
    rig.runs("call", "r").await;
    let data = figures(&rig, "worker", |data| data["batches"].as_u64() > Some(3)).await;
    assert_eq!((&data["sessions"], &data["phase"]), (&json!(1), &json!("running")));
    assert_eq!((&data["cores"], &data["resent"]), (&json!(1000.0), &json!(0)));
    assert!(data["cores_used"].is_f64() && data["bytes"].as_u64() > Some(0), "{data}");
}

#[tokio::test]
async fn micro_services_speak_their_protocol() {
    let rig = Rig::start(&["d1", "w1"]).await;
    // Both serve by then.
    rig.runs("call", "r").await;
    for (service, id, endpoints) in [("dispatcher", "d1", 9), ("worker", "w1", 6)] {
        for (verb, kind) in [("PING", "ping"), ("INFO", "info"), ("STATS", "stats")] {
            for subject in [format!("$SRV.{verb}.{service}"), format!("$SRV.{verb}.{service}.{id}")]
            {
                let answer = rig.ask(&subject, "").await;
                assert_eq!(answer["type"], format!("io.nats.micro.v1.{kind}_response"));
                assert_eq!((&answer["name"], &answer["id"]), (&json!(service), &json!(id)));
                assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
                assert!(answer["metadata"].is_object());
                let Some(told) = answer["endpoints"].as_array() else {
                    assert_eq!(verb, "PING");
                    continue;
                };
                assert_eq!(told.len(), endpoints);
                for endpoint in told {
                    assert!(endpoint["name"].is_string() && endpoint["subject"].is_string());
                    assert!(endpoint["queue_group"].is_string());
                    if verb == "INFO" {
                        assert!(endpoint["metadata"].is_object());
                        continue;
                    }
                    for number in
                        ["num_requests", "num_errors", "processing_time", "average_processing_time"]
                    {
                        assert!(endpoint[number].is_u64(), "{number}: {endpoint}");
                    }
                    assert!(endpoint["last_error"].is_string());
                }
                assert_eq!(answer["started"].is_string(), verb == "STATS");
                assert_eq!(answer["description"].is_string(), verb == "INFO");
            }
        }
    }
}

#[tokio::test]
async fn what_the_buckets_keep_is_json_to_read() {
    let rig = Rig::start(&["d1", "w1"]).await;
    rig.runs("call", "r").await;
    let client = async_nats::connect(rig.server.url()).await.unwrap();
    let store = async_nats::jetstream::new(client);
    for (bucket, key, field, value) in [
        ("gateway_tasks", "call", "state", "running"),
        ("gateway_rooms", "r", "worker", "w1"),
        ("gateway_leases", "leader", "holder", "d1"),
        ("gateway_leases", "worker.w1", "holder", "w1"),
    ] {
        let bucket = store.get_key_value(bucket).await.unwrap();
        let kept = bucket.get(key).await.unwrap().expect(key);
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        assert_eq!(kept[field], value, "{kept}");
    }
}
