//! Booking and proof, with a node and a ledger that go away when a test says so.

mod world;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sluice_common::{
    keys::{MasterKey, MasterKeys},
    l402::Permit,
    network::Network,
    secret::Secret,
};
use tokio::time::Instant;

use self::world::{World, eventually};
use super::*;
use crate::{
    db::GatewayDb,
    lightning::{Invoice, InvoiceOrder, LightningError, LightningNode, NodeInfo, Settlements, TestWallet},
};

/// The time in tests that need one.
const NOW: u64 = 1_800_000_000;

#[tokio::test]
async fn a_settlement_is_ours_by_its_memo() {
    let world = World::new().await;
    let (ours, foreign) = (world.token_id(), TokenId::from_bytes([3; 32]));
    for (memo, service) in [
        (format!("media {ours}"), Some("media")),
        (format!("Files of example.com: media {ours}"), Some("media")),
        (format!("other media {ours}"), Some("media")),
        (format!("media {foreign}"), None),
        (format!("other {ours}"), None),
        (format!("Media {ours}"), None),
        (format!("m\0edia {ours}"), None),
        (format!("media\0 {ours}"), None),
        (format!("\u{1b}[2Jmedia {ours}"), None),
        (format!("a\nmedia {ours}"), None),
        (format!("media\n{ours}"), None),
        (format!("media {ours} "), None),
        (format!("media {ours} coffee"), None),
        (format!(" {ours}"), None),
        (format!("{ours}"), None),
        ("coffee".to_owned(), None),
        (String::new(), None),
    ] {
        let payment_hash = PaymentHash::from_bytes([4; 32]);
        let settlement = Settlement { index: 1, payment_hash, amount_msat: 5, memo: memo.clone(), settled_at: 6 };
        let token = SettledToken::of(&settlement, &world.sold());
        assert_eq!(token.as_ref().map(|token| token.service.as_str()), service, "{memo}");
        let parts = token.map(|token| (token.token_id, token.payment_hash, token.amount_msat, token.settled_at));
        assert_eq!(parts, service.map(|_| (ours, payment_hash, 5, 6)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_is_booked_also_what_was_paid_meanwhile_and_nothing_else_is() {
    let world = World::new().await;
    let before = world.sell(true).await;
    let (keeper, _books) = world.keeper();
    assert_eq!(world.until(1).await[0].payment_hash, before.token().payment_hash());
    let live = world.sell(true).await;
    world.until(2).await;
    keeper.stop().await;

    // Paid while the gateway was away, and something that it did not sell.
    let coffee = world.invoice("coffee".to_owned()).await;
    world.pay(&coffee).await;
    let missed = world.sell(true).await;
    let pubkey = world.node.info().await.unwrap().pubkey;
    assert_eq!(world.db.last_index(&pubkey).await.unwrap(), 2);
    let (keeper, _books) = world.keeper();
    let payments = world.until(3).await;
    eventually(async || (world.db.last_index(&pubkey).await.unwrap() == 4).then_some(())).await;
    keeper.stop().await;

    for permit in [before, live, missed] {
        let hash = permit.token().payment_hash();
        let payment = payments.iter().find(|payment| payment.payment_hash == hash).unwrap();
        let settled = payment.settled.as_ref().unwrap();
        assert_eq!((settled.amount_msat, settled.node.as_str()), (100_000, pubkey.as_str()));
        assert_eq!((payment.service.as_str(), payment.token_id), ("media", permit.token().token_id()));
        assert_eq!(payment.first_used_at, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_indexes_began_anew_is_booked_from_the_beginning() {
    let world = World::new().await;
    let pubkey = world.node.info().await.unwrap().pubkey;
    // As it was seen before the node lost its invoices.
    let before = SettledToken {
        payment_hash: PaymentHash::from_bytes([8; 32]),
        service: "media".to_owned(),
        network: Network::TestWallet,
        token_id: world.token_id(),
        amount_msat: 7,
        settled_at: NOW,
    };
    world.db.book_settlements(&pubkey, &[before], Some(50)).await.unwrap();
    world.sell(true).await;
    let (keeper, _books) = world.keeper();
    world.until(2).await;
    world.sell(true).await;
    world.until(3).await;
    keeper.stop().await;
    assert_eq!(world.db.last_index(&pubkey).await.unwrap(), 2);

    world.sell(true).await;
    let (keeper, _books) = world.keeper();
    world.until(4).await;
    keeper.stop().await;
    assert_eq!(world.db.last_index(&pubkey).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memo_of_another_program_keeps_no_settlement_from_the_books() {
    let world = World::new().await;
    let postgres = PostgresLedger::open(&Secret::new(sluice_testing::postgres::database())).await.unwrap();
    // NUL is what PostgreSQL takes in no text.
    let strange = world.invoice(format!("m\0edia {}", world.token_id())).await;
    world.pay(&strange).await;
    let permit = world.sell(true).await;
    let (keeper, _books) =
        BookKeeper::start(Arc::new(postgres.clone()), world.node.clone(), world.sold(), Arc::default(), |_| ());
    let booked = eventually(async || {
        let payments = postgres.payments(&Filter::default(), None).await.unwrap();
        (!payments.is_empty()).then_some(payments)
    })
    .await;
    keeper.stop().await;
    assert_eq!(booked.len(), 1);
    assert_eq!(booked[0].payment_hash, permit.token().payment_hash());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_network_has_nothing_to_say() {
    let world = World::new().await;
    world.node.elsewhere.store(true, Ordering::SeqCst);
    world.sell(true).await;
    let (keeper, books) = world.keeper();
    // Nor is what was asked of it in passing booked as that of the configured network.
    let permit = world.sell(true).await;
    books.settled(SettledToken {
        payment_hash: permit.token().payment_hash(),
        service: "media".to_owned(),
        network: Network::TestWallet,
        token_id: permit.token().token_id(),
        amount_msat: 1,
        settled_at: NOW,
    });
    eventually(async || (world.node.looked.load(Ordering::SeqCst) >= 3).then_some(())).await;
    keeper.stop().await;
    assert_eq!(world.payments().await, []);

    world.node.elsewhere.store(false, Ordering::SeqCst);
    let (keeper, _books) = world.keeper();
    world.until(2).await;
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_use_of_a_token_is_written() {
    let world = World::new().await;
    let (keeper, books) = world.keeper();
    let (one, other) = (world.sell(false).await, world.sell(true).await);
    let written = || world.ledger.written.load(Ordering::SeqCst);
    eventually(async || (written() == 1).then_some(())).await;
    for later in 0..1_000 {
        books.used(&one, "media", NOW + later);
    }
    eventually(async || (written() == 2).then_some(())).await;
    books.used(&other, "media", NOW);
    for later in 0..1_000 {
        books.used(&one, "media", NOW + later);
    }
    keeper.stop().await;
    assert_eq!(written(), 3);
    let payments = world.payments().await;
    let of = |permit: &Permit| {
        let hash = permit.token().payment_hash();
        payments.iter().find(|payment| payment.payment_hash == hash).unwrap()
    };
    assert_eq!((of(&one).first_used_at, &of(&one).settled), (Some(NOW), &None), "no node said its amount");
    assert_eq!(of(&other).first_used_at, Some(NOW));
    assert_eq!(of(&other).settled.as_ref().unwrap().amount_msat, 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_the_database_or_the_node_is_away_is_booked_later() {
    let world = World::new().await;
    world.ledger.away.store(true, Ordering::SeqCst);
    world.node.away.store(true, Ordering::SeqCst);
    let (keeper, books) = world.keeper();
    let permit = world.sell(true).await;
    books.used(&permit, "media", NOW);
    eventually(async || (world.ledger.failed.load(Ordering::SeqCst) >= 3).then_some(())).await;
    assert_eq!(world.payments().await, []);

    world.ledger.away.store(false, Ordering::SeqCst);
    assert_eq!(world.until(1).await[0].first_used_at, Some(NOW));
    world.node.away.store(false, Ordering::SeqCst);
    eventually(async || world.payments().await[0].settled.clone()).await;
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_books_what_is_noted() {
    let world = World::new().await;
    let (keeper, books) = world.keeper();
    books.used(&world.sell(false).await, "media", NOW);
    keeper.stop().await;
    assert_eq!(world.payments().await.len(), 1);

    world.ledger.away.store(true, Ordering::SeqCst);
    let (keeper, books) = world.keeper();
    books.used(&world.sell(true).await, "media", NOW);
    let began = Instant::now();
    keeper.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "and does not wait for a database that is away");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_preimages_for_proof_nobody_is_asked() {
    let world = World::new().await;
    let (keeper, books) = world.keeper();
    world.node.away.store(true, Ordering::SeqCst);
    world.ledger.away.store(true, Ordering::SeqCst);
    let check = world.check(SettlementProof::Preimage, &books);
    assert_eq!(check.confirm(&world.sell(false).await, "media").await, Ok(()));
    assert_eq!(world.node.asked.load(Ordering::SeqCst), 0);
    keeper.stop().await;
}

/// Whoever has a leaked key can make any token of it, for any payment whose preimage is known.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_retired_key_only_what_the_ledger_has_is_paid() {
    let world = World::new().await;
    world.node.away.store(true, Ordering::SeqCst);
    let (keeper, books) = world.keeper();
    let (permit, invented) = (world.sell(true).await, world.sell(false).await);
    let settled = world.wallet.settlement(permit.token().payment_hash()).await.unwrap();
    assert!(settled.is_some(), "the node knows the payment");
    let leaked = MasterKey::new(&Secret::new([2; 32]), 0).retired();
    let keys = MasterKeys::new(vec![MasterKey::new(&Secret::new([3; 32]), 0), leaked]).unwrap();
    for proof in [SettlementProof::Preimage, SettlementProof::Node] {
        let check = SettlementCheck::new(proof, keys.clone(), world.ledger.clone(), world.node.clone(), books.clone());
        for permit in [&permit, &invented] {
            assert_eq!(check.confirm(permit, "media").await, Err(Unproven::NotSettled), "{proof:?}");
        }
    }
    world.node.away.store(false, Ordering::SeqCst);
    world.until(1).await;
    keeper.stop().await;
    for proof in [SettlementProof::Preimage, SettlementProof::Node] {
        let check = SettlementCheck::new(proof, keys.clone(), world.ledger.clone(), world.node.clone(), books.clone());
        assert_eq!(check.confirm(&permit, "other").await, Err(Unproven::NotSettled), "it was sold for another service");
        assert_eq!(check.confirm(&permit, "media").await, Ok(()), "{proof:?}");
        assert_eq!(check.confirm(&invented, "media").await, Err(Unproven::NotSettled), "{proof:?}");
        world.ledger.away.store(true, Ordering::SeqCst);
        assert_eq!(check.confirm(&permit, "media").await, Ok(()), "from memory");
        assert!(matches!(check.confirm(&invented, "media").await, Err(Unproven::Unknown(_))));
        world.ledger.away.store(false, Ordering::SeqCst);
    }
    assert_eq!(world.node.asked.load(Ordering::SeqCst), 0, "the node is not asked: it knows payments, not tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_is_asked_once_and_its_word_is_booked_for_ever() {
    let world = World::new().await;
    // No follower: the payment is known from the answer alone.
    world.node.away.store(true, Ordering::SeqCst);
    let (keeper, books) = world.keeper();
    let permit = world.sell(true).await;
    let check = world.check(SettlementProof::Node, &books);
    assert!(matches!(check.confirm(&permit, "media").await, Err(Unproven::Unknown(_))), "the node is away");

    world.node.away.store(false, Ordering::SeqCst);
    let asked = world.node.asked.load(Ordering::SeqCst);
    assert_eq!(check.confirm(&permit, "media").await, Ok(()));
    assert_eq!(world.node.asked.load(Ordering::SeqCst), asked + 1);
    world.until(1).await;

    // From memory, though both are away; and after a restart from the ledger, whatever node there is now.
    world.node.away.store(true, Ordering::SeqCst);
    assert_eq!(world.check(SettlementProof::Node, &books).confirm(&permit, "media").await, Ok(()));
    world.ledger.away.store(true, Ordering::SeqCst);
    assert_eq!(check.confirm(&permit, "media").await, Ok(()));
    assert_eq!(world.node.asked.load(Ordering::SeqCst), asked + 1);
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_the_node_does_not_know_is_none_but_may_be_a_moment_late() {
    let world = World::new().await;
    let (keeper, books) = world.keeper();
    let check = world.check(SettlementProof::Node, &books);
    let unpaid = world.sell(false).await;
    assert_eq!(check.confirm(&unpaid, "media").await, Err(Unproven::NotSettled));
    world.ledger.away.store(true, Ordering::SeqCst);
    assert!(
        matches!(check.confirm(&unpaid, "media").await, Err(Unproven::Unknown(_))),
        "the ledger might have it from another node"
    );
    let paid = world.sell(true).await;
    world.node.late.store(2, Ordering::SeqCst);
    assert_eq!(check.confirm(&paid, "media").await, Ok(()), "though the ledger is away: the node said yes");
    keeper.stop().await;
    drop(world.folder);
}
