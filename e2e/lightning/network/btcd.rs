//! A bitcoin chain of our own.

use std::path::{Path, PathBuf};

use reqwest::Client;
use serde_json::{Value, json};

use super::{Process, free_port, trusting_client};
use crate::support::eventually;

const USER: &str = "sluice";
const PASSWORD: &str = "only-on-loopback";

/// btcd on simnet: blocks are made when they are asked for.
pub struct Btcd {
    folder: PathBuf,
    listen: u16,
    rpc: u16,
    process: Option<Process>,
    client: Client,
}

impl Btcd {
    /// Starts it, with nothing but the first block.
    pub async fn start(folder: &Path) -> Self {
        let folder = folder.join("btcd");
        let mut btcd = Self { folder, listen: free_port(), rpc: free_port(), process: None, client: trusting_client() };
        btcd.run(&[]).await;
        btcd
    }

    async fn run(&mut self, more: &[String]) {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut arguments = vec![
            "--simnet".to_owned(),
            "--nodnsseed".to_owned(),
            "--txindex".to_owned(),
            // Of its default file it would make one in the user's home.
            format!("--configfile={}", path("btcd.conf")),
            format!("--datadir={}", path("data")),
            format!("--logdir={}", path("logs")),
            format!("--rpccert={}", path("rpc.cert")),
            format!("--rpckey={}", path("rpc.key")),
            format!("--rpcuser={USER}"),
            format!("--rpcpass={PASSWORD}"),
            format!("--listen=127.0.0.1:{}", self.listen),
            format!("--rpclisten=127.0.0.1:{}", self.rpc),
        ];
        arguments.extend_from_slice(more);
        std::fs::create_dir_all(&self.folder).unwrap();
        std::fs::write(self.folder.join("btcd.conf"), "").unwrap();
        self.process = Some(Process::start("btcd", &arguments, &self.folder));
        eventually("btcd answers", async || self.call("getblockcount", json!([])).await.ok()).await;
    }

    /// From now on blocks pay this address. btcd takes that at its start only.
    pub async fn mine_for(&mut self, address: &str) {
        self.process.take().expect("running").stop().await;
        self.run(&[format!("--miningaddr={address}")]).await;
    }

    /// Makes blocks.
    pub async fn mine(&self, blocks: u32) {
        self.call("generate", json!([blocks])).await.unwrap();
    }

    async fn call(&self, method: &str, parameters: Value) -> Result<Value, String> {
        let request = json!({ "jsonrpc": "1.0", "id": 1, "method": method, "params": parameters });
        let url = format!("https://127.0.0.1:{}", self.rpc);
        let sent = self.client.post(url).basic_auth(USER, Some(PASSWORD)).json(&request).send().await;
        let reply: Value = sent.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
        if reply["error"].is_null() { Ok(reply["result"].clone()) } else { Err(reply["error"].to_string()) }
    }

    /// How LND reaches it.
    pub fn lnd_arguments(&self) -> Vec<String> {
        vec![
            "--bitcoin.node=btcd".to_owned(),
            format!("--btcd.rpchost=127.0.0.1:{}", self.rpc),
            format!("--btcd.rpccert={}", self.folder.join("rpc.cert").display()),
            format!("--btcd.rpcuser={USER}"),
            format!("--btcd.rpcpass={PASSWORD}"),
        ]
    }
}
