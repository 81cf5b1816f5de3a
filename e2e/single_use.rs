//! One payment, one stored upload: whoever hangs up, holds back or comes a hundred times at once.

use reqwest::StatusCode;
use serde_json::Value;
use sluice_common::l402::Credential;
use tokio::task::JoinSet;

use crate::support::{SINGLE_USE, Sluice, authorized, bytes, eventually, form, raw};

const TIMES: u64 = 100;

/// Sells tokens for one upload.
async fn selling_one() -> (Sluice, Credential) {
    let sluice = Sluice::start_with(SINGLE_USE).await;
    let credential = sluice.buy().await;
    (sluice, credential)
}

/// Uploads many different files, and hangs up right after the last byte of each.
async fn hang_up_after_the_last_byte(sluice: &Sluice, credential: &Credential) {
    for seed in 0..TIMES {
        let (content_type, body) = form::with_file(&bytes(100_000, seed));
        let head = raw::upload_head(credential, &content_type, body.len());
        raw::send_and_hang_up(sluice.address(), &head, &body).await;
    }
}

async fn stored_with(sluice: &Sluice, credential: &Credential) -> usize {
    sluice.token_state(credential).await["stored"].as_array().unwrap().len()
}

#[tokio::test]
async fn who_hangs_up_after_the_last_byte_has_stored() {
    // All of them may still be under way when the last one comes.
    let sluice = Sluice::start_with(&format!("[gateway.limits]\nmax_uploads_per_token = {TIMES}")).await;
    let credential = sluice.buy().await;
    hang_up_after_the_last_byte(&sluice, &credential).await;
    eventually("all are stored", async || (stored_with(&sluice, &credential).await == TIMES as usize).then_some(()))
        .await;
    eventually("and nothing else is left", async || (sluice.stored_files().len() == TIMES as usize).then_some(()))
        .await;
    sluice.finish().await;
}

#[tokio::test]
async fn who_hangs_up_after_the_last_byte_stores_as_often_as_was_paid() {
    let (sluice, credential) = selling_one().await;
    hang_up_after_the_last_byte(&sluice, &credential).await;
    eventually("the use is spent", async || {
        let state = sluice.token_state(&credential).await;
        (state["reason"] == "used_up").then_some(())
    })
    .await;
    assert_eq!(stored_with(&sluice, &credential).await, 1);
    eventually("one file is left", async || (sluice.stored_files().len() == 1).then_some(())).await;
    sluice.finish().await;
}

#[tokio::test]
async fn who_withholds_the_last_byte_stores_nothing_and_keeps_the_use() {
    let (sluice, credential) = selling_one().await;
    for seed in 0..TIMES {
        let (content_type, body) = form::with_file(&bytes(100_000, seed));
        let head = raw::upload_head(&credential, &content_type, body.len());
        raw::send_and_hang_up(sluice.address(), &head, &body[..body.len() - 1]).await;
    }
    eventually("the use is free again", async || {
        (sluice.token_state(&credential).await["can_store"] == true).then_some(())
    })
    .await;
    assert_eq!(stored_with(&sluice, &credential).await, 0);
    eventually("no file is left", async || sluice.stored_files().is_empty().then_some(())).await;
    assert_eq!(sluice.upload(&credential, b"at last").await.status(), StatusCode::OK);
    sluice.finish().await;
}

#[tokio::test]
async fn of_a_hundred_at_once_one_is_stored_and_no_other_is_told_so() {
    let (sluice, credential) = selling_one().await;
    let mut uploads = JoinSet::new();
    for seed in 0..TIMES {
        let (content_type, body) = form::with_file(&bytes(200_000, seed));
        let request =
            authorized(sluice.post("/largefile"), &credential).header("content-type", content_type).body(body);
        uploads.spawn(async move {
            let reply = request.send().await.unwrap();
            (reply.status(), reply.json::<Value>().await.unwrap())
        });
    }
    let replies = uploads.join_all().await;
    let with = |status| replies.iter().filter(move |(got, _)| *got == status);
    let winners: Vec<&Value> = with(StatusCode::OK).map(|(_, media)| media).collect();
    assert_eq!(winners.len(), 1, "{replies:?}");
    for (_, problem) in with(StatusCode::CONFLICT) {
        assert_eq!(problem["code"], "upload_in_progress");
    }
    for (_, problem) in with(StatusCode::PAYMENT_REQUIRED) {
        assert_eq!(problem["reason"], "used_up");
    }
    for (_, problem) in with(StatusCode::TOO_MANY_REQUESTS) {
        // Each is as long as the one that is stored, and would be compared with it.
        let code = problem["code"].as_str().unwrap();
        assert!(["too_many_uploads", "too_many_retries"].contains(&code), "{problem}");
    }
    let refused = [StatusCode::CONFLICT, StatusCode::PAYMENT_REQUIRED, StatusCode::TOO_MANY_REQUESTS];
    assert_eq!(refused.map(|status| with(status).count()).iter().sum::<usize>(), replies.len() - 1, "{replies:?}");
    let state = sluice.token_state(&credential).await;
    assert_eq!(state["stored"].as_array().unwrap().len(), 1);
    assert_eq!(state["stored"][0]["muid"], winners[0]["muid"]);
    assert_eq!((&state["can_store"], &state["reason"]), (&false.into(), &"used_up".into()));
    eventually("one file is left", async || (sluice.stored_files().len() == 1).then_some(())).await;
    sluice.finish().await;
}

#[tokio::test]
async fn an_upload_that_is_refused_costs_nothing() {
    let (sluice, credential) = selling_one().await;
    for (fields, files, status) in [
        (&[][..], &[&b""[..]][..], StatusCode::BAD_REQUEST),
        (&[], &[], StatusCode::UNPROCESSABLE_ENTITY),
        (&[], &[b"a", b"b"], StatusCode::UNPROCESSABLE_ENTITY),
        (&[("name", "a\0b")], &[b"a"], StatusCode::UNPROCESSABLE_ENTITY),
        (&[("price", "much")], &[b"a"], StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let (content_type, body) = form::with(fields, files);
        let request =
            authorized(sluice.post("/largefile"), &credential).header("content-type", content_type).body(body);
        assert_eq!(request.send().await.unwrap().status(), status, "{fields:?} {files:?}");
    }
    eventually("the use is free", async || (sluice.token_state(&credential).await["can_store"] == true).then_some(()))
        .await;
    eventually("no file is left", async || sluice.stored_files().is_empty().then_some(())).await;
    assert_eq!(sluice.upload(&credential, b"x").await.status(), StatusCode::OK);
    sluice.finish().await;
}
