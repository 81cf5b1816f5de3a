//! What is paid is stored and booked, once and with its amount; and what becomes of what is not paid.

use lightning_invoice::Bolt11Invoice;
use reqwest::StatusCode;
use serde_json::Value;
use sluice_common::l402::Credential;

use crate::{
    network::{CHANNEL_SAT, Macaroon, Network},
    shop::{self, ask, booked, pay, payment_hash, payments, printed},
    support::{authorized, bytes},
};

/// 402 from the gateway on one node, the other node pays, the upload goes through.
pub async fn a_paid_upload_is_stored_and_booked(network: &mut Network) {
    let sluice = shop::open(&network.seller, Macaroon::Admin, "", &[]).await;
    let challenge = ask(&sluice).await;
    assert!(challenge.invoice.starts_with("lnsb"), "{}", challenge.invoice);
    say!("GET /largefile: 402, invoice {}…", &challenge.invoice[..24]);
    assert!(payments(&sluice).await.is_empty(), "nothing is written before it is paid");

    let credential = pay(&sluice, &network.payer, &challenge).await.unwrap();
    say!("the payer pays it");
    let hash = payment_hash(&challenge);
    let settled = booked(&sluice, &hash, |payment| !payment["settled_at"].is_null()).await;
    assert_eq!((&settled["amount_msat"], &settled["service"]), (&100_000.into(), &"media".into()));
    assert!(settled["first_used_at"].is_null(), "not used yet: {settled}");
    say!("the ledger, before the upload: {settled}");

    let file = bytes(1_000_000, 1);
    let stored = sluice.upload(&credential, &file).await;
    assert_eq!(stored.status(), StatusCode::OK);
    let media: Value = stored.json().await.unwrap();
    let muid = media["muid"].as_str().unwrap();
    say!("POST /largefile with the preimage: 200, {muid}");
    let path = format!("/file/{muid}");
    let back = authorized(sluice.get(&path), &credential).send().await.unwrap();
    assert!(back.bytes().await.unwrap() == file, "not the bytes that were sent");

    let used = booked(&sluice, &hash, |payment| !payment["first_used_at"].is_null()).await;
    assert_eq!(used["amount_msat"], 100_000);
    assert_eq!(used["token_id"], challenge.macaroon.identifier().unwrap().token_id.to_string());
    assert_eq!(payments(&sluice).await.len(), 1, "one payment, one row");
    let data = sluice.data();
    let table = printed(&sluice.run(&["payments", "--data", data.to_str().unwrap(), "--sum"]).await);
    for line in table.lines() {
        say!("sluice payments --sum: {line}");
    }
    assert!(table.contains("100"), "{table}");
    sluice.finish().await;
}

pub async fn other_invoices_of_the_node_are_never_booked(network: &mut Network) {
    let sluice = shop::open(&network.seller, Macaroon::Admin, "", &[]).await;
    let forged = format!("media {}", "00".repeat(32));
    for memo in ["a coffee", "media", &forged] {
        network.payer.pay(&network.seller.invoice(7, memo).await).await.unwrap();
    }
    // Settlements come in order: once this one is booked, those before it were looked at.
    let challenge = ask(&sluice).await;
    pay(&sluice, &network.payer, &challenge).await.unwrap();
    booked(&sluice, &payment_hash(&challenge), |payment| !payment["settled_at"].is_null()).await;
    let all = payments(&sluice).await;
    assert_eq!(all.len(), 1, "neither the node's own invoices nor those of another Sluice: {all:?}");
    say!("3 invoices of the node's own were paid, and 1 of Sluice's: the ledger has that one alone");
    sluice.finish().await;
}

pub async fn private_channels_are_hinted_at_only_where_that_is_said(network: &mut Network) {
    network.open_private_channel().await;
    for private in [true, false] {
        let config = format!("[lightning]\nprivate = {private}");
        let sluice = shop::open(&network.seller, Macaroon::Invoice, &config, &[]).await;
        let challenge = ask(&sluice).await;
        let invoice: Bolt11Invoice = challenge.invoice.parse().unwrap();
        let peers: Vec<_> = invoice.private_routes().iter().map(|route| route.0[0].src_node_id.to_string()).collect();
        let expected = if private { vec![network.payer.pubkey().await] } else { Vec::new() };
        assert_eq!(peers, expected, "private = {private}");
        let credential = pay(&sluice, &network.payer, &challenge).await.unwrap();
        assert_eq!(sluice.upload(&credential, b"x").await.status(), StatusCode::OK);
        say!("private = {private}: {} route hints, paid, 200", peers.len());
        sluice.finish().await;
    }
}

pub async fn a_payer_without_the_money_gets_nothing_and_owes_nothing(network: &mut Network) {
    let price = (CHANNEL_SAT * 2).to_string();
    let sluice = shop::open(&network.seller, Macaroon::Admin, "", &["--price-sat", &price]).await;
    let challenge = ask(&sluice).await;
    let reason = pay(&sluice, &network.payer, &challenge).await.unwrap_err();
    assert!(reason.contains("INSUFFICIENT_BALANCE") || reason.contains("NO_ROUTE"), "{reason}");
    say!("paying {price} sat out of a channel of {CHANNEL_SAT}: {reason}");
    let guess = Credential::new(challenge.macaroon.clone(), "00".repeat(32).parse().unwrap());
    assert_eq!(sluice.upload(&guess, b"x").await.status(), StatusCode::UNAUTHORIZED);
    assert!(payments(&sluice).await.is_empty());
    assert!(sluice.stored_files().is_empty());
    sluice.finish().await;
}

/// The node knows the preimage of each of its invoices, paid or not: that is how the two kinds of trust differ.
pub async fn whoever_has_the_preimage_has_paid_unless_the_node_must_say_so(network: &mut Network) {
    for (settlement, status) in [("preimage", StatusCode::OK), ("node", StatusCode::UNAUTHORIZED)] {
        let config = format!("[lightning]\nsettlement = \"{settlement}\"");
        let sluice = shop::open(&network.seller, Macaroon::Admin, &config, &[]).await;
        let challenge = ask(&sluice).await;
        let hash = payment_hash(&challenge);
        let preimage = network.seller.preimage(&hash).await;
        sluice.is_secret(&preimage.expose_hex());
        let unpaid = Credential::new(challenge.macaroon.clone(), preimage);
        let reply = sluice.upload(&unpaid, b"x").await;
        assert_eq!(reply.status(), status, "{settlement}");
        assert!(reply.headers().get("www-authenticate").is_none());
        say!("settlement = \"{settlement}\": the preimage of an invoice that is not paid: {}", reply.status());
        if settlement == "preimage" {
            let used = booked(&sluice, &hash, |payment| !payment["first_used_at"].is_null()).await;
            assert!(used["settled_at"].is_null() && used["amount_msat"].is_null(), "{used}");
            say!("booked from its first use, without an amount, for the node has not said one");
        } else {
            assert!(payments(&sluice).await.is_empty(), "nothing was paid, and nothing was used");
        }

        let paid = pay(&sluice, &network.payer, &challenge).await.unwrap();
        assert_eq!(sluice.upload(&paid, b"y").await.status(), StatusCode::OK, "{settlement}");
        let settled = booked(&sluice, &hash, |payment| !payment["settled_at"].is_null()).await;
        assert_eq!(settled["amount_msat"], 100_000);
        assert_eq!(payments(&sluice).await.len(), 1, "merged by payment hash");
        say!("settlement = \"{settlement}\": paid: 200, one row with its amount");
        sluice.finish().await;
    }
}
