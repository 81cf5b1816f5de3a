use std::{convert::Infallible, sync::Arc};

use futures_util::StreamExt;
use proptest::prelude::*;
use secp256k1::{SECP256K1, SecretKey};
use tempfile::TempDir;

use super::*;
use crate::lightning::contract::contract_tests;

/// The time in tests that need one.
const NOW: u64 = 1_800_000_000;

fn at(unix_secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix_secs)
}

async fn wallet_in(folder: &TempDir, key: u8) -> TestWallet {
    let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
    TestWallet::new(&Secret::new([key; 32]), db)
}

async fn wallet() -> (TestWallet, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (wallet_in(&folder, 1).await, folder)
}

async fn node_and_payer() -> (Arc<TestWallet>, impl AsyncFn(&str) -> Preimage, TempDir) {
    let (wallet, folder) = wallet().await;
    let wallet = Arc::new(wallet);
    let payer = wallet.clone();
    (wallet, async move |bolt11: &str| payer.pay(bolt11, SystemTime::now()).await.unwrap(), folder)
}

contract_tests!(node_and_payer);

fn order() -> InvoiceOrder {
    InvoiceOrder { amount_sat: 100, memo: "media 00ff".to_owned(), expiry: Duration::from_secs(60) }
}

async fn payments(wallet: &TestWallet) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM test_wallet_payments").fetch_one(wallet.db.reader()).await.unwrap()
}

/// An invoice like the wallet's own, but for what the test changes, signed with `node_key`.
fn forged(
    node_key: &SecretKey,
    currency: Currency,
    amount_msat: Option<u64>,
    (payment_hash, payment_secret): (PaymentHash, [u8; 32]),
) -> String {
    let mut invoice = InvoiceBuilder::new(currency)
        .description("media 00ff".to_owned())
        .payment_hash(sha256::Hash::from_byte_array(*payment_hash.as_bytes()))
        .payment_secret(PaymentSecret(payment_secret))
        .duration_since_epoch(Duration::from_secs(NOW))
        .expiry_time(Duration::from_secs(60))
        .min_final_cltv_expiry_delta(18);
    if let Some(amount_msat) = amount_msat {
        invoice = invoice.amount_milli_satoshis(amount_msat);
    }
    invoice.build_signed(|message| SECP256K1.sign_ecdsa_recoverable(message, node_key)).unwrap().to_string()
}

fn parts(bolt11: &str) -> (PaymentHash, [u8; 32]) {
    let invoice: Bolt11Invoice = bolt11.parse().unwrap();
    (PaymentHash::from_bytes(invoice.payment_hash().to_byte_array()), invoice.payment_secret().0)
}

#[tokio::test]
async fn pays_once_and_gives_the_same_preimage_ever_after() {
    let (wallet, _folder) = wallet().await;
    let invoice = wallet.invoice_at(&order(), at(NOW)).unwrap();
    assert!(invoice.bolt11.starts_with("lnbcrt1u1"), "{}", invoice.bolt11);
    assert_eq!(payments(&wallet).await, 0, "an unpaid invoice leaves nothing");

    let preimage = wallet.pay(&invoice.bolt11, at(NOW)).await.unwrap();
    for (bolt11, now) in [
        (invoice.bolt11.clone(), NOW + 1),
        (invoice.bolt11.to_uppercase(), NOW + 2),
        (format!(" {}\n", invoice.bolt11), NOW + 100_000),
    ] {
        assert_eq!(wallet.pay(&bolt11, at(now)).await.unwrap(), preimage);
    }
    assert_eq!(payments(&wallet).await, 1);
    assert_eq!(wallet.settlement(invoice.payment_hash).await.unwrap().unwrap().settled_at, NOW);
}

#[tokio::test]
async fn many_payers_of_one_invoice_make_one_payment() {
    let (wallet, _folder) = wallet().await;
    let invoice = wallet.invoice_at(&order(), at(NOW)).unwrap();
    let preimages = futures_util::future::join_all((0..20).map(|_| wallet.pay(&invoice.bolt11, at(NOW)))).await;
    assert!(preimages.iter().all(|preimage| preimage.as_ref().unwrap().payment_hash() == invoice.payment_hash));
    assert_eq!(payments(&wallet).await, 1);
}

