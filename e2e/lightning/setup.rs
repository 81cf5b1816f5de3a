//! What an operator meets on the way to a node that works.

use std::{path::Path, process::Output, time::Duration};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::{
    network::{Lnd, Macaroon, Network, free_port, program},
    shop::{self, booked, buy, node_options, printed},
    support::{Sluice, eventually},
};

/// Runs before there is a chain worth the name.
pub async fn a_node_that_is_not_synced_is_a_warning(network: &mut Network) {
    let sluice = shop::open(&network.seller, Macaroon::Admin, "", &[]).await;
    let health = || sluice.client.get(sluice.admin_url("/healthz")).send();
    let health = eventually("health says so", async || {
        let reply = health().await.unwrap();
        assert_eq!(reply.status(), 200, "it serves");
        let health: Value = reply.json().await.unwrap();
        (health["status"] == "degraded").then_some(health)
    })
    .await;
    say!("GET /healthz: {health}");
    let log = sluice.log();
    let warning = log.lines().find(|line| line.contains("WARN") && line.contains("sync")).expect("a warning");
    say!("the log: {warning}");
    let reply = sluice.get("/largefile").send().await.unwrap();
    assert_eq!(reply.status(), 503, "a node that waits for blocks takes the order and does not answer");
    say!("GET /largefile: 503, retry-after: {}", reply.headers()["retry-after"].to_str().unwrap());
    sluice.finish().await;
}

/// LND makes it at its first start, so it is what an operator tries first.
pub async fn the_invoice_macaroon_alone_suffices(network: &mut Network) {
    for settlement in ["preimage", "node"] {
        let config = format!("[lightning]\nsettlement = \"{settlement}\"");
        let sluice = shop::open(&network.seller, Macaroon::Invoice, &config, &[]).await;
        let credential = buy(&sluice, &network.payer).await;
        assert_eq!(sluice.upload(&credential, b"x").await.status(), 200);
        let hash = credential.macaroon().identifier().unwrap().payment_hash.to_string();
        booked(&sluice, &hash, |payment| payment["amount_msat"] == 100_000).await;
        say!("invoice.macaroon, settlement = \"{settlement}\": 402, paid, 200, booked");
        sluice.finish().await;
    }
}

pub async fn certificate_and_macaroon_can_be_said_in_place_of_their_files(network: &mut Network) {
    let node = &network.seller;
    let certificate = std::fs::read_to_string(node.tls_cert()).unwrap();
    let macaroon = hex::encode(std::fs::read(node.macaroon(Macaroon::Invoice)).unwrap());
    let config =
        format!("[lightning]\nkind = \"lnd\"\nlndhost = \"{}\"\ntlscert = \"\"\"\n{certificate}\"\"\"", node.address());
    let sluice = Sluice::start_in(&[("LND_MACAROON_HEX", &macaroon)], Some(&config), &[]).await;
    sluice.is_secret(&macaroon);
    let credential = buy(&sluice, &network.payer).await;
    assert_eq!(sluice.upload(&credential, b"x").await.status(), 200);
    say!("tlscert in sluice.toml, LND_MACAROON_HEX in the environment: 402, paid, 200");
    sluice.finish().await;
}

pub async fn another_network_is_an_error_at_start(network: &mut Network) {
    for macaroon in [Macaroon::Admin, Macaroon::Invoice] {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("sluice.toml");
        std::fs::write(&config, "[lightning]\nnetwork = \"mainnet\"\n").unwrap();
        let data = folder.path().join("data");
        let mut up = vec!["up", "--config", config.to_str().unwrap(), "--data", data.to_str().unwrap()];
        let addresses = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
        for (name, address) in ["--listen", "--admin-listen", "--backend-listen"].into_iter().zip(&addresses) {
            up.extend([name, address]);
        }
        let refused = with_node(&up, &network.seller, &network.seller.macaroon(macaroon)).await;
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success());
        let last = error.lines().last().unwrap_or_default();
        assert!(last.contains("simnet") && last.contains("mainnet"), "{error}");
        say!("network = \"mainnet\": {last}");
    }
}

pub async fn the_doctor_says_what_is_wrong_and_how_to_mend_it(network: &mut Network) {
    let node = &network.seller;
    let mut sluice = shop::open(node, Macaroon::Admin, "", &[]).await;
    sluice.stop().await;
    let data = sluice.data();
    let doctor_of = async |node: &Lnd, macaroon: &Path| {
        let output = with_node(&["doctor", "--data", data.to_str().unwrap()], node, macaroon).await;
        let name = macaroon.file_name().unwrap().to_string_lossy();
        say!("sluice doctor, with {name}: {}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines() {
            say!("  | {line}");
        }
        (output.status.success(), text)
    };
    let doctor = async |macaroon: &Path| doctor_of(node, macaroon).await;

    // No scenario before this one has the payer make an invoice, and only an invoice would tell its network.
    let new = &network.payer;
    assert_eq!(new.invoices().await.len(), 0);
    let (well, text) = doctor_of(new, &new.macaroon(Macaroon::Invoice)).await;
    assert!(well && text.contains("no invoice yet"), "{text}");
    assert_eq!(new.invoices().await.len(), 0, "it changes nothing");

    let (well, text) = doctor(&node.macaroon(Macaroon::Admin)).await;
    assert!(well && !text.contains("bakemacaroon"), "nothing is missing: {text}");
    let (well, text) = doctor(&node.macaroon(Macaroon::Readonly)).await;
    assert!(!well && text.contains("invoices:write"), "no invoice can be made: {text}");
    let (well, text) = doctor(&node.macaroon(Macaroon::Invoice)).await;
    assert!(well && text.contains("info:read"), "it suffices, but for what cannot be seen: {text}");

    // The command, as it is printed, and what it makes.
    let command = &text[text.find("lncli bakemacaroon").expect("how to mend it")..];
    let words = command.lines().next().unwrap().split_whitespace().skip(1);
    let folder = tempfile::tempdir().unwrap();
    let baked = Command::new(program("lncli"))
        .args(node.lncli_arguments())
        .args(words)
        .current_dir(&folder)
        .env_clear()
        .env("HOME", folder.path())
        .output()
        .await
        .unwrap();
    printed(&baked);
    say!("the command that it prints, run");
    let macaroon = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let (well, text) = doctor(&macaroon).await;
    assert!(well && !text.contains("bakemacaroon"), "nothing is missing: {text}");
    sluice.start_again().await;
    sluice.finish().await;
}

/// Runs a command of the binary that ends by itself, with the node.
async fn with_node(arguments: &[&str], node: &Lnd, macaroon: &Path) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(arguments)
        .args(node_options(node, macaroon))
        .env_clear()
        .kill_on_drop(true)
        .output();
    timeout(Duration::from_secs(60), command).await.expect("it ends by itself").unwrap()
}
