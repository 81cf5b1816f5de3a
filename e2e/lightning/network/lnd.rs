//! A real LND node, driven over its REST interface.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sluice_common::{l402::Preimage, lightning_message::SIGNATURE_LEN};
use tokio::time::timeout;

use super::{Process, btcd::Btcd, free_port, trusting_client};
use crate::support::{eventually, eventually_within};

/// A second each; one or two do.
const MAX_BLOCKS: u32 = 30;

/// What opens a node, and how much of it.
#[derive(Clone, Copy)]
pub enum Macaroon {
    /// All rights.
    Admin,
    /// Invoices and nothing else, as LND makes it at its first start.
    Invoice,
    /// All that changes nothing, as LND makes it at its first start.
    Readonly,
}

/// A node, running or not.
pub struct Lnd {
    name: &'static str,
    folder: PathBuf,
    listen: u16,
    rpc: u16,
    rest: u16,
    backend: Vec<String>,
    process: Option<Process>,
    client: Client,
}

impl Lnd {
    /// A node that is not running yet.
    pub fn new(name: &'static str, folder: &Path, btcd: &Btcd) -> Self {
        Self {
            name,
            folder: folder.join(name),
            listen: free_port(),
            rpc: free_port(),
            rest: free_port(),
            backend: btcd.lnd_arguments(),
            process: None,
            client: trusting_client(),
        }
    }

    /// Starts it, on the same ports and files each time, and waits until it answers.
    pub async fn start(&mut self) {
        assert!(self.process.is_none(), "still running");
        let mut arguments = vec![
            format!("--lnddir={}", self.folder.display()),
            format!("--alias={}", self.name),
            "--noseedbackup".to_owned(),
            "--nobootstrap".to_owned(),
            "--bitcoin.simnet".to_owned(),
            "--bitcoin.defaultchanconfs=1".to_owned(),
            "--gc-canceled-invoices-on-the-fly".to_owned(),
            format!("--listen=127.0.0.1:{}", self.listen),
            format!("--rpclisten=127.0.0.1:{}", self.rpc),
            format!("--restlisten=127.0.0.1:{}", self.rest),
        ];
        arguments.extend_from_slice(&self.backend);
        self.process = Some(Process::start("lnd", &arguments, &self.folder));
        eventually_within(Duration::from_secs(60), "LND answers", &mut async || self.info().await.ok()).await;
    }

    /// Ends it as a service manager does.
    pub async fn stop(&mut self) {
        self.process.take().expect("running").stop().await;
    }

    /// Has it stand still, or go on.
    pub async fn set_paused(&self, paused: bool) {
        let process = self.process.as_ref().expect("running");
        if paused { process.pause().await } else { process.resume().await }
    }

