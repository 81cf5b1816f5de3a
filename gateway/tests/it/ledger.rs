//! What reaches the ledger, and what proves a payment.

use std::{fs, num::NonZeroU32, sync::Arc, time::Duration};

use sluice_common::{
    clock::unix_now,
    keys::{MasterKey, MasterKeys},
    l402::{self, Credential, Preimage, ServiceTerms},
    network::Network,
    revocation::Revoked,
    secret::Secret,
};
use sluice_gateway::{
    invoice_limits::{InvoiceLimits, RateLimit},
    ledger::{Filter, LedgerDb, Payment, PostgresLedger, RevokeOrder, SettlementProof},
};
use sluice_testing::postgres;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep};

use crate::{
    MIB, World,
    client::{Reply, Request},
    with,
};

async fn payments(ledger: &dyn LedgerDb) -> Vec<Payment> {
    ledger.payments(&Filter::default(), None).await.unwrap()
}

/// The one payment, once `is_whole`.
pub async fn payment(ledger: &dyn LedgerDb, is_whole: impl Fn(&Payment) -> bool) -> Payment {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let [payment] = &payments(ledger).await[..]
            && is_whole(payment)
        {
            return payment.clone();
        }
        assert!(Instant::now() < deadline, "not within 30 s");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A token whose preimage somebody knows, though no node was paid for it.
fn unsettled() -> Credential {
    let keys = MasterKeys::new(vec![MasterKey::new(&Secret::new([2; 32]), 0)]).unwrap();
    let preimage = Preimage::from_bytes([9; 32]);
    let token_id = keys.minting(1_800_000_000).unwrap().new_token_id(1_800_000_000);
    let terms = ServiceTerms::named("media");
    Credential::new(
        l402::mint(&keys, Network::TestWallet, &terms, token_id, preimage.payment_hash()).unwrap(),
        preimage,
    )
}

async fn upload(world: &World, credential: &Credential) -> Reply {
    upload_to(world, "/largefile", credential).await
}

async fn upload_to(world: &World, target: &str, credential: &Credential) -> Reply {
    world.send(with(Request::post(target, b"x"), credential)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_and_used_is_booked_once() {
    let world = World::new().await;
    let credential = world.buy().await;
    for _ in 0..3 {
        assert_eq!(upload(&world, &credential).await.status, 200);
    }
    let booked = payment(&*world.ledger, |payment| payment.settled.is_some() && payment.first_used_at.is_some()).await;
    let identifier = credential.macaroon().identifier().unwrap();
    assert_eq!((booked.payment_hash, booked.token_id), (identifier.payment_hash, identifier.token_id));
    assert_eq!((booked.service.as_str(), booked.settled.as_ref().unwrap().amount_msat), ("media", 100_000));
    assert!(booked.first_used_at >= Some(booked.settled.unwrap().at));
    assert_eq!(world.send(with(Request::post("/largefile", &vec![1; 3 * MIB + 1]), &credential)).await.status, 413);
    assert_eq!(upload_to(&world, "/largefile?answer=used_up", &credential).await.status, 402);
    assert_eq!(upload_to(&world, "/largefile?answer=503", &credential).await.status, 503);
    let all = |payment: &Payment| payment.bought.uses + payment.bought.refused + payment.bought.given_back == 6;
    let booked = payment(&*world.ledger, all).await.bought;
    assert_eq!((booked.uses, booked.bytes, booked.refused, booked.given_back), (3, 3, 2, 1));
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_here_is_booked_too() {
    let world = World::new().await;
    let credential = world.buy().await;
    assert_eq!(upload(&world, &credential).await.status, 200);
    let narrowed = credential.macaroon().attenuate(&["large_upload_max_mb=0".to_owned()]).unwrap();
    let narrowed = Credential::new(narrowed, credential.preimage().clone());
    let declared = world.send(with(Request::post("/largefile", &vec![1; 2 * MIB]), &narrowed)).await;
    assert_eq!((declared.status, declared.json()["code"].as_str()), (413, Some("too_large")), "from its head");
    payment(&*world.ledger, |payment| payment.bought.refused == 1).await;
    let revoked = Revoked::Payment(credential.preimage().payment_hash());
    let order = RevokeOrder { revoked, reason: String::new(), now: unix_now() };
    world.ledger.revoke(&order).await.unwrap();
    while upload(&world, &credential).await.status != 401 {}
    payment(&*world.ledger, |payment| payment.bought.refused >= 2 && payment.settled.is_some()).await;
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_unpaid_challenges_write_nothing() {
    let plenty = NonZeroU32::new(10_000).unwrap();
    let rate = RateLimit { per_minute: plenty, burst: plenty };
    let world = World::limited(|_| (), InvoiceLimits { all: rate, per_client: rate, max_open: plenty }).await;
    let database = || ["gateway.db", "gateway.db-wal"].map(|name| fs::read(world.folder.path().join(name)).unwrap());
    let before = database();
    for method in ["GET", "POST"] {
        for _ in 0..500 {
            assert_eq!(world.send(Request::new(method, "/largefile")).await.status, 402);
        }
    }
    assert!(database() == before, "not a byte of the database changed");
    assert_eq!(payments(&*world.ledger).await, []);

    // And the test would see it.
    world.buy().await;
    payment(&*world.ledger, |payment| payment.settled.is_some()).await;
    assert!(database() != before);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_nodes_word_for_proof_a_preimage_alone_buys_nothing() {
    for (proof, status) in [(SettlementProof::Preimage, 200), (SettlementProof::Node, 401)] {
        let world = World::configured(|config| config.settlement = proof, None).await;
        let reply = upload(&world, &unsettled()).await;
        assert_eq!(reply.status, status, "{proof:?}: {}", reply.text());
        if proof == SettlementProof::Node {
            assert_eq!(reply.json()["code"], "not_settled");
            assert!(reply.all("www-authenticate").is_empty(), "nobody is asked to pay for it twice");
            // Of one whose time is over, too, nobody waits for a proof: another one helps.
            let macaroon = unsettled().macaroon().attenuate(&["media_valid_until=1".to_owned()]).unwrap();
            let reply = upload(&world, &Credential::new(macaroon, unsettled().preimage().clone())).await;
            assert_eq!((reply.status, reply.all("www-authenticate").len()), (402, 2), "{}", reply.text());
            assert_eq!(payments(&*world.ledger).await, []);
        }
        assert_eq!(upload(&world, &world.buy().await).await.status, 200);
        world.gateway.stop().await;
    }
}

/// Lets nobody into a database of the test's server, as if it were away; or everybody again.
async fn let_in(url: &str, yes: bool) {
    let name = url.split_once('?').unwrap().0.rsplit_once('/').unwrap().1;
    let mut server = PgConnection::connect(&url.replace(name, "postgres")).await.unwrap();
    let allow = sqlx::AssertSqlSafe(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}"));
    server.execute(allow).await.unwrap();
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    server.execute(sqlx::AssertSqlSafe(end)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn paid_tokens_go_on_working_while_postgres_is_away_and_are_booked_later() {
    let url = postgres::database();
    let ledger = Arc::new(PostgresLedger::open(&Secret::new(url.clone())).await.unwrap());
    let world = World::configured(|_| (), Some(ledger.clone())).await;
    let_in(&url, false).await;
    assert!(ledger.sums(&Filter::default()).await.is_err(), "it is away");

    let credential = world.buy().await;
    assert_eq!(upload(&world, &credential).await.status, 200);
    let_in(&url, true).await;
    let booked = payment(&*ledger, |payment| payment.settled.is_some() && payment.first_used_at.is_some()).await;
    assert_eq!(booked.payment_hash, credential.preimage().payment_hash());
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_nodes_word_for_proof_what_nobody_can_say_is_503() {
    let url = postgres::database();
    let ledger = Arc::new(PostgresLedger::open(&Secret::new(url.clone())).await.unwrap());
    let world = World::configured(|config| config.settlement = SettlementProof::Node, Some(ledger)).await;
    let known = world.buy().await;
    assert_eq!(upload(&world, &known).await.status, 200);
    let_in(&url, false).await;
    assert_eq!(upload(&world, &known).await.status, 200, "it is remembered");
    let reply = upload(&world, &unsettled()).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (503, Some("settlement_unknown")));
    assert_eq!(reply.one("retry-after"), "5");
    assert!(reply.all("www-authenticate").is_empty());
    world.gateway.stop().await;
}
