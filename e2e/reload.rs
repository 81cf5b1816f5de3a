//! Another configuration on SIGHUP, in the middle of uploads.

use std::fs;

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{MIB, SINGLE_USE, Sluice, bytes, eventually, slow::SlowUpload};

/// What a token costs now.
async fn price(sluice: &Sluice) -> u64 {
    let reply = sluice.get("/largefile").send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::PAYMENT_REQUIRED);
    reply.json::<Value>().await.unwrap()["price_sat"].as_u64().unwrap()
}

async fn reload(sluice: &Sluice, config: &str) {
    fs::write(sluice.folder().join("sluice.toml"), config).unwrap();
    sluice.signal("HUP").await;
}

#[tokio::test]
async fn prices_and_sizes_change_and_no_upload_is_cut() {
    let sluice = Sluice::start_with(SINGLE_USE).await;
    let mut uploads = Vec::new();
    for seed in 1..=4 {
        let credential = sluice.buy().await;
        uploads.push(SlowUpload::begin(sluice.address(), &credential, bytes(8 * MIB, seed)).await);
    }
    assert_eq!(price(&sluice).await, 100);

    // Gateway and media server alike: what is sold from now on is larger, too.
    let changed =
        SINGLE_USE.replace("price_sat = 100", "price_sat = 250").replace("max_upload_mb = 64", "max_upload_mb = 65");
    reload(&sluice, &changed).await;
    eventually("the new price", async || (price(&sluice).await == 250).then_some(())).await;
    let credential = sluice.buy().await;
    assert_eq!(sluice.upload(&credential, &bytes(64 * MIB + 1, 9)).await.status(), StatusCode::OK);
    for upload in uploads {
        upload.end().await;
    }

    // A file that cannot be used changes nothing.
    let said = |part: &'static str| {
        let sluice = &sluice;
        eventually(part, async move || sluice.log().contains(part).then_some(()))
    };
    reload(&sluice, &changed.replace("price_sat = 250", "price_sat = 300\nprice = { per_mib_sat = 1 }")).await;
    said("the new configuration is refused; the one before stays").await;
    assert_eq!(price(&sluice).await, 250);

    // What needs a restart is said, and the rest is done.
    reload(&sluice, &format!("{}\n[gateway]\nlisten = \"127.0.0.1:1\"", changed.replace("250", "300"))).await;
    eventually("the newest price", async || (price(&sluice).await == 300).then_some(())).await;
    sluice.finish().await;
}

#[tokio::test]
async fn each_part_reads_its_own_file_again() {
    let sluice = Sluice::start_apart(&[], SINGLE_USE).await;
    let credential = sluice.buy().await;
    let upload = SlowUpload::begin(sluice.address(), &credential, bytes(4 * MIB, 1)).await;
    let config = fs::read_to_string(sluice.folder().join("sluice.toml")).unwrap();
    let changed = config
        .replace("price_sat = 100", "price_sat = 7")
        .replace("[[service]]", "[log]\nformat = \"json\"\n[[service]]");
    reload(&sluice, &changed).await;
    eventually("the new price", async || (price(&sluice).await == 7).then_some(())).await;
    eventually("both say so", async || {
        let log = sluice.log();
        (log.matches("the configuration was read again").count() == 2
            && log.matches("changed, but needs a restart").count() == 2)
            .then_some(())
    })
    .await;
    upload.end().await;
    sluice.finish().await;
}
