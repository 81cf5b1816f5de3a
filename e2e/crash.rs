//! Killed at any instant: what was answered 200 is there, what was not is swept, and no use is lost.

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{MIB, Sluice, authorized, bytes, eventually, form, raw};

#[tokio::test]
async fn what_was_answered_200_is_there_after_a_kill() {
    let mut sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let mut stored = Vec::new();
    for seed in 0..5 {
        let file = bytes(MIB, seed);
        let reply = sluice.upload(&credential, &file).await;
        assert_eq!(reply.status(), StatusCode::OK);
        sluice.kill().await;
        stored.push((reply.json::<Value>().await.unwrap()["muid"].as_str().unwrap().to_owned(), file));
        sluice.start_again().await;
        for (muid, file) in &stored {
            let reply = authorized(sluice.get(&format!("/file/{muid}")), &credential).send().await.unwrap();
            assert_eq!(reply.status(), StatusCode::OK);
            assert!(reply.bytes().await.unwrap() == *file, "not the bytes that were sent");
        }
    }
    sluice.finish().await;
}

#[tokio::test]
async fn an_upload_killed_halfway_leaves_nothing_and_its_use_is_given_back() {
    let mut sluice = Sluice::start(&[]).await;
    let credential = sluice.restricted(&sluice.buy().await, &["large_upload_max_uses=1"]);
    let (content_type, body) = form::with_file(&bytes(8 * MIB, 1));
    let head = raw::upload_head(&credential, &content_type, body.len() + 1);
    let address = sluice.address();
    let half_sent = [head.as_bytes(), &body].concat();
    // It waits for a byte that never comes.
    let client = tokio::spawn(async move { raw::send_and_wait(address, &half_sent).await });
    eventually("the upload is under way", async || {
        (sluice.token_state(&credential).await["reason"] == "upload_in_progress").then_some(())
    })
    .await;
    eventually("a part of it is on disk", async || (sluice.stored_files().len() == 1).then_some(())).await;
    sluice.kill().await;
    client.await.unwrap();
    sluice.start_again().await;
    // Its lease outlives it by at most half a minute; then the use is free, and what it wrote is swept.
    eventually_within_a_lease("the use is free", async || {
        (sluice.token_state(&credential).await["can_store"] == true).then_some(())
    })
    .await;
    assert_eq!(sluice.upload(&credential, b"at last").await.status(), StatusCode::OK);
    eventually_within_a_lease("only the stored file is left", async || {
        (sluice.stored_files().len() == 1).then_some(())
    })
    .await;
    sluice.finish().await;
}

async fn eventually_within_a_lease<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    crate::support::eventually_within(std::time::Duration::from_secs(120), what, &mut ask).await
}
