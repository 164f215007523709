//! The subjects, names of buckets and ids, as they stand on the wire.

use audio_gateway::{
    bus::subjects::{self as s, Lane, Topic},
    id::{SourceId, SubscriberId, TrackId},
};

use crate::{ann, document, room, task, worker};

#[test]
fn subjects_of_services_and_operators() {
    for (subject, text) in [
        (s::Submit.subject(), "gateway.task.submit"),
        (s::Get.subject(), "gateway.task.get"),
        (s::List.subject(), "gateway.task.list"),
        (s::Update.subject(), "gateway.task.update"),
        (s::Cancel.subject(), "gateway.task.cancel"),
        (s::TaskEvents(task()).subject(), "gateway.task.event.call-42"),
        (s::AdminWorkers.subject(), "gateway.admin.workers"),
        (s::AdminLeader.subject(), "gateway.admin.leader"),
        (s::AdminDrain.subject(), "gateway.admin.drain"),
        (s::AdminStepDown.subject(), "gateway.admin.stepdown"),
    ] {
        assert_eq!(subject, text);
        document::says(text);
    }
    assert_eq!(s::TaskEvents::ALL, "gateway.task.event.*");
}

#[test]
fn subjects_of_workers() {
    for (subject, text) in [
        (s::WorkerHeartbeat(worker()).subject(), "gateway.worker.w1.heartbeat"),
        (s::WorkerAssign(worker()).subject(), "gateway.worker.w1.assign"),
        (s::WorkerUpdate(worker()).subject(), "gateway.worker.w1.update"),
        (s::WorkerRevoke(worker()).subject(), "gateway.worker.w1.revoke"),
        (s::WorkerDrain(worker()).subject(), "gateway.worker.w1.drain"),
        (s::WorkerPing(worker()).subject(), "gateway.worker.w1.ping"),
        (s::WorkerInventory(worker()).subject(), "gateway.worker.w1.inventory"),
    ] {
        assert_eq!(subject, text);
        document::says(&text.replace("w1", "<worker>"));
    }
    assert_eq!(s::WorkerHeartbeat::ALL, "gateway.worker.*.heartbeat");
}

#[test]
fn subjects_of_audio() {
    let (room, ann) = (room(), ann());
    let asr = SubscriberId::parse("asr-7").unwrap();
    let tts = SourceId::parse("tts").unwrap();
    for (subject, text, pattern) in [
        (s::track(Lane::Live, &room, &ann), "audio.live.42.ann", "audio.live.<room>.<track>"),
        (s::track(Lane::Rec, &room, &ann), "audio.rec.42.ann", "audio.rec.<room>.<track>"),
        (s::room_tracks(Lane::Live, &room), "audio.live.42.*", "audio.live.<room>.*"),
        (s::room_tracks(Lane::Rec, &room), "audio.rec.42.*", "audio.rec.<room>.*"),
        (
            s::TrackNack(room.clone(), ann.clone()).subject(),
            "audio.nack.42.ann",
            "audio.nack.<room>.<track>",
        ),
        (
            s::resend(&room, &ann, &asr),
            "audio.resend.42.ann.asr-7",
            "audio.resend.<room>.<track>.<subscriber>",
        ),
        (
            s::room_resends(&room, &asr),
            "audio.resend.42.*.asr-7",
            "audio.resend.<room>.*.<subscriber>",
        ),
        (s::RoomEvents(room.clone()).subject(), "audio.event.42", "audio.event.<room>"),
        (s::push(&room, &tts), "audio.push.42.tts", "audio.push.<room>.<source>"),
        (s::control(&room, &tts), "audio.control.42.tts", "audio.control.<room>.<source>"),
    ] {
        assert_eq!(subject, text);
        document::says(pattern);
    }
}

#[test]
fn buckets_streams_and_services() {
    for (name, text) in [
        (s::TASKS_BUCKET, "gateway_tasks"),
        (s::ROOMS_BUCKET, "gateway_rooms"),
        (s::LEASES_BUCKET, "gateway_leases"),
        (s::EVENTS_STREAM, "GATEWAY_EVENTS"),
    ] {
        assert_eq!(name, text);
        document::says(&format!("`{text}`"));
    }
    assert_eq!((s::DISPATCHER_SERVICE, s::WORKER_SERVICE), ("dispatcher", "worker"));
    assert_eq!(s::LEADER_KEY, "leader");
    assert_eq!(s::worker_lease_key(&worker()), "worker.w1");
}

#[test]
fn tracks_of_users() {
    for (user, track) in [
        ("ann", "ann"),
        ("user-0", "user-0"),
        ("", "="),
        ("a b", "=YSBi"),
        ("ann@example.org", "=YW5uQGV4YW1wbGUub3Jn"),
        ("😀", "=8J-YgA"),
    ] {
        assert_eq!(TrackId::of_user(user).as_str(), track, "{user:?}");
        document::says(&format!("`{track}`"));
    }
    let long = "x".repeat(65);
    let track = TrackId::of_user(&long);
    assert_eq!(track.as_str(), "=h9537c5fdf120482f7d58d25e9ed583f5");
    document::says(track.as_str());
}
