//! Challenges that nobody pays.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    network::{Macaroon, Network},
    shop::{self, ask, buy, pay, payments},
    support::eventually_within,
};

/// More than one client's network gets at once.
const MANY: usize = 1_000;
/// Of no other scenario, so that these invoices can be told from all others of the node. Near the least that there is.
const EXPIRY_SECS: u64 = 61;

pub async fn a_flood_is_bounded_writes_nothing_and_is_forgotten_when_it_expires(network: &mut Network) {
    let config = format!("[lightning]\ninvoice_expiry_secs = {EXPIRY_SECS}");
    let sluice = shop::open(&network.seller, Macaroon::Admin, &config, &[]).await;
    let kept = async || network.seller.invoice_count(EXPIRY_SECS).await;
    let paid = buy(&sluice, &network.payer).await;
    let unpaid = ask(&sluice).await;
    let mut challenges = 2;
    let refused = loop {
        let reply = sluice.get("/largefile").send().await.unwrap();
        if reply.status() != StatusCode::PAYMENT_REQUIRED {
            break reply;
        }
        challenges += 1;
        assert!(challenges < MANY, "there is no limit");
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let retry_after = refused.headers()["retry-after"].to_str().unwrap().to_owned();
    let problem: Value = refused.json().await.unwrap();
    say!("{challenges} challenges, one of them paid, then 503 {}, retry-after: {retry_after}", problem["code"]);
    assert_eq!(sluice.upload(&paid, b"x").await.status(), StatusCode::OK);
    say!("a paid token uploads none the less");
    say!("the node keeps {} invoices, the ledger {} rows", kept().await, payments(&sluice).await.len());
    assert_eq!((kept().await, payments(&sluice).await.len()), (challenges, 1));

    let limit = Duration::from_secs(EXPIRY_SECS * 2);
    eventually_within(limit, "the node forgets", &mut async || (kept().await == 1).then_some(())).await;
    say!("after {EXPIRY_SECS} s, by gc-canceled-invoices-on-the-fly, the node keeps the 1 that was paid");
    let reason = pay(&sluice, &network.payer, &unpaid).await.unwrap_err();
    assert!(reason.contains("expired"), "{reason}");
    say!("paying one of the others now: {reason}");
    let again = pay(&sluice, &network.payer, &ask(&sluice).await).await.unwrap();
    assert_eq!(sluice.upload(&again, b"y").await.status(), StatusCode::OK);
    say!("asked again, there is another invoice; paid: 200");
    sluice.finish().await;
}
