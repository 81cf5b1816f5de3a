//! How fast the gateway asks for payment, beside the invoices alone, in one run: with the embedded wallet, and with real
//! LND on loopback where `e2e/lightning/build` has built it. Then it counts what the challenges have left in the databases,
//! and runs `bench/gateway` with a real Aperture beside it where `bench/aperture/build` has built that.
//!
//! `cargo bench --package sluice --bench challenges` runs it. Everything it talks to it starts itself.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that goes wrong says so by panicking")]
#![expect(clippy::print_stdout, reason = "what was measured")]

macro_rules! say {
    ($($arguments:tt)*) => { println!("    {}", format_args!($($arguments)*)) };
}

mod aperture;
#[expect(dead_code, reason = "what the tests use of it")]
#[path = "../e2e/lightning/network/mod.rs"]
mod network;
#[expect(dead_code, reason = "what the tests use of it")]
#[path = "../e2e/lightning/shop.rs"]
mod shop;
#[expect(dead_code, reason = "what the tests use of it")]
#[path = "../e2e/support/mod.rs"]
mod support;

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sluice_common::secret::Secret;
use sluice_gateway::{
    db::GatewayDb,
    lightning::{InvoiceOrder, LightningNode, LndNode, TestWallet},
};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    network::{Macaroon, Network},
    support::Sluice,
};

/// How many challenges are asked for of each gateway, in all.
const CHALLENGES: usize = 10_000;

/// How many are asked for at once.
const AT_ONCE: [usize; 2] = [1, 50];

/// The machine's speed changes while this runs, and a node's with the number of its invoices: so the two sides take
/// turns.
const TURNS: usize = 10;

/// How many a side asks for in one turn.
const EACH_TURN: usize = CHALLENGES / AT_ONCE.len() / TURNS;

/// A turn of a second or two that takes longer than this hangs.
const TURN_TIMEOUT: Duration = Duration::from_secs(120);

/// So high that they never hold anything up.
const LIMITS: &str = "[gateway]\ninvoices_per_minute = 100000000\ninvoice_burst = 100000000\n\
    invoices_per_minute_per_client = 100000000\ninvoice_burst_per_client = 100000000\nmax_open_invoices = 100000000";

/// As it runs by default, and not at the trace level of the tests.
const OPTIONS: [&str; 2] = ["--log-level", "info"];

const EXPIRY: Duration = Duration::from_secs(3_600);

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        with_wallet().await;
        if network::program_path("lnd").exists() {
            with_lnd().await;
        } else {
            println!("\nno real LND: e2e/lightning/build builds it where Go is installed");
        }
    });
}

async fn with_wallet() {
    println!("the embedded wallet");
    let folder = tempfile::tempdir().unwrap();
    let db = GatewayDb::open(&folder.path().join("wallet.db")).await.unwrap();
    let wallet = Arc::new(TestWallet::new(&Secret::new([7; 32]), db));
    let sluice = Sluice::start_configured(Some(LIMITS), &OPTIONS).await;
    compare(sluice, "the wallet alone", wallet).await;
}

async fn with_lnd() {
    println!();
    let network = Network::start().await;
    // Before their first blocks the nodes make no invoices.
    network.open_channel().await;
    let sluice = shop::open(&network.seller, Macaroon::Admin, LIMITS, &OPTIONS).await;
    // The gateway's own client of LND: LND's interface with next to nothing around it. The one that the crate's `connect`
    // makes would let the gateway shine, for it leaves Nagle's algorithm on, which costs 40 ms a call.
    let node = LndNode::new(&shop::lnd_config(&network.seller)).unwrap();
    compare(sluice, "AddInvoice alone", Arc::new(node)).await;
    if network::program_path("aperture").exists() {
        aperture::compare(&network).await;
    } else {
        println!("\nno Aperture: bench/aperture/build builds it where Go is installed");
    }
}

