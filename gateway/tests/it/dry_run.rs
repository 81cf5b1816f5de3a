//! A service in dry run: it says what it would do, and lets everything through.

use std::sync::Arc;

use sluice_common::{clock::unix_now, l402::Credential, revocation::Revoked};
use sluice_gateway::{
    config::GatewayConfig,
    db::GatewayDb,
    ledger::{RevocationDb, RevokeOrder},
    limits::{Allowance, Freebies},
};

use crate::{MIB, World, client::Request, metrics::says, with};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_free_for_once_would_not_be_asked_for_money() {
    let world = World::with(|service| {
        service.offer.dry_run = true;
        service.offer.forward_credential = false;
        let window = std::time::Duration::from_secs(3_600);
        service.offer.freebies = Some(Freebies::Requests(Allowance { most: 1, window }));
    })
    .await;
    for _ in 0..3 {
        // Larger than any token would hold.
        let upload = Request::post("/largefile", &vec![7; 4 * MIB]).chunked(true);
        assert_eq!(world.send(upload).await.status, 200);
    }
    says(&world, r#"sluice_gateway_dry_run_total{service="media",would="challenge"} 2"#).await;
    world.gateway.stop().await;
}

fn forged(credential: &Credential) -> String {
    let mut macaroon = credential.macaroon().as_bytes().to_vec();
    *macaroon.last_mut().unwrap() ^= 1;
    let macaroon = sluice_common::l402::Macaroon::from_bytes(macaroon).unwrap();
    format!("L402 {}:{}", macaroon.to_base64(), credential.preimage().expose_hex())
}

#[tokio::test(flavor = "multi_thread")]
async fn lets_through_what_it_would_not_and_says_so() {
    // Of the same keys.
    let real = World::new().await;
    let (good, revoked) = (real.buy().await, real.buy().await);
    let folder = tempfile::tempdir().unwrap();
    let ledger = GatewayDb::open(&folder.path().join("ledger.db")).await.unwrap();
    let order = RevokeOrder {
        revoked: Revoked::Payment(revoked.preimage().payment_hash()),
        reason: String::new(),
        now: unix_now(),
    };
    ledger.revoke(&order).await.unwrap();
    let dry = |config: &mut GatewayConfig| {
        config.services[0].offer.dry_run = true;
        config.services[0].offer.forward_credential = false;
    };
    let world = World::configured(dry, Some(Arc::new(ledger))).await;
    let upload = || Request::post("/largefile", b"hello");
    for request in [
        upload(),
        upload().header("authorization", &forged(&good)),
        upload().header("authorization", "L402 !!!:00"),
        // Larger than any token would hold.
        Request::post("/largefile", &vec![7; 4 * MIB]),
        with(upload(), &good),
        with(upload(), &revoked),
        Request::new("GET", "/largefile"),
        Request::new("GET", "/free"),
    ] {
        let reply = world.send(request).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.all("www-authenticate").is_empty());
    }
    let seen = world.behind.seen();
    assert_eq!(seen.len(), 8);
    assert!(seen.iter().all(|request| !request.headers.contains_key("authorization")));
    assert_eq!(seen[3].body_bytes, 4 * MIB);
    for line in [
        r#"sluice_gateway_dry_run_total{service="media",would="challenge"} 2"#,
        r#"sluice_gateway_dry_run_total{service="media",would="refuse"} 4"#,
        r#"sluice_gateway_dry_run_total{service="media",would="forward"} 1"#,
    ] {
        says(&world, line).await;
    }
    assert!(!world.metrics.render().contains("sluice_gateway_challenges_total{"), "no invoice is made");
    real.gateway.stop().await;
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_for_money_for_what_the_server_behind_refuses() {
    let real = World::new().await;
    let good = real.buy().await;
    let world = World::with(|service| service.offer.dry_run = true).await;
    let reply = world.send(with(Request::post("/largefile?answer=used_up", b"x"), &good)).await;
    assert_eq!((reply.status, reply.all("www-authenticate").len()), (402, 0));
    says(&world, r#"sluice_gateway_dry_run_total{service="media",would="challenge"} 1"#).await;
    real.gateway.stop().await;
    world.gateway.stop().await;
}
