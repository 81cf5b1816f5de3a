//! A new process takes over from a gateway, in the middle of uploads.

use std::{fs, time::Duration};

use reqwest::{Client, StatusCode};
use serde_json::Value;
use sluice_testing::postgres;

use crate::support::{MIB, SINGLE_USE, Sluice, bytes, eventually, slow::SlowUpload};

/// What a token costs to who connects anew; none: nobody answers.
async fn price(sluice: &Sluice) -> Option<u64> {
    let client = Client::builder().no_proxy().build().unwrap();
    let reply = client.get(sluice.url("/largefile")).send().await.ok()?;
    assert_eq!(reply.status(), StatusCode::PAYMENT_REQUIRED);
    reply.json::<Value>().await.unwrap()["price_sat"].as_u64()
}

/// Begins `count` uploads.
async fn uploads(sluice: &Sluice, count: u64, seed: u64) -> Vec<SlowUpload> {
    let mut uploads = Vec::new();
    for each in 0..count {
        let credential = sluice.buy().await;
        uploads.push(SlowUpload::begin(sluice.address(), &credential, bytes(6 * MIB, seed + each)).await);
    }
    uploads
}

async fn no_upload_is_cut(environment: &[(&str, &str)]) {
    let mut sluice = Sluice::start_apart(environment, SINGLE_USE).await;
    let mut first = uploads(&sluice, 6, 100).await;
    let path = sluice.folder().join("sluice.toml");
    for (round, price_sat) in [(1, 201), (2, 202)] {
        // The new one has a configuration of its own: so it shows who answers.
        let config = fs::read_to_string(&path).unwrap();
        let (before, after) = config.split_once("price_sat = ").unwrap();
        let (_, after) = after.split_once('\n').unwrap();
        fs::write(&path, format!("{before}price_sat = {price_sat}\n{after}")).unwrap();

        let old = sluice.upgrade().await;
        // For some seconds both take connections. Whoever took one finishes it.
        let between = uploads(&sluice, 3, 200 * round).await;
        for upload in &mut first {
            upload.send(10_000).await;
        }
        let mut in_a_row = 0;
        eventually("the new one alone answers", async || {
            in_a_row = if price(&sluice).await == Some(price_sat) { in_a_row + 1 } else { 0 };
            (in_a_row == 50).then_some(())
        })
        .await;
        assert!(old.is_running(), "it has uploads under way");
        let later = uploads(&sluice, 2, 300 * round).await;
        for upload in first.drain(..).chain(between) {
            upload.end().await;
        }
        // Nothing keeps it any more: neither an idle connection, nor what the new one has under way.
        old.ended().await;
        first = later;
    }
    for upload in first {
        upload.end().await;
    }
    assert!(sluice.client.get(sluice.admin_url("/healthz")).send().await.unwrap().status().is_success());
    sluice.finish().await;
}

#[tokio::test]
async fn no_upload_is_cut_with_sqlite() {
    no_upload_is_cut(&[]).await;
}

#[tokio::test]
async fn no_upload_is_cut_with_postgresql() {
    no_upload_is_cut(&[("GATEWAY_DATABASE_URL", &postgres::database()), ("DATABASE_URL", &postgres::database())]).await;
}

#[tokio::test]
async fn a_gateway_that_nobody_takes_over_from_goes_on() {
    let mut sluice = Sluice::start_apart(&[], SINGLE_USE).await;
    let upload = uploads(&sluice, 1, 1).await;
    sluice.signal_gateway("QUIT").await;
    eventually("nobody is there", async || sluice.log().contains("no new process waits").then_some(())).await;
    assert_eq!(price(&sluice).await, Some(100));

    // One that cannot start leaves it alone.
    let path = sluice.folder().join("sluice.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("price_sat = 100", "price_sat = \"junk\"")).unwrap();
    assert!(!sluice.try_upgrade().await);
    fs::write(&path, config).unwrap();
    tokio::time::timeout(Duration::from_secs(5), price(&sluice)).await.unwrap().unwrap();
    for upload in upload {
        upload.end().await;
    }
    sluice.upgrade().await.ended().await;
    sluice.finish().await;
}