    /// Where its gRPC interface listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.rpc)
    }

    /// The certificate that it made for itself.
    pub fn tls_cert(&self) -> PathBuf {
        self.folder.join("tls.cert")
    }

    /// The file of a macaroon.
    pub fn macaroon(&self, macaroon: Macaroon) -> PathBuf {
        let name = match macaroon {
            Macaroon::Admin => "admin.macaroon",
            Macaroon::Invoice => "invoice.macaroon",
            Macaroon::Readonly => "readonly.macaroon",
        };
        self.folder.join("data/chain/bitcoin/simnet").join(name)
    }

    /// What `lncli` needs to reach it.
    pub fn lncli_arguments(&self) -> Vec<String> {
        vec![
            format!("--lnddir={}", self.folder.display()),
            format!("--rpcserver={}", self.address()),
            "--network=simnet".to_owned(),
        ]
    }

    async fn info(&self) -> Result<Value, String> {
        self.call(Method::GET, "/v1/getinfo", None).await
    }

    /// Its version, name and key, for people.
    pub async fn description(&self) -> String {
        let info = self.info().await.unwrap();
        let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
        format!("lnd {}: {} {}", text("version"), text("alias"), text("identity_pubkey"))
    }

    /// Its public key, in hex.
    pub async fn pubkey(&self) -> String {
        self.info().await.unwrap()["identity_pubkey"].as_str().unwrap().to_owned()
    }

    /// Waits until it has seen all blocks.
    pub async fn wait_until_synced(&self) {
        eventually("LND is synced", async || self.info().await.ok()?["synced_to_chain"].as_bool()?.then_some(())).await;
    }

    /// An address of its wallet.
    pub async fn new_address(&self) -> String {
        let made = self.call(Method::GET, "/v1/newaddress?type=WITNESS_PUBKEY_HASH", None).await.unwrap();
        made["address"].as_str().unwrap().to_owned()
    }

    /// Opens one more channel to `peer` with all of `sat` on this side; of a private one only the two know.
    pub async fn open_channel(&self, peer: &Lnd, sat: u64, private: bool, btcd: &Btcd) {
        self.connect(peer).await;
        let channels = self.active_channels().await + 1;
        let order = json!({
            "node_pubkey": STANDARD.encode(hex::decode(peer.pubkey().await).unwrap()),
            "local_funding_amount": sat.to_string(),
            "private": private,
        });
        // Its wallet may not have counted the new coins yet.
        let open = async || self.call(Method::POST, "/v1/channels", Some(order.clone())).await.ok();
        eventually("a channel is opened", open).await;
        // Blocks that are made all at once can miss the transaction; and their times run ahead of the clock.
        for _ in 0..MAX_BLOCKS {
            btcd.mine(1).await;
            if timeout(Duration::from_secs(1), self.wait_until_active(peer, channels)).await.is_ok() {
                return;
            }
        }
        panic!("the channel is not active after {MAX_BLOCKS} blocks");
    }

    async fn connect(&self, peer: &Lnd) {
        let address = json!({ "pubkey": peer.pubkey().await, "host": format!("127.0.0.1:{}", peer.listen) });
        let connect = json!({ "addr": address, "perm": true });
        // A node answers before it takes peers.
        eventually("the nodes are connected", async || {
            match self.call(Method::POST, "/v1/peers", Some(connect.clone())).await {
                Err(error) if !error.contains("already connected") => None,
                _ => Some(()),
            }
        })
        .await;
    }

    async fn active_channels(&self) -> usize {
        let channels = self.call(Method::GET, "/v1/channels?active_only=true", None).await.unwrap_or_default();
        channels["channels"].as_array().map_or(0, Vec::len)
    }

    /// Waits until the channel with `peer` works again, after one of them was away.
    pub async fn wait_for_channel(&self, peer: &Lnd) {
        self.connect(peer).await;
        self.wait_until_active(peer, 1).await;
    }

    async fn wait_until_active(&self, peer: &Lnd, channels: usize) {
        eventually("the channel is active", async || {
            (self.active_channels().await >= channels && peer.active_channels().await >= channels).then_some(())
        })
        .await;
        // A moment passes until its router knows of the channel.
        let invoice = peer.invoice(1, "whether the channel works").await;
        eventually("the channel carries payments", async || self.pay(&invoice).await.ok()).await;
    }

    /// Pays an invoice; an error is LND's reason why not.
    pub async fn pay(&self, bolt11: &str) -> Result<Preimage, String> {
        let order = json!({
            "payment_request": bolt11,
            "timeout_seconds": 20,
            "fee_limit_sat": "10",
            "no_inflight_updates": true,
        });
        let payment = self.call(Method::POST, "/v2/router/send", Some(order)).await?["result"].take();
        let text = |key: &str| payment[key].as_str().unwrap_or_default();
        match text("status") {
            "SUCCEEDED" => Ok(text("payment_preimage").parse().unwrap()),
            _ => Err(text("failure_reason").to_owned()),
        }
    }

    /// Makes an invoice that is no business of Sluice's.
    pub async fn invoice(&self, sat: u64, memo: &str) -> String {
        let order = json!({ "value": sat.to_string(), "memo": memo });
        let made = self.call(Method::POST, "/v1/invoices", Some(order)).await.unwrap();
        made["payment_request"].as_str().unwrap().to_owned()
    }

    /// Whether an invoice of its own can hint at a private channel.
    pub async fn can_hint(&self) -> bool {
        let order = json!({ "value": "1", "private": true });
        let made = self.call(Method::POST, "/v1/invoices", Some(order)).await.unwrap();
        let bolt11 = made["payment_request"].as_str().unwrap();
        let read = self.call(Method::GET, &format!("/v1/payreq/{bolt11}"), None).await.unwrap();
        read["route_hints"].as_array().is_some_and(|hints| !hints.is_empty())
    }

    /// What the node alone knows of an invoice before it is paid.
    pub async fn preimage(&self, payment_hash: &str) -> Preimage {
        let invoice = self.call(Method::GET, &format!("/v1/invoice/{payment_hash}"), None).await.unwrap();
        let preimage = STANDARD.decode(invoice["r_preimage"].as_str().unwrap()).unwrap();
        hex::encode(preimage).parse().unwrap()
    }

    /// How many invoices the node keeps that can, or could, be paid for so long.
    pub async fn invoice_count(&self, expiry_secs: u64) -> usize {
        let expiry_secs = expiry_secs.to_string();
        self.invoices().await.iter().filter(|invoice| invoice["expiry"] == *expiry_secs).count()
    }

    /// All invoices that the node keeps.
    pub async fn invoices(&self) -> Vec<Value> {
        let mut list = self.call(Method::GET, "/v1/invoices?num_max_invoices=10000", None).await.unwrap();
        serde_json::from_value(list["invoices"].take()).unwrap()
    }

    /// Its signature of a message: what `lncli signmessage` prints as zbase32, as bytes.
    pub async fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let order = json!({ "msg": STANDARD.encode(message) });
        let signed = self.call(Method::POST, "/v1/signmessage", Some(order)).await.unwrap();
        zbase32(signed["signature"].as_str().unwrap()).try_into().expect("65 bytes")
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let macaroon = hex::encode(std::fs::read(self.macaroon(Macaroon::Admin)).map_err(|error| error.to_string())?);
        let url = format!("https://127.0.0.1:{}{path}", self.rest);
        let mut request = self.client.request(method, url).header("grpc-metadata-macaroon", macaroon);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let reply = request.send().await.map_err(|error| error.to_string())?;
        let status = reply.status();
        let answer: Value = reply.json().await.map_err(|error| error.to_string())?;
        match &answer["error"] {
            Value::Null if status.is_success() => Ok(answer),
            Value::Null => Err(answer["message"].as_str().unwrap_or_default().to_owned()),
            error => Err(error["message"].as_str().unwrap_or_default().to_owned()),
        }
    }
}

/// The bytes of zbase32, as LND writes signatures: 5 bits a character, the last ones filled up with zeros.
/// <https://philzimmermann.com/docs/human-oriented-base-32-encoding.txt>
fn zbase32(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    for character in text.bytes() {
        let value = ALPHABET.iter().position(|&known| known == character).expect("zbase32");
        held = (held << 5 | u32::try_from(value).unwrap()) & 0xffff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    bytes
}
