//! A Lightning network on loopback: btcd on simnet, LND that sells, LND that pays, a channel between them.

mod btcd;
mod lnd;
mod process;

use std::{path::PathBuf, time::Instant};

use reqwest::Client;
use tempfile::TempDir;

use self::btcd::Btcd;
pub use self::{
    lnd::{Lnd, Macaroon},
    process::Process,
};
use crate::support::eventually;

/// What the payer puts into the channel. More than this nobody can pay.
pub const CHANNEL_SAT: u64 = 10_000_000;

/// A chain that is short for simnet knows no segwit, which channels need: 300 blocks activate it.
const FIRST_BLOCKS: u32 = 400;

/// So many blocks on, a channel is announced to the network (BOLT 7).
const ANNOUNCED_AFTER: u32 = 6;

/// All of it. Dropped, every process ends and every file goes.
pub struct Network {
    /// Takes the payments.
    pub seller: Lnd,
    /// Makes them.
    pub payer: Lnd,
    btcd: Btcd,
    _folder: TempDir,
}

impl Network {
    /// Starts the nodes. Their chain has one block, which is years old: they wait for more.
    pub async fn start() -> Self {
        let start = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let mut btcd = Btcd::start(folder.path()).await;
        let node = |name| Lnd::new(name, folder.path(), &btcd);
        let (mut seller, mut payer) = (node("seller"), node("payer"));
        tokio::join!(seller.start(), payer.start());
        btcd.mine_for(&payer.new_address().await).await;
        println!("btcd and two LND nodes on simnet, all on loopback, up in {:.1} s", start.elapsed().as_secs_f64());
        for node in [&seller, &payer] {
            say!("{}", node.description().await);
        }
        Self { seller, payer, btcd, _folder: folder }
    }

    /// Makes blocks, with which the nodes are synced and the payer has money, and opens the channel.
    pub async fn open_channel(&self) {
        self.btcd.mine(FIRST_BLOCKS).await;
        tokio::join!(self.seller.wait_until_synced(), self.payer.wait_until_synced());
        self.payer.open_channel(&self.seller, CHANNEL_SAT, false, &self.btcd).await;
        say!("a channel of {CHANNEL_SAT} sat from the payer to the seller");
    }

    /// Opens another channel of the same size, which the network is not told of. Invoices can hint at it from then on.
    pub async fn open_private_channel(&self) {
        // LND hints at channels with nodes alone that the network knows, by a public channel.
        self.btcd.mine(ANNOUNCED_AFTER).await;
        self.payer.open_channel(&self.seller, CHANNEL_SAT, true, &self.btcd).await;
        eventually("the seller can hint at it", async || self.seller.can_hint().await.then_some(())).await;
        say!("a private one beside it");
    }
}

/// Where a program is that `e2e/lightning/build` builds.
pub fn program_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("lightning").join("bin").join(name)
}

/// A program that `e2e/lightning/build` built.
pub fn program(name: &str) -> PathBuf {
    let path = program_path(name);
    assert!(path.exists(), "{} is missing: `make test-lnd` builds it", path.display());
    path
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    sluice_testing::free_address().port()
}

/// A client that takes the certificates that nodes sign themselves, as is right for a test on loopback alone.
fn trusting_client() -> Client {
    Client::builder().no_proxy().danger_accept_invalid_certs(true).build().unwrap()
}
