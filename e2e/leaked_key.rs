//! A master key leaks, and is retired while Sluice runs.

use std::fs;

use reqwest::StatusCode;
use serde_json::Value;
use sluice_common::{
    clock::unix_now,
    keys::{MasterKey, MasterKeys},
    l402::{self, Credential, Preimage, ServiceTerms},
    network::Network,
    secret::Secret,
};

use crate::support::{SINGLE_USE, Sluice, authorized, eventually, form};

/// A token that nobody paid for, by who has the key.
fn forged(sluice: &Sluice) -> Credential {
    let mut key = [0; 32];
    let text = fs::read_to_string(sluice.data().join("keys/master.key")).unwrap();
    hex::decode_to_slice(text.trim(), &mut key).unwrap();
    let keys = MasterKeys::new(vec![MasterKey::new(&Secret::new(key), 0)]).unwrap();
    let preimage = Preimage::from_bytes(rand::random());
    let token_id = keys.minting(unix_now()).unwrap().new_token_id(unix_now());
    let terms = ServiceTerms { max_upload_mb: 64, ..ServiceTerms::named("media") };
    let macaroon = l402::mint(&keys, Network::TestWallet, &terms, token_id, preimage.payment_hash()).unwrap();
    let credential = Credential::new(macaroon, preimage);
    sluice.is_secret(&credential.macaroon().to_base64());
    credential
}

#[tokio::test]
async fn what_a_leaked_key_makes_is_worth_nothing_once_it_is_retired_and_what_was_sold_is() {
    let sluice = Sluice::start_with(SINGLE_USE).await;
    let (honest, unused) = (sluice.buy().await, sluice.buy().await);
    let stored = sluice.upload(&honest, b"a file").await;
    let muid = stored.json::<Value>().await.unwrap()["muid"].as_str().unwrap().to_owned();
    assert_eq!(sluice.upload(&forged(&sluice), b"for nothing").await.status(), StatusCode::OK, "so it must be retired");

    let config = sluice.folder().join("sluice.toml");
    let data = sluice.data().display().to_string();
    let words = ["keys", "rotate", "--leaked", "--config", config.to_str().unwrap(), "--data", &data];
    let output = sluice.run(&words).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let (_, lines) = said.split_once("\n[l402]").unwrap();
    let (lines, _) = lines.split_once("]\n\n").unwrap();
    let keys = async || {
        let output = sluice.run(&["admin", "--data", &data, "keys"]).await;
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()
    };
    eventually("both payments are in the ledger", async || {
        let output = sluice.run(&["admin", "--data", &data, "payments"]).await;
        let payments: Value = serde_json::from_slice(&output.stdout).ok()?;
        let settled = payments.as_array()?.iter().filter(|payment| payment["settled_at"].is_string()).count();
        (settled == 2).then_some(())
    })
    .await;

    fs::write(&config, format!("{SINGLE_USE}\n[l402]{lines}]\n")).unwrap();
    sluice.signal("HUP").await;
    eventually("the old key is retired", async || {
        let keys = keys().await;
        (keys[0]["is_retired"] == true && keys[1]["is_minting"] == true).then_some(())
    })
    .await;

    let forged = forged(&sluice);
    let (content_type, body) = form::with_file(b"for nothing");
    let around = sluice.client.post(format!("http://{}/largefile", sluice.backend_address()));
    let around = authorized(around, &forged).header("content-type", content_type).body(body).send();
    for answer in [sluice.upload(&forged, b"for nothing").await, around.await.unwrap()] {
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.headers().get("www-authenticate").is_none());
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "not_settled");
    }
    let file = authorized(sluice.get(&format!("/file/{muid}")), &honest).send().await.unwrap();
    assert_eq!(file.bytes().await.unwrap(), "a file");
    assert_eq!(sluice.upload(&unused, b"another").await.status(), StatusCode::OK, "what was paid for is there");
    let new = sluice.buy().await;
    assert_eq!(sluice.upload(&new, b"a third").await.status(), StatusCode::OK);
    sluice.finish().await;
}
