//! Nodes and gateways that were away.

use std::time::Instant;

use reqwest::StatusCode;
use serde_json::Value;
use sluice_common::l402::Credential;

use crate::{
    network::{Macaroon, Network},
    shop::{self, ask, booked, buy, node_options, pay, payment_hash, payments},
    support::{Sluice, challenge, eventually},
};

pub async fn a_gateway_that_was_down_books_what_was_paid_meanwhile(network: &mut Network) {
    let mut sluice = shop::open(&network.seller, Macaroon::Admin, "", &[]).await;
    for first in [true, false] {
        let challenge = ask(&sluice).await;
        if first {
            // The very first settlement of a gateway that has never seen one, and one after others.
            sluice.kill().await;
        } else {
            sluice.stop().await;
        }
        let credential = pay(&sluice, &network.payer, &challenge).await.unwrap();
        say!("the gateway is down while its invoice is paid");
        sluice.start_again().await;
        let payment = booked(&sluice, &payment_hash(&challenge), |payment| !payment["settled_at"].is_null()).await;
        assert_eq!(payment["amount_msat"], 100_000);
        say!("started again, it books {payment}");
        assert_eq!(sluice.upload(&credential, b"x").await.status(), StatusCode::OK);
    }
    assert_eq!(payments(&sluice).await.len(), 2);
    sluice.finish().await;
}

/// Whoever moves to another node takes the ledger along.
pub async fn what_is_booked_is_paid_under_another_node_too(network: &mut Network) {
    let mut sluice = shop::open(&network.seller, Macaroon::Admin, "[lightning]\nsettlement = \"node\"", &[]).await;
    let challenge = ask(&sluice).await;
    let paid = pay(&sluice, &network.payer, &challenge).await.unwrap();
    booked(&sluice, &payment_hash(&challenge), |payment| !payment["settled_at"].is_null()).await;
    let unpaid = ask(&sluice).await;
    let preimage = network.seller.preimage(&payment_hash(&unpaid)).await;
    let unpaid = Credential::new(unpaid.macaroon, preimage);

    sluice.stop().await;
    let other = node_options(&network.payer, &network.payer.macaroon(Macaroon::Admin));
    sluice.options[..other.len()].clone_from_slice(&other);
    sluice.start_again().await;
    assert_eq!(
        sluice.upload(&unpaid, b"x").await.status(),
        StatusCode::UNAUTHORIZED,
        "the new node knows nothing of it"
    );
    assert_eq!(sluice.upload(&paid, b"y").await.status(), StatusCode::OK);
    say!("settlement = \"node\", another node: what the old one had settled: 200, what it had not: 401");
    sluice.finish().await;
}

pub async fn without_the_node_paid_tokens_go_on_and_challenges_say_when_to_come_again(network: &mut Network) {
    let seller = &network.seller;
    let trusting = shop::open(seller, Macaroon::Admin, "", &[]).await;
    let asking = shop::open(seller, Macaroon::Admin, "[lightning]\nsettlement = \"node\"", &[]).await;
    let paid = buy(&trusting, &network.payer).await;
    let known = buy(&asking, &network.payer).await;
    assert_eq!(asking.upload(&known, b"known").await.status(), StatusCode::OK);

    let unknown = ask(&asking).await;
    let preimage = network.seller.preimage(&payment_hash(&unknown)).await;
    let unknown = Credential::new(unknown.macaroon, preimage);

    network.seller.stop().await;
    for (sluice, credential) in [(&trusting, &paid), (&asking, &known)] {
        let reply = sluice.get("/largefile").send().await.unwrap();
        assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.headers().get("www-authenticate").is_none());
        let retry_after = reply.headers()["retry-after"].to_str().unwrap().to_owned();
        say!("LND is down: GET /largefile: 503, retry-after: {retry_after}");
        assert!(retry_after.parse::<u64>().unwrap() >= 1);
        assert_eq!(sluice.upload(credential, b"while it is down").await.status(), StatusCode::OK);
        say!("LND is down: POST /largefile with a paid token: 200");
    }
    let reply = asking.upload(&unknown, b"x").await;
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE, "what is settled, only the node knows");
    assert!(reply.headers().contains_key("retry-after"));
    let problem: Value = reply.json().await.unwrap();
    say!("LND is down, settlement = \"node\", a token it has not spoken of: 503 {}", problem["code"]);
    eventually("health says so", async || (health(&trusting).await == "degraded").then_some(())).await;
    say!("LND is down: GET /healthz: degraded");

    network.seller.start().await;
    network.payer.wait_for_channel(&network.seller).await;
    for sluice in [&trusting, &asking] {
        let reply = eventually("challenges again", async || {
            let reply = sluice.get("/largefile").send().await.unwrap();
            (reply.status() == StatusCode::PAYMENT_REQUIRED).then_some(reply)
        })
        .await;
        let challenge = challenge(&reply);
        let credential = pay(sluice, &network.payer, &challenge).await.unwrap();
        assert_eq!(sluice.upload(&credential, b"after").await.status(), StatusCode::OK);
        let payment = booked(sluice, &payment_hash(&challenge), |payment| !payment["settled_at"].is_null()).await;
        say!("LND is back: 402, paid, 200, booked at {}", payment["settled_at"]);
    }
    eventually("health says so", async || (health(&trusting).await == "ok").then_some(())).await;
    trusting.finish().await;
    asking.finish().await;
}

pub async fn a_node_that_falls_silent_holds_nobody_up(network: &mut Network) {
    let sluice = shop::open(&network.seller, Macaroon::Admin, "", &[]).await;
    let paid = buy(&sluice, &network.payer).await;
    network.seller.set_paused(true).await;
    let asked = Instant::now();
    let reply = sluice.get("/largefile").send().await.unwrap();
    let waited = asked.elapsed().as_secs_f64();
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.headers().contains_key("retry-after"));
    assert!((7.0..15.0).contains(&waited), "{waited} s");
    say!("LND accepts connections and stays silent: GET /largefile: 503 after {waited:.1} s");
    let asked = Instant::now();
    assert_eq!(sluice.upload(&paid, b"x").await.status(), StatusCode::OK);
    assert!(asked.elapsed().as_secs() < 5, "a paid token waits for no node");
    say!("POST /largefile with a paid token: 200 after {:.1} s", asked.elapsed().as_secs_f64());
    eventually("health says so", async || (health(&sluice).await == "degraded").then_some(())).await;
    say!("GET /healthz: degraded");

    network.seller.set_paused(false).await;
    network.payer.wait_for_channel(&network.seller).await;
    eventually("health says so", async || (health(&sluice).await == "ok").then_some(())).await;
    let credential = buy(&sluice, &network.payer).await;
    assert_eq!(sluice.upload(&credential, b"y").await.status(), StatusCode::OK);
    say!("LND goes on: GET /healthz: ok; 402, paid, 200");
    sluice.finish().await;
}

async fn health(sluice: &Sluice) -> String {
    let answer: Value = sluice.client.get(sluice.admin_url("/healthz")).send().await.unwrap().json().await.unwrap();
    answer["status"].as_str().unwrap_or_default().to_owned()
}
