//! What every Lightning node behind the trait must do: each public function is a part of it, and panics where the node
//! does something else. `contract_tests!` makes tests of them. None assumes that the node is new or its own: other
//! payments may come in meanwhile.
//!
//! `pay` pays an invoice of the node with whatever can: the node itself or a peer.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what is wrong by panicking")]

use std::time::Duration;

use futures_util::{StreamExt, future::join_all};
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef, Currency};
use sluice_common::{
    clock::unix_now,
    l402::{PaymentHash, Preimage},
    network::Network,
};
use tokio::time::{sleep, timeout};

use super::{Invoice, InvoiceOrder, LightningError, LightningNode, Settlement, Settlements};

const PATIENCE: Duration = Duration::from_secs(30);

/// Gives the names of all parts of the contract to another macro: `contract_parts!(each!(a, b))` becomes
/// `each!(a, b: one_part, another, …)`. A part is a function of this module that takes the node and `pay`.
#[macro_export]
macro_rules! contract_parts {
    ($each:ident!($($arguments:tt)*)) => {
        $each!($($arguments)*:
            an_invoice_is_what_was_ordered,
            each_invoice_is_another,
            what_is_not_paid_is_not_settled,
            what_is_paid_is_settled,
            settlements_come_once_those_of_the_past_first,
            settlements_go_on_after_an_index,
            knows_how_far_its_settlements_reach,
            many_are_made_and_paid_at_once,
            refuses_what_cannot_be_an_invoice
        );
    };
}

/// Makes a test of every part of the contract. `$setup` is an async function without arguments that gives a node (any
/// that derefs to `dyn LightningNode`), a payer (`AsyncFn(&str) -> Preimage`), and whatever must live as long as they.
#[cfg(test)]
macro_rules! contract_tests {
    ($setup:path) => { $crate::contract_parts!(contract_tests!($setup)); };
    ($setup:path: $($name:ident),*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let (node, pay, _alive) = $setup().await;
                $crate::lightning::contract::$name(&*node, pay).await;
            }
        )*
    };
}
#[cfg(test)]
pub(crate) use contract_tests;

fn order(memo: &str) -> InvoiceOrder {
    InvoiceOrder { amount_sat: 123, memo: memo.to_owned(), expiry: Duration::from_secs(600) }
}

async fn invoice(node: &dyn LightningNode, memo: &str) -> Invoice {
    node.create_invoice(&order(memo)).await.unwrap()
}

