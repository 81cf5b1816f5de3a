//! A Sluice that takes payment through the selling node.

use std::{path::Path, process::Output};

use reqwest::StatusCode;
use serde_json::Value;
use sluice_common::{
    l402::{Challenge, Credential},
    secret::Secret,
};
use sluice_gateway::lightning::LndConfig;

use crate::{
    network::{Lnd, Macaroon},
    support::{Sluice, challenge, eventually},
};

/// What `sluice up` is told of a node.
pub fn node_options(node: &Lnd, macaroon: &Path) -> Vec<String> {
    let [cert, macaroon] = [&node.tls_cert(), macaroon].map(|path| path.display().to_string());
    ["--lnd", &node.address(), "--lnd-tls-cert", &cert, "--lnd-macaroon", &macaroon].map(str::to_owned).to_vec()
}

/// How the gateway's own client reaches a node, with all rights.
pub fn lnd_config(node: &Lnd) -> LndConfig {
    LndConfig {
        address: node.address(),
        tls_cert: std::fs::read(node.tls_cert()).unwrap(),
        macaroon: Secret::new(std::fs::read(node.macaroon(Macaroon::Admin)).unwrap()),
        network: None,
        private: false,
    }
}

/// Starts one with these further options. Its log must never hold the node's macaroon.
pub async fn open(node: &Lnd, macaroon: Macaroon, config: &str, options: &[&str]) -> Sluice {
    let node_options = node_options(node, &node.macaroon(macaroon));
    let options: Vec<&str> = node_options.iter().map(String::as_str).chain(options.iter().copied()).collect();
    let sluice = Sluice::start_configured(Some(config), &options).await;
    sluice.is_secret(&hex::encode(std::fs::read(node.macaroon(macaroon)).unwrap()));
    sluice
}

/// Asks for the price and gets a challenge with a real invoice.
pub async fn ask(sluice: &Sluice) -> Challenge {
    let reply = sluice.get("/largefile").send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::PAYMENT_REQUIRED);
    challenge(&reply)
}

/// Pays from the paying node. An error is LND's reason why not.
pub async fn pay(sluice: &Sluice, payer: &Lnd, challenge: &Challenge) -> Result<Credential, String> {
    let preimage = payer.pay(&challenge.invoice).await?;
    sluice.is_secret(&preimage.expose_hex());
    Ok(Credential::new(challenge.macaroon.clone(), preimage))
}

/// Asks and pays.
pub async fn buy(sluice: &Sluice, payer: &Lnd) -> Credential {
    pay(sluice, payer, &ask(sluice).await).await.unwrap()
}

/// The payment hash of a token, in hex.
pub fn payment_hash(token: &Challenge) -> String {
    token.macaroon.identifier().unwrap().payment_hash.to_string()
}

/// The ledger.
pub async fn payments(sluice: &Sluice) -> Vec<Value> {
    let data = sluice.data();
    let output = sluice.run(&["payments", "--data", data.to_str().unwrap(), "--format", "json"]).await;
    let text = printed(&output);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The payment with this hash, once the ledger has it as `complete` wants it.
pub async fn booked(sluice: &Sluice, payment_hash: &str, complete: impl Fn(&Value) -> bool) -> Value {
    eventually("the payment is booked", async || {
        payments(sluice).await.into_iter().find(|payment| payment["payment_hash"] == payment_hash && complete(payment))
    })
    .await
}

/// What a command printed that went well.
pub fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