/// Measures both, prints what came out, and looks into the databases.
async fn compare(mut sluice: Sluice, name: &str, alone: Arc<dyn LightningNode>) {
    // Every connection is made, and every page read, before the clock runs.
    let first = sluice.get("/largefile").send().await.unwrap();
    assert_eq!(first.status(), 402, "{}", sluice.log());
    let before = rows(&sluice.data()).await;
    let (gateway, alone) = (Subject::Gateway(sluice.address()), Subject::Node(alone));
    say!("{:<12} {:<17} {:>8} {:>8} {:>8} {:>8}", "", "", "each s", "p50 ms", "p90 ms", "p99 ms");
    for at_once in AT_ONCE {
        let (mut through, mut beside) = (Tally::default(), Tally::default());
        let (mut challenged, mut invoiced) = (gateway.callers(at_once).await, alone.callers(at_once).await);
        for turn in 0..TURNS {
            // Whoever goes first in one turn goes last in the next.
            if turn % 2 == 0 {
                challenged = through.turn(challenged).await;
            }
            invoiced = beside.turn(invoiced).await;
            if turn % 2 == 1 {
                challenged = through.turn(challenged).await;
            }
        }
        through.print(&format!("{at_once} at a time"), "402");
        beside.print("", name);
        say!("{:<12} {:<17} {:>8.2}", "", "402 beside it", through.per_second() / beside.per_second());
    }
    let after = rows(&sluice.data()).await;
    say!("rows in gateway.db and backend.db: {before} before, {after} after {CHALLENGES} unpaid challenges");
    assert_eq!(before, after, "an unpaid challenge is written down");
    sluice.stop().await;
}

/// Whom invoices come from.
enum Subject {
    Gateway(SocketAddr),
    Node(Arc<dyn LightningNode>),
}

/// One that asks for invoices, one after the other.
enum Caller {
    Gateway(BufReader<TcpStream>),
    Node(Arc<dyn LightningNode>),
}

impl Subject {
    async fn callers(&self, number: usize) -> Vec<Caller> {
        let mut callers = Vec::new();
        for _ in 0..number {
            callers.push(match self {
                Self::Gateway(address) => Caller::Gateway(BufReader::new(TcpStream::connect(address).await.unwrap())),
                Self::Node(node) => Caller::Node(Arc::clone(node)),
            });
        }
        callers
    }
}

impl Caller {
    async fn ask(&mut self) {
        match self {
            Self::Gateway(stream) => challenge(stream).await,
            Self::Node(node) => {
                // The memo is as long as the gateway's.
                let memo = format!("media {}", "0".repeat(64));
                node.create_invoice(&InvoiceOrder { amount_sat: 100, memo, expiry: EXPIRY }).await.unwrap();
            }
        }
    }
}

/// Asks for the price over a connection that is kept: by hand, so that the client takes little of the machine.
async fn challenge(stream: &mut BufReader<TcpStream>) {
    stream.write_all(b"GET /largefile HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let (mut status, mut line, mut length) = (String::new(), String::new(), 0);
    stream.read_line(&mut status).await.unwrap();
    while line != "\r\n" {
        line.clear();
        assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "closed in the middle of an answer");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    assert!(status.starts_with("HTTP/1.1 402 "), "{status}{}", String::from_utf8_lossy(&body));
}

/// What was measured of one side.
#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    elapsed: Duration,
}

impl Tally {
    /// One turn, of all callers at once.
    async fn turn(&mut self, callers: Vec<Caller>) -> Vec<Caller> {
        let each = EACH_TURN / callers.len();
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for mut caller in callers {
            tasks.spawn(async move {
                let mut latencies = Vec::with_capacity(each);
                for _ in 0..each {
                    let start = Instant::now();
                    caller.ask().await;
                    latencies.push(start.elapsed());
                }
                (caller, latencies)
            });
        }
        let done = timeout(TURN_TIMEOUT, tasks.join_all()).await.expect("a turn hangs");
        self.elapsed += start.elapsed();
        let (callers, latencies): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        self.latencies.extend(latencies.into_iter().flatten());
        callers
    }

    fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn print(&mut self, what: &str, name: &str) {
        self.latencies.sort();
        let at = |percent: usize| self.latencies[self.latencies.len() * percent / 100].as_secs_f64() * 1_000.0;
        let (middle, slow, slowest) = (at(50), at(90), at(99));
        say!("{what:<12} {name:<17} {:>8.0} {middle:>8.2} {slow:>8.2} {slowest:>8.2}", self.per_second());
    }
}

/// How many rows there are in all tables of the gateway's and the media server's databases.
async fn rows(data: &Path) -> i64 {
    let mut rows = 0;
    for name in ["gateway.db", "backend.db"] {
        let options = SqliteConnectOptions::new().filename(data.join(name));
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut database).await.unwrap();
        assert!(!tables.is_empty(), "{name} has no tables");
        for table in tables {
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM \"{table}\""));
            rows += sqlx::query_scalar::<_, i64>(count).fetch_one(&mut database).await.unwrap();
        }
        database.close().await.unwrap();
    }
    rows
}