#[tokio::test]
async fn an_invoice_can_be_paid_until_it_expires() {
    let (wallet, _folder) = wallet().await;
    let invoice = wallet.invoice_at(&order(), at(NOW)).unwrap();
    assert_eq!(invoice.expires_at, NOW + 60);
    assert!(matches!(wallet.pay(&invoice.bolt11, at(NOW + 60)).await, Err(PayError::Expired)));
    assert_eq!(payments(&wallet).await, 0);
    wallet.pay(&invoice.bolt11, at(NOW + 59)).await.unwrap();
}

#[tokio::test]
async fn the_key_is_all_that_must_survive() {
    let (wallet, folder) = wallet().await;
    let invoice = wallet.invoice_at(&order(), at(NOW)).unwrap();
    let paid = wallet.invoice_at(&order(), at(NOW)).unwrap();
    let preimage = wallet.pay(&paid.bolt11, at(NOW)).await.unwrap();
    let info = wallet.info().await.unwrap();
    wallet.db.close().await;

    let again = wallet_in(&folder, 1).await;
    assert_eq!(again.info().await.unwrap(), info);
    assert_eq!(again.pay(&paid.bolt11, at(NOW + 100)).await.unwrap(), preimage);
    assert_eq!(again.pay(&invoice.bolt11, at(NOW)).await.unwrap().payment_hash(), invoice.payment_hash);

    let elsewhere = tempfile::tempdir().unwrap();
    let same_key = wallet_in(&elsewhere, 1).await;
    assert_eq!(same_key.pay(&paid.bolt11, at(NOW)).await.unwrap(), preimage);

    let another_key = wallet_in(&folder, 2).await;
    assert_ne!(another_key.info().await.unwrap().pubkey, info.pubkey);
    assert!(matches!(another_key.pay(&paid.bolt11, at(NOW)).await, Err(PayError::NotOurs)));
}

/// The derivation of node key and preimages never changes: invoices and tokens that are out depend on it.
/// (The values are computed by another program.)
#[test]
fn keys_are_derived_as_ever() {
    let keys = WalletKeys::derive(&Secret::new([7; 32]));
    let node_id = "02faa877a67acbad28ce3df4c9a15f2ce83c6b7c41586978f134890a173a4add70";
    assert_eq!(keys.node_id().to_string(), node_id);
    let payment_hash = "3705d886b3760868dd079310a5c99466422d2bf91c9834c056e20597b4de1df6";
    assert_eq!(keys.preimage(100_000, NOW, &[9; 32]).payment_hash().to_string(), payment_hash);
    for other in [keys.preimage(100_001, NOW, &[9; 32]), keys.preimage(100_000, NOW + 1, &[9; 32])] {
        assert_ne!(other, keys.preimage(100_000, NOW, &[9; 32]));
    }
}

#[tokio::test]
async fn pays_no_invoice_but_its_own() {
    let (wallet, _folder) = wallet().await;
    let foreign_key = SecretKey::from_slice(&[5; 32]).unwrap();
    let own_key = wallet.keys.node_key();
    let own = parts(&wallet.invoice_at(&order(), at(NOW)).unwrap().bolt11);
    let regtest = Currency::Regtest;
    // The wallet's own, made the same way, is paid: so what is refused below is refused for what is changed.
    wallet.pay(&forged(&own_key, regtest.clone(), Some(100_000), own), at(NOW)).await.unwrap();

    let unpaid = parts(&wallet.invoice_at(&order(), at(NOW)).unwrap().bolt11);
    let other_hash = (PaymentHash::from_bytes([3; 32]), unpaid.1);
    for (bolt11, refused) in [
        (forged(&foreign_key, regtest.clone(), Some(100_000), unpaid), PayError::NotOurs),
        // Signed by our key, yet not derived from it: a network, amount, hash or secret that we never put together.
        (forged(&own_key, regtest.clone(), Some(1), unpaid), PayError::NotOurs),
        (forged(&own_key, regtest.clone(), Some(100_000), other_hash), PayError::NotOurs),
        (forged(&own_key, regtest.clone(), None, unpaid), PayError::NoAmount),
        (forged(&own_key, regtest, Some(0), unpaid), PayError::NoAmount),
        (forged(&own_key, Currency::Bitcoin, Some(100_000), unpaid), PayError::OtherNetwork),
        (forged(&own_key, Currency::Simnet, Some(100_000), unpaid), PayError::OtherNetwork),
    ] {
        let error = wallet.pay(&bolt11, at(NOW)).await.unwrap_err();
        assert_eq!(error.to_string(), refused.to_string(), "{bolt11}");
    }
    assert_eq!(payments(&wallet).await, 1);
}

