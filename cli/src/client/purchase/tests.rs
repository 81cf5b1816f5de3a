use sluice_common::l402::Macaroon;

use super::*;
use crate::client::{invoice::tests::COFFEE, token::tests::TOKEN};

const MIB: u64 = 1_048_576;

fn offered() -> SavedToken {
    let invoice: Invoice = COFFEE.parse().unwrap();
    SavedToken {
        server: "http://a".into(),
        payment_hash: invoice.payment_hash(),
        macaroon: Macaroon::from_base64(TOKEN).unwrap(),
        invoice: COFFEE.into(),
        expires_at: 1_000,
        saved_at: 0,
        preimage: None,
        payment_begun: false,
        uploading: None,
        ended: None,
    }
}

fn is_open(token: &SavedToken, now: u64, pay: bool, size: u64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(Some(dir.path().to_owned())).unwrap();
    let args = PaymentArgs { pay, max_price_sat: None, admin: AdminArgs { admin: String::new() } };
    Purchase { api: &Api::new("http://a").unwrap(), state: &state, args: &args, size }.is_open(token, now)
}

#[test]
fn an_offer_stays_open_while_it_can_be_paid_or_may_have_been() {
    assert!(is_open(&offered(), 900, false, 500 * MIB));
    assert!(!is_open(&offered(), 950, false, 500 * MIB));
    assert!(!is_open(&offered(), 900, false, 500 * MIB + 1));
    assert!(!is_open(&SavedToken { server: "http://b".into(), ..offered() }, 0, false, 1));
    assert!(!is_open(&SavedToken { ended: Some("x".into()), ..offered() }, 0, false, 1));
    let paid = Some(Preimage::from_bytes([1; 32]));
    assert!(!is_open(&SavedToken { preimage: paid, ..offered() }, 0, false, 1));

    // The wallet says whether it paid; nobody else can.
    let begun = SavedToken { payment_begun: true, ..offered() };
    assert!(is_open(&begun, 5_000, true, 1));
    assert!(!is_open(&begun, 5_000, false, 1));
}

#[tokio::test]
async fn nothing_over_the_limit_is_paid() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(Some(dir.path().to_owned())).unwrap();
    let api = Api::new("http://a").unwrap();
    let args = PaymentArgs { pay: true, max_price_sat: Some(249_999), admin: AdminArgs { admin: String::new() } };
    let purchase = Purchase { api: &api, state: &state, args: &args, size: 1 };
    let error = purchase.settle(offered()).await.err().unwrap();
    assert_eq!(error.to_string(), "the price of 250000 sat is over --max-price-sat 249999: not paid");
    assert!(state.tokens().unwrap().is_empty(), "no payment was begun");
}