/// The settlement of a paid invoice: a node may need a moment after its payer knows.
async fn settled(node: &dyn LightningNode, payment_hash: PaymentHash) -> Settlement {
    timeout(PATIENCE, async {
        loop {
            match node.settlement(payment_hash).await.unwrap() {
                Some(settlement) => return settlement,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
    .expect("a paid invoice is settled")
}

/// What comes out of the stream up to the settlement of `payment_hash`, which is the last.
async fn read_until(settlements: &mut Settlements, payment_hash: PaymentHash) -> Vec<Settlement> {
    let mut read: Vec<Settlement> = Vec::new();
    timeout(PATIENCE, async {
        while read.last().is_none_or(|last| last.payment_hash != payment_hash) {
            read.push(settlements.next().await.expect("the stream goes on").unwrap());
        }
    })
    .await
    .expect("a settlement reaches the stream");
    read
}

/// Amount, memo, expiry, network and payee are those of the order and the node.
pub async fn an_invoice_is_what_was_ordered(node: &dyn LightningNode, _: impl AsyncFn(&str) -> Preimage) {
    let memo = "two hundred €, media 00ff";
    let before = unix_now();
    let invoice = invoice(node, memo).await;
    let after = unix_now();
    let info = node.info().await.unwrap();
    assert_ne!(info.synced, Some(false));

    let parsed: Bolt11Invoice = invoice.bolt11.parse().unwrap();
    let currency = match info.network {
        Network::Mainnet => Currency::Bitcoin,
        Network::Testnet => Currency::BitcoinTestnet,
        Network::Signet => Currency::Signet,
        Network::Simnet => Currency::Simnet,
        Network::Regtest | Network::TestWallet => Currency::Regtest,
    };
    assert_eq!(parsed.currency(), currency);
    assert_eq!(parsed.amount_milli_satoshis(), Some(123_000));
    assert!(matches!(parsed.description(), Bolt11InvoiceDescriptionRef::Direct(text) if text.as_inner().0 == memo));
    assert_eq!(parsed.payment_hash().to_string(), invoice.payment_hash.to_string());
    assert_eq!(parsed.get_payee_pub_key().to_string(), info.pubkey);
    assert_eq!(parsed.expiry_time(), Duration::from_secs(600));
    assert_eq!(parsed.expires_at(), Some(Duration::from_secs(invoice.expires_at)));
    assert!((before + 600..=after + 600).contains(&invoice.expires_at));
}

/// Two like orders make two invoices.
pub async fn each_invoice_is_another(node: &dyn LightningNode, _: impl AsyncFn(&str) -> Preimage) {
    let (one, other) = (invoice(node, "the same").await, invoice(node, "the same").await);
    assert_ne!(one.payment_hash, other.payment_hash);
    assert_ne!(one.bolt11, other.bolt11);
}

/// No settlement of an unpaid invoice, nor of one that is not the node's.
pub async fn what_is_not_paid_is_not_settled(node: &dyn LightningNode, pay: impl AsyncFn(&str) -> Preimage) {
    let unpaid = invoice(node, "unpaid").await;
    let paid = invoice(node, "paid").await;
    pay(&paid.bolt11).await;
    settled(node, paid.payment_hash).await;
    assert_eq!(node.settlement(unpaid.payment_hash).await.unwrap(), None);
    let unknown = PaymentHash::from_bytes(rand::random());
    assert_eq!(node.settlement(unknown).await.unwrap(), None, "a hash of no invoice");
}

/// A paid invoice is settled, with all that is known of it.
pub async fn what_is_paid_is_settled(node: &dyn LightningNode, pay: impl AsyncFn(&str) -> Preimage) {
    let invoice = invoice(node, "settled").await;
    let before = unix_now();
    let preimage = pay(&invoice.bolt11).await;
    assert_eq!(preimage.payment_hash(), invoice.payment_hash);

    let settlement = settled(node, invoice.payment_hash).await;
    assert!((before..=unix_now()).contains(&settlement.settled_at));
    assert!(settlement.index >= 1);
    assert_eq!(settlement.payment_hash, invoice.payment_hash);
    assert_eq!((settlement.amount_msat, &*settlement.memo), (123_000, "settled"));
    assert_eq!(settled(node, invoice.payment_hash).await, settlement, "asked again");
}

/// The stream begins with the past, and goes on as payments come in.
pub async fn settlements_come_once_those_of_the_past_first(
    node: &dyn LightningNode,
    pay: impl AsyncFn(&str) -> Preimage,
) {
    let past = [invoice(node, "past 1").await, invoice(node, "past 2").await];
    for invoice in &past {
        pay(&invoice.bolt11).await;
        settled(node, invoice.payment_hash).await;
    }
    let mut settlements = node.settlements(0).await.unwrap();
    let mut read = read_until(&mut settlements, past[1].payment_hash).await;

    for memo in ["live 1", "live 2"] {
        let live = invoice(node, memo).await;
        // The stream waits while the payment comes in.
        let (more, _) = tokio::join!(read_until(&mut settlements, live.payment_hash), pay(&live.bolt11));
        assert_eq!(more.last(), Some(&settled(node, live.payment_hash).await));
        read.extend(more);
    }
    assert!(read.is_sorted_by(|one, next| one.index < next.index), "in order, each once");
    let hashes: Vec<_> = read.iter().map(|settlement| settlement.payment_hash).collect();
    assert!(past.iter().all(|invoice| hashes.contains(&invoice.payment_hash)));
}

/// The stream leaves out what stands before the index.
pub async fn settlements_go_on_after_an_index(node: &dyn LightningNode, pay: impl AsyncFn(&str) -> Preimage) {
    let (one, other) = (invoice(node, "one").await, invoice(node, "other").await);
    pay(&one.bolt11).await;
    let after = settled(node, one.payment_hash).await.index;
    pay(&other.bolt11).await;
    settled(node, other.payment_hash).await;

    let mut settlements = node.settlements(after).await.unwrap();
    let read = read_until(&mut settlements, other.payment_hash).await;
    assert!(read.iter().all(|settlement| settlement.index > after));
}

/// It reaches every index that it settled with, and none that is far beyond.
pub async fn knows_how_far_its_settlements_reach(node: &dyn LightningNode, pay: impl AsyncFn(&str) -> Preimage) {
    let invoice = invoice(node, "how far").await;
    pay(&invoice.bolt11).await;
    let index = settled(node, invoice.payment_hash).await.index;
    for (index, is_reached) in [(1, true), (index, true), (index + 1_000_000, false), (i64::MAX as u64, false)] {
        assert_eq!(node.reaches(index).await.unwrap(), is_reached, "{index}");
    }
}

/// Payments that come at once do not get in each other's way.
pub async fn many_are_made_and_paid_at_once(node: &dyn LightningNode, pay: impl AsyncFn(&str) -> Preimage) {
    let one = async || {
        let invoice = invoice(node, "one of many").await;
        let preimage = pay(&invoice.bolt11).await;
        assert_eq!(preimage.payment_hash(), invoice.payment_hash);
        settled(node, invoice.payment_hash).await.index
    };
    let mut indexes = join_all((0..20).map(|_| one())).await;
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 20, "each has an index of its own");
}

/// Amounts and memos that no invoice can have are refused.
pub async fn refuses_what_cannot_be_an_invoice(node: &dyn LightningNode, _: impl AsyncFn(&str) -> Preimage) {
    for impossible in [
        InvoiceOrder { amount_sat: 0, ..order("nothing") },
        InvoiceOrder { amount_sat: u64::MAX, ..order("more than there is") },
        InvoiceOrder { amount_sat: u64::MAX / 1000, ..order("still more than there is") },
        InvoiceOrder { memo: "m".repeat(640), ..order("") },
    ] {
        let refused = node.create_invoice(&impossible).await;
        assert!(matches!(refused, Err(LightningError::Refused(_))), "{impossible:?}: {refused:?}");
    }
}