#[tokio::test]
async fn a_changed_invoice_is_refused() {
    let (wallet, _folder) = wallet().await;
    let invoice = wallet.invoice_at(&order(), at(NOW)).unwrap().bolt11;
    for at_char in 0..invoice.len() {
        let mut changed = invoice.clone().into_bytes();
        changed[at_char] = if changed[at_char] == b'q' { b'p' } else { b'q' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(matches!(wallet.pay(&changed, at(NOW)).await, Err(PayError::NotAnInvoice)), "{changed}");
    }
    // With a checksum made anew, it is the signature that tells.
    let signed: lightning_invoice::SignedRawBolt11Invoice = invoice.parse().unwrap();
    let (mut raw, _, signature) = signed.into_parts();
    raw.hrp.raw_amount = Some(2);
    let changed = raw.sign::<_, Infallible>(|_| Ok(signature.0)).unwrap().to_string();
    assert!(matches!(wallet.pay(&changed, at(NOW)).await, Err(PayError::NotOurs)));
    assert_eq!(payments(&wallet).await, 0);
}

#[tokio::test]
async fn a_stream_sees_what_another_process_recorded_and_ends_with_the_wallet() {
    let (wallet, folder) = wallet().await;
    let mut settlements = wallet.settlements(0).await.unwrap();
    let other_process = wallet_in(&folder, 1).await;
    let invoice = wallet.invoice_at(&order(), at(NOW)).unwrap();
    other_process.pay(&invoice.bolt11, at(NOW)).await.unwrap();
    let settlement = timeout(Duration::from_secs(30), settlements.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(settlement.payment_hash, invoice.payment_hash);

    drop(wallet);
    assert!(matches!(settlements.next().await, Some(Err(LightningError::Closed))));
}

#[tokio::test]
async fn a_long_past_comes_whole_and_in_order() {
    let (wallet, _folder) = wallet().await;
    let count = PAGE as u64 * 2 + 1;
    let mut transaction = wallet.db.write().await.unwrap();
    sqlx::query(
        "WITH RECURSIVE number(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM number WHERE n < $1)
         INSERT INTO test_wallet_payments (payment_hash, amount_msat, memo, settled_at)
         SELECT randomblob(32), n, 'past', 0 FROM number",
    )
    .bind(to_i64(count))
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();

    let past: Vec<_> = wallet.settlements(1).await.unwrap().take(count as usize - 1).collect().await;
    let amounts: Vec<_> = past.into_iter().map(|settlement| settlement.unwrap().amount_msat).collect();
    assert!(amounts.into_iter().eq(2..=count));
}

#[tokio::test]
async fn refuses_an_invoice_that_nobody_could_pay() {
    let (wallet, _folder) = wallet().await;
    for expiry in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
        let refused = wallet.create_invoice(&InvoiceOrder { expiry, ..order() }).await;
        assert!(matches!(refused, Err(LightningError::Refused(_))), "{expiry:?}");
    }
}

#[test]
fn junk_never_panics() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (wallet, _folder) = runtime.block_on(wallet());
    let own = wallet.invoice_at(&order(), at(NOW)).unwrap().bolt11;
    proptest!(|(
        text in prop_oneof![
            ".*",
            "lnbcrt[0-9]{0,20}[munp]?1[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{0,300}",
            "ln(bc|tb|bcrt|sb)[0-9]*[munp]?1[a-z0-9]{0,200}",
        ],
        cut in 0..own.len(),
    )| {
        for bolt11 in [&*text, &own[..cut], &own[cut..]] {
            if *bolt11 != own {
                prop_assert!(wallet.check(bolt11).is_err());
            }
        }
    });
}
