//! Told to stop in the middle of an upload: it is finished, if that takes no longer than it may; else it costs nothing.

use std::{fs, time::Duration};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sluice_common::{l402::Credential, muid::Muid};
use tokio::net::TcpStream;

use crate::support::{MIB, SINGLE_USE, Sluice, authorized, bytes, eventually, eventually_within, slow::SlowUpload};

/// Sends the first half of a file, and waits until a part of it is on disk.
async fn begin(sluice: &Sluice, credential: &Credential, file: Vec<u8>) -> SlowUpload {
    let upload = SlowUpload::begin(sluice.address(), credential, file).await;
    eventually("a part of it is on disk", async || (sluice.stored_files().len() == 1).then_some(())).await;
    upload
}

/// The process of the gateway, where it has one of its own.
fn gateway_pid(sluice: &Sluice) -> Option<String> {
    fs::read_to_string(sluice.data().join("gateway.pid")).ok()
}

/// Waits until all of it stops: nothing new is begun.
async fn is_stopping(sluice: &Sluice) {
    let anew = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    eventually("new connections are sent away", async || {
        let reply = anew.get(sluice.url("/ping")).send().await;
        reply.is_ok_and(|reply| reply.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    // Connections that were there before are, too.
    let reply = sluice.get("/ping").send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.headers()["retry-after"], "5");
    assert_eq!(reply.json::<Value>().await.unwrap()["code"], "stopping");
    let health = sluice.client.get(sluice.admin_url("/healthz")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
    // In one process the media server goes on until the gateway has ended.
    if gateway_pid(sluice).is_some() {
        eventually("the media server takes no connection", async || {
            TcpStream::connect(sluice.backend_address()).await.is_err().then_some(())
        })
        .await;
    }
}

/// Whether a process has ended: then it is a zombie until it is waited for.
fn has_ended(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("State:\tZ")
}

/// Waits until all its processes have ended.
async fn end_by_themselves(sluice: &Sluice, within: Duration) {
    let pids: Vec<String> = gateway_pid(sluice).into_iter().chain([sluice.pid().to_string()]).collect();
    eventually_within(within, "all processes have ended", &mut async || {
        pids.iter().all(|pid| has_ended(pid)).then_some(())
    })
    .await;
}

async fn an_upload_under_way_is_finished(mut sluice: Sluice) {
    let credential = sluice.buy().await;
    let file = bytes(6 * MIB, 1);
    let upload = begin(&sluice, &credential, file.clone()).await;
    sluice.signal("TERM").await;
    is_stopping(&sluice).await;
    upload.end().await;
    // Well before the 30 s that it may wait for.
    end_by_themselves(&sluice, Duration::from_secs(20)).await;
    // Each has ended well.
    sluice.stop().await;

    sluice.start_again().await;
    let path = format!("/file/{}", Muid::of(&file));
    let reply = authorized(sluice.get(&path), &credential).send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert!(reply.bytes().await.unwrap() == file, "not the bytes that were sent");
    assert_eq!(sluice.token_state(&credential).await["reason"], "used_up");
    sluice.finish().await;
}

#[tokio::test]
async fn an_upload_under_way_is_finished_in_one_process() {
    an_upload_under_way_is_finished(Sluice::start_with(SINGLE_USE).await).await;
}

#[tokio::test]
async fn an_upload_under_way_is_finished_in_two_processes() {
    an_upload_under_way_is_finished(Sluice::start_apart(&[], SINGLE_USE).await).await;
}

/// Configuration in which a stop waits for a second.
fn hasty() -> String {
    format!("stop_timeout_secs = 1\n{SINGLE_USE}")
}

async fn an_upload_without_end_is_cut_off_and_costs_nothing(mut sluice: Sluice) {
    let credential = sluice.buy().await;
    let upload = begin(&sluice, &credential, bytes(6 * MIB, 1)).await;
    sluice.signal("TERM").await;
    end_by_themselves(&sluice, Duration::from_secs(15)).await;
    sluice.stop().await;
    drop(upload);
    let log = sluice.log();
    // Of two, it ends with the first that has waited long enough.
    let cut_off = ["stopping with requests under way", "cutting off connections that are still under way"];
    assert!(cut_off.iter().any(|said| log.contains(said)), "something else has ended the upload:\n{log}");
    assert!(sluice.stored_files().is_empty(), "it was not cleaned up");

    sluice.start_again().await;
    let state = sluice.token_state(&credential).await;
    assert_eq!((&state["can_store"], &state["uses_left"], &state["stored"]), (&json!(true), &json!(1), &json!([])));
    assert_eq!(sluice.upload(&credential, b"at last").await.status(), StatusCode::OK);
    let mine = authorized(sluice.get("/mymedia"), &credential).send().await.unwrap();
    let mine: Value = mine.json().await.unwrap();
    assert_eq!(mine.as_array().unwrap().len(), 1, "{mine}");
    assert_eq!(mine[0]["muid"], Muid::of(b"at last").to_string());
    sluice.finish().await;
}

#[tokio::test]
async fn an_upload_without_end_is_cut_off_in_one_process() {
    an_upload_without_end_is_cut_off_and_costs_nothing(Sluice::start_with(&hasty()).await).await;
}

#[tokio::test]
async fn an_upload_without_end_is_cut_off_in_two_processes() {
    an_upload_without_end_is_cut_off_and_costs_nothing(Sluice::start_apart(&[], &hasty()).await).await;
}

#[tokio::test]
async fn who_is_told_twice_waits_for_nothing() {
    let mut sluice = Sluice::start_with(SINGLE_USE).await;
    let credential = sluice.buy().await;
    let _upload = begin(&sluice, &credential, bytes(6 * MIB, 1)).await;
    sluice.signal("TERM").await;
    is_stopping(&sluice).await;
    sluice.signal("TERM").await;
    end_by_themselves(&sluice, Duration::from_secs(10)).await;
    assert!(sluice.log().contains("sluice: told to stop twice"), "{}", sluice.log());
    // It has not ended well, so it is not looked at like one that has.
    sluice.kill().await;
}
