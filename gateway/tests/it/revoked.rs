//! What is revoked, and what a retired key made.

use std::{sync::Arc, time::Duration};

use sluice_common::{
    clock::unix_now,
    keys::{MasterKey, MasterKeys},
    l402::{self, Credential, Preimage, ServiceTerms},
    network::Network,
    revocation::Revoked,
    secret::Secret,
};
use sluice_gateway::ledger::{LedgerDb, PostgresLedger, RevokeOrder};
use sluice_testing::postgres::{self, PostgresServer};
use tokio::time::{Instant, sleep};

use crate::{World, client::Request, with};

/// In so long a revocation must be in effect everywhere.
const LIMIT: Duration = Duration::from_secs(2);

fn order(revoked: Revoked) -> RevokeOrder {
    RevokeOrder { revoked, reason: String::new(), now: unix_now() }
}

async fn status(world: &World, credential: &Credential) -> (u16, String) {
    let reply = world.send(with(Request::post("/largefile", b"x"), credential)).await;
    assert!(reply.status == 402 || reply.all("www-authenticate").is_empty(), "nobody is asked for money");
    let code = if reply.status < 400 { String::new() } else { reply.json()["code"].as_str().unwrap().to_owned() };
    (reply.status, code)
}

async fn becomes(world: &World, credential: &Credential, wanted: (u16, &str), limit: Duration) {
    let began = Instant::now();
    while status(world, credential).await != (wanted.0, wanted.1.to_owned()) {
        assert!(began.elapsed() < limit, "not {wanted:?} within {limit:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_by_all_gateways_of_a_ledger_until_that_is_undone() {
    let url = Secret::new(postgres::database());
    let mut worlds = Vec::new();
    for _ in 0..2 {
        let ledger: Arc<dyn LedgerDb> = Arc::new(PostgresLedger::open(&url).await.unwrap());
        worlds.push(World::configured(|_| (), Some(ledger)).await);
    }
    let [one, other] = &worlds[..] else { panic!("two") };
    let (credential, good) = (one.buy().await, one.buy().await);
    let revoked = Revoked::Payment(credential.preimage().payment_hash());
    assert_eq!(status(other, &credential).await.0, 200);

    one.ledger.revoke(&order(revoked)).await.unwrap();
    for world in &worlds {
        becomes(world, &credential, (401, "revoked"), LIMIT).await;
        assert_eq!(status(world, &good).await.0, 200);
        // Also where nothing costs: the server behind is shown tokens, and may open files for them.
        for (credential, status) in [(&credential, 401), (&good, 200)] {
            assert_eq!(world.send(with(Request::new("GET", "/file/x"), credential)).await.status, status);
        }
    }
    assert_eq!(one.send(Request::post("/largefile", b"x")).await.status, 402, "without it another is sold");
    assert!(one.ledger.undo_revocation(revoked, unix_now()).await.unwrap());
    for world in &worlds {
        becomes(world, &credential, (200, ""), LIMIT).await;
    }

    // All that there are, and none that is bought afterwards.
    one.ledger.revoke(&order(Revoked::MintedBefore(unix_now() + 1))).await.unwrap();
    for world in &worlds {
        becomes(world, &good, (401, "revoked"), LIMIT).await;
    }
    sleep_until_next_second().await;
    let bought = other.buy().await;
    assert_eq!(status(one, &bought).await.0, 200);
    for world in worlds {
        world.gateway.stop().await;
    }
}

/// Token ids say in whole seconds when they were minted.
async fn sleep_until_next_second() {
    let now = unix_now();
    while unix_now() < now + 2 {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_ledger_is_away_the_last_view_holds() {
    let server = PostgresServer::start();
    let ledger = Arc::new(PostgresLedger::open(&Secret::new(server.database())).await.unwrap());
    let world = World::configured(|_| (), Some(ledger)).await;
    let (credential, good) = (world.buy().await, world.buy().await);
    world.ledger.revoke(&order(Revoked::Payment(credential.preimage().payment_hash()))).await.unwrap();
    becomes(&world, &credential, (401, "revoked"), LIMIT).await;
    server.stop();
    assert_eq!(status(&world, &credential).await.0, 401);
    assert_eq!(status(&world, &good).await.0, 200);
    server.start_again();
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_ledger_was_never_there_takes_no_token_yet() {
    let server = PostgresServer::start();
    let ledger = Arc::new(PostgresLedger::open(&Secret::new(server.database())).await.unwrap());
    server.stop();
    let world = World::configured(|_| (), Some(ledger)).await;
    let credential = world.buy().await;
    assert_eq!(status(&world, &credential).await, (503, "revocations_unknown".to_owned()));
    assert_eq!(world.send(Request::new("GET", "/free")).await.status, 200, "what is free goes on");
    server.start_again();
    becomes(&world, &credential, (200, ""), Duration::from_secs(30)).await;
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_a_leaked_key_made_is_refused_once_that_is_retired() {
    let key = |byte| MasterKey::new(&Secret::new([byte; 32]), 0);
    let leaked = MasterKeys::new(vec![key(2)]).unwrap();
    let forged = {
        let preimage = Preimage::from_bytes([9; 32]);
        let token_id = leaked.minting(unix_now()).unwrap().new_token_id(unix_now());
        let terms = ServiceTerms::named("media");
        let macaroon = l402::mint(&leaked, Network::TestWallet, &terms, token_id, preimage.payment_hash()).unwrap();
        Credential::new(macaroon, preimage)
    };
    let url = Secret::new(postgres::database());
    let open = async || Arc::new(PostgresLedger::open(&url).await.unwrap());
    let before = World::configured(|_| (), Some(open().await)).await;
    let honest = before.buy().await;
    assert_eq!((status(&before, &forged).await.0, status(&before, &honest).await.0), (200, 200));
    let paid = || before.ledger.payment(honest.preimage().payment_hash());
    let began = Instant::now();
    while paid().await.unwrap().is_none_or(|payment| payment.settled.is_none()) {
        assert!(began.elapsed() < Duration::from_secs(30), "the payment is not booked");
        sleep(Duration::from_millis(10)).await;
    }
    before.gateway.stop().await;

    let retired = MasterKeys::new(vec![key(2).retired(), key(3)]).unwrap();
    let after = World::configured(|config| config.master_keys = retired, Some(open().await)).await;
    assert_eq!(status(&after, &forged).await, (401, "not_settled".to_owned()));
    assert_eq!(status(&after, &honest).await.0, 200, "who has paid goes on");
    assert_eq!(status(&after, &after.buy().await).await.0, 200);
    after.gateway.stop().await;
}
