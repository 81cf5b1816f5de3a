//! Starts and stops the gateway: pingora in a thread of its own, the admin address beside it.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use pingora::{
    apps::HttpServerOptions,
    proxy::http_proxy,
    server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, configuration::ServerConf},
    services::listening::Service,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    config::{ConfigError, GatewayConfig, PaywallConfig},
    gate::{Gate, GateError},
    ledger::{BookKeeper, LedgerDb},
    lightning::LightningNode,
    metrics::Metrics,
    proxy::Proxy,
    upstream::Upstream,
};

/// How long pingora may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The paywall.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The servers behind a service.
    #[error("service `{service}`: {source}")]
    Upstream {
        /// The service.
        service: String,
        /// Why not.
        source: Box<pingora::Error>,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The thread of the proxy.
    #[error("the proxy did not start: {0}")]
    Thread(std::io::Error),
    /// The proxy took too long.
    #[error("the proxy did not listen on {0} in time")]
    Timeout(SocketAddr),
}

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    running: watch::Receiver<usize>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    book_keeper: BookKeeper,
    shutdown_timeout: Duration,
}

impl Gateway {
    /// Starts the proxy, paid through `node`, and the booking of what is paid in `ledger`; it counts in `metrics`. When it
    /// returns, clients can connect. The node need not be there yet.
    pub async fn start(
        config: GatewayConfig,
        node: Arc<dyn LightningNode>,
        ledger: Arc<dyn LedgerDb>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        config.check()?;
        let address = config.listen;
        // Pingora panics on an address that is taken; better to find out here, and to say so.
        drop(TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })?);

        let (mut offers, mut upstreams) = (Vec::new(), Vec::new());
        for (index, service) in config.services.into_iter().enumerate() {
            let upstream = Upstream::start(service.upstream, index).await;
            let name = || service.offer.terms.name.clone();
            upstreams.push(upstream.map_err(|source| StartError::Upstream { service: name(), source })?);
            offers.push(service.offer);
        }
        let paywall = PaywallConfig {
            offers,
            master_keys: config.master_keys,
            network: config.network,
            invoice_expiry: config.invoice_expiry,
            invoice_limits: config.invoice_limits,
            limits: config.limits,
            settlement: config.settlement,
        };
        let (gate, book_keeper) = Gate::start(paywall, node, ledger, metrics)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let proxy = Proxy::new(gate, upstreams, stopping.clone());
        let running = proxy.running();
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || run(proxy, address, stopped))
            .map_err(StartError::Thread)?;
        let shutdown_timeout = config.shutdown_timeout;
        let gateway = Self { address, stopping, running, stop, thread, book_keeper, shutdown_timeout };
        gateway.listens().await?;
        Ok(gateway)
    }

    /// Waits until a connection is taken.
    async fn listens(&self) -> Result<(), StartError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.address).await.is_err() {
            if Instant::now() > deadline || self.thread.is_finished() {
                return Err(StartError::Timeout(self.address));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Where clients come.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the proxy has ended, which it does only when told to, or when it fails.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Sends new requests away, waits for those under way as long as configured, and stops.
    pub async fn stop(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if timeout(self.shutdown_timeout, self.running.wait_for(|running| *running == 0)).await.is_err() {
            tracing::warn!(requests = *self.running.borrow(), "stopping with requests under way");
        }
        self.stop.send_replace(true);
        let thread = self.thread;
        if tokio::task::spawn_blocking(move || thread.join()).await.is_ok_and(|ended| ended.is_err()) {
            tracing::error!("the proxy's thread panicked");
        }
        self.book_keeper.stop().await;
    }
}

/// Ends pingora when it is told to: requests under way were waited for already.
struct Stopped(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Stopped {
    async fn recv(&self) -> ShutdownSignal {
        // A sender that is gone means stop, too.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
        ShutdownSignal::FastShutdown
    }
}

fn run(proxy: Proxy, address: SocketAddr, stopped: watch::Receiver<bool>) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let conf = ServerConf { threads, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut app = http_proxy(&server.configuration, proxy);
    app.server_options = Some(server_options());
    app.h2_options = Some(h2_options());
    let mut service = Service::new("gateway".to_owned(), app);
    service.add_tcp(&address.to_string());
    server.add_service(service);
    server.run(RunArgs { shutdown_signal: Box::new(Stopped(stopped)) });
}

fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options
}

/// The default window of 64 KiB would bound an upload to about 1.3 MB/s at 50 ms.
fn h2_options() -> pingora::protocols::http::v2::server::H2Options {
    let mut options = pingora::protocols::http::v2::server::H2Options::default();
    options.initial_window_size(1 << 20).initial_connection_window_size(4 << 20).max_concurrent_streams(256);
    options
}
