//! Answers that come before the body's end.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::timeout;

use super::{
    MIB, World,
    client::{Request, pieces},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_a_client_that_sends_all_of_its_body_first() {
    let world = World::new().await;
    for chunked in [false, true] {
        let reply = world.send(Request::post("/largefile", &vec![1; 2 * MIB]).chunked(chunked)).await;
        assert_eq!(reply.status, 402);
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_expect_nobody_is_told_to_go_on() {
    let world = World::new().await;
    let request = Request::post("/largefile", &vec![1; MIB]).header("expect", "100-continue").withhold_body();
    let reply = world.send(request).await;
    assert_eq!(reply.status, 402, "and not 100 before it");
    world.gateway.stop().await;
}

/// As curl does: it stops its upload at the head of a refusal, and ends it short of what it declared.
#[tokio::test(flavor = "multi_thread")]
async fn who_ends_an_upload_of_http2_short_at_the_head_of_an_answer_still_sees_its_body() {
    let world = World::new().await;
    let credential = world.buy().await;
    let authorization = credential.authorization();
    // The gateway's own answer, and one from behind.
    let tried = [("", "L402 !", "malformed_credential"), ("?answer=403", authorization.expose(), "from behind")];
    let refused = async |(query, authorization, code): (&str, &str, &str)| {
        let url = format!("http://{}/largefile{query}", world.gateway.address());
        let client = reqwest::Client::builder().http2_prior_knowledge().build()?;
        for _ in 0..50 {
            let (piece, body) = pieces();
            let request = client.post(&url).header("content-length", MIB).header("authorization", authorization);
            let answer = request.body(body).send().await?;
            drop(piece);
            assert_eq!(answer.json::<serde_json::Value>().await?["code"], code);
        }
        Ok::<_, reqwest::Error>(())
    };
    let all = try_join_all((0..8).map(|turn| refused(tried[turn % tried.len()])));
    timeout(Duration::from_secs(60), all).await.expect("they end").unwrap();
    world.gateway.stop().await;
}
