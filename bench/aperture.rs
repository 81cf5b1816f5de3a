//! A real Aperture, which sells what `bench/gateway` measures, through the same node.

use std::{path::Path, time::Duration};

use reqwest::{Client, header::WWW_AUTHENTICATE};
use sluice_common::l402::{Challenge, Credential};
use tokio::process::Command;

use crate::{
    network::{Lnd, Macaroon, Network, Process},
    support::eventually_within,
};

/// Where it listens, and where the server behind does that `bench/gateway` starts.
const ADDRESS: &str = "127.0.0.1:28095";
const BEHIND: &str = "127.0.0.1:28090";

/// Runs `bench/gateway` with an Aperture beside the others.
pub async fn compare(network: &Network) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("aperture.yaml");
    std::fs::write(&config, settings(&network.seller, folder.path())).unwrap();
    let process = Process::start("aperture", &[format!("--configfile={}", config.display())], folder.path());
    let url = format!("http://{ADDRESS}/small");
    let client = Client::builder().no_proxy().build().unwrap();
    let ask = &mut async || {
        let reply = client.get(&url).send().await.ok()?;
        Challenge::parse(reply.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()))
    };
    let challenge = eventually_within(Duration::from_secs(60), "Aperture asks for payment", ask).await;
    // Its channel is open, but the payer learns a little later that it can be used.
    let pay = &mut async || network.payer.pay(&challenge.invoice).await.ok();
    let preimage = eventually_within(Duration::from_secs(60), "Aperture's invoice is paid", pay).await;
    let token = Credential::new(challenge.macaroon, preimage).authorization();
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/gateway"));
    script
        .env("APERTURE", ADDRESS)
        .env("APERTURE_PID", process.pid().to_string())
        .env("APERTURE_TOKEN", token.expose());
    assert!(script.status().await.unwrap().success());
    process.stop().await;
}

fn settings(node: &Lnd, folder: &Path) -> String {
    let macaroons = node.macaroon(Macaroon::Admin);
    format!(
        r#"
listenaddr: "{ADDRESS}"
staticroot: "{folder}"
servestatic: false
debuglevel: "error"
autocert: false
insecure: true
basedir: "{folder}"
authenticator:
  network: "simnet"
  lndhost: "{}"
  tlspath: "{}"
  macdir: "{}"
dbbackend: "sqlite"
sqlite:
  databasefilename: "{folder}/aperture.db"
services:
  - name: "bench"
    hostregexp: '.*'
    pathregexp: '^/.*$'
    address: "{BEHIND}"
    protocol: http
    auth: "on"
    timeout: 31557600
    price: 100
"#,
        node.address(),
        node.tls_cert().display(),
        macaroons.parent().unwrap().display(),
        folder = folder.display(),
    )
}
