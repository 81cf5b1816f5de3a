//! Starts and stops the gateway: pingora in a thread of its own; and hands it over to a new process.

mod admin_app;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::Router;
use pingora::{
    apps::HttpServerOptions,
    listeners::tls::TlsSettings,
    proxy::{HttpProxy, http_proxy},
    server::{
        ExecutionPhase, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch,
        configuration::{Opt, ServerConf},
    },
    services::listening::Service,
};
use tokio::{
    net::TcpStream,
    sync::{broadcast, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use self::admin_app::AdminApp;
use crate::{
    config::{ConfigError, GatewayConfig, PaywallConfig, TlsConfig},
    connections::Connections,
    gate::{Gate, GateError},
    ledger::{BookKeeper, LedgerDb},
    lightning::LightningNode,
    metrics::Metrics,
    proxy::{Proxy, Serving},
    tls::ServerCertificate,
    upstream::Upstream,
};

/// How long pingora may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a process that takes over waits for the listeners; pingora waits for 6 s of these, and then ends the process.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long nothing must be under way before a process ends.
const SETTLED: Duration = Duration::from_millis(500);

/// Once pingora has handed over, it waits for so long whatever happens, and then cuts off what is under way. We end the
/// process when nothing is.
const LONGEST_HAND_OVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// The longest path that a socket can have.
const MAX_SOCKET_PATH: usize = 107;

/// What there is beside the proxy.
#[derive(Default)]
pub struct Beside {
    /// What is served on the admin address; none: nothing.
    pub admin: Option<Router>,
    /// How this process takes over from another one, and another from it; none: neither.
    pub upgrade: Option<Upgrade>,
}

/// How listeners go from one process to the next.
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// Through which socket; its folder must be nobody else's.
    pub socket: PathBuf,
    /// Whether this process gets its listeners so. It waits for them for a few seconds, and ends if none come.
    pub takes_over: bool,
}

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
    /// A socket that cannot be made.
    #[error("{}: longer than the path of a socket can be, {MAX_SOCKET_PATH} bytes", .0.display())]
    Socket(PathBuf),
    /// Nobody handed the listeners over.
    #[error("no running gateway has handed over its listeners")]
    NotHandedOver,
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
    tls_address: Option<SocketAddr>,
    serving: Arc<ArcSwap<Serving>>,
    /// How many services were started since the first configuration.
    services: AtomicUsize,
    certificate: Option<Certificate>,
    stopping: Arc<AtomicBool>,
    running: watch::Receiver<usize>,
    order: watch::Sender<Order>,
    phases: broadcast::Receiver<ExecutionPhase>,
    thread: thread::JoinHandle<()>,
    book_keeper: BookKeeper,
    shutdown_timeout: Duration,
}

/// What the proxy is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    HandOver,
    Stop,
}

/// A certificate, and what looks whether its files change; that ends with it.
struct Certificate {
    shown: Arc<ServerCertificate>,
    watch: JoinHandle<()>,
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Gateway {
    /// Starts the proxy, paid through `node`, and the booking of what is paid in `ledger`; it counts in `metrics`. When it
    /// returns, clients can connect, here if it takes over from another process. The node need not be there yet.
    pub async fn start(
        config: GatewayConfig,
        node: Arc<dyn LightningNode>,
        ledger: Arc<dyn LedgerDb>,
        metrics: Arc<Metrics>,
        beside: Beside,
    ) -> Result<Self, StartError> {
        config.check()?;
        let (address, tls) = (config.listen, config.tls.clone());
        let tls_address = tls.as_ref().map(|tls| tls.listen);
        let takes_over = beside.upgrade.as_ref().is_some_and(|upgrade| upgrade.takes_over);
        let admin = beside.admin.map(|router| (config.admin_listen, router));
        let admin_address = admin.as_ref().map(|(address, _)| *address);
        // Pingora panics on an address that is taken; better to find out here, and to say so.
        for address in [Some(address), tls_address, admin_address].into_iter().flatten().filter(|_| !takes_over) {
            drop(TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })?);
        }
        let server = server(beside.upgrade)?;
        let (https_port, shutdown_timeout) = (config.https_port, config.shutdown_timeout);
        let services = AtomicUsize::new(0);
        let (paywall, upstreams) = start_upstreams(config, &services).await?;
        let keepalive = paywall.limits.slow.keepalive;
        let (gate, book_keeper) = Gate::start(paywall, node, ledger, Arc::clone(&metrics))?;
        let serving = Arc::new(ArcSwap::from_pointee(Serving { gate, upstreams, https_port }));
        let stopping = Arc::new(AtomicBool::new(false));
        let proxy = Proxy::new(Arc::clone(&serving), stopping.clone());
        let running = proxy.running();
        let (order, ordered) = watch::channel(Order::Run);
        let mut phases = server.watch_execution_phase();
        let certificate = tls.as_ref().map(|tls| Certificate {
            shown: Arc::clone(&tls.certificate),
            watch: Arc::clone(&tls.certificate).watch(),
        });
        let thread = thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || {
                let app = app(&server, proxy, keepalive, metrics);
                run(server, app, address, tls, admin, ordered);
            })
            .map_err(StartError::Thread)?;
        let gateway = Self {
            address,
            tls_address,
            serving,
            services,
            certificate,
            stopping,
            running,
            order,
            phases: phases.resubscribe(),
            thread,
            book_keeper,
            shutdown_timeout,
        };
        let taken = reached(&mut phases, |phase| matches!(phase, ExecutionPhase::BootstrapComplete));
        if !timeout(TAKE_OVER_TIMEOUT, taken).await.is_ok_and(|taken| taken) {
            return Err(StartError::NotHandedOver);
        }
        gateway.listens().await?;
        Ok(gateway)
    }

    /// Hands the listeners over to the process that waits for them. When it returns, this one takes no connection any more,
    /// and goes on with what is under way. Nobody may be waiting: then nobody listens from then on.
    pub async fn hand_over(&self) {
        let mut phases = self.phases.resubscribe();
        self.order.send_replace(Order::HandOver);
        reached(&mut phases, |phase| matches!(phase, ExecutionPhase::ShutdownGracePeriod)).await;
    }

    /// Waits until nothing is under way any more, however long that takes.
    pub async fn drained(&self) {
        let mut running = self.running.clone();
        // Its sender is the proxy's: while that is there, so is this.
        while running.wait_for(|running| *running == 0).await.is_ok() {
            sleep(SETTLED).await;
            if *running.borrow() == 0 {
                return;
            }
        }
    }

    /// Serves the requests that begin from now on by another configuration; those under way go on as they began. Addresses,
    /// network, node and ledger stay as they are, whatever `config` says of them. Nothing changes if it fails.
    pub async fn reload(&self, config: GatewayConfig) -> Result<(), StartError> {
        config.check()?;
        let https_port = config.https_port;
        let (paywall, upstreams) = start_upstreams(config, &self.services).await?;
        let gate = self.serving.load().gate.with_config(paywall)?;
        self.serving.store(Arc::new(Serving { gate, upstreams, https_port }));
        if let Some(certificate) = &self.certificate {
            certificate.shown.reload();
        }
        Ok(())
    }

    /// Waits until connections are taken.
    async fn listens(&self) -> Result<(), StartError> {
        let deadline = Instant::now() + START_TIMEOUT;
        for address in [Some(self.address), self.tls_address].into_iter().flatten() {
            while TcpStream::connect(address).await.is_err() {
                if Instant::now() > deadline || self.thread.is_finished() {
                    return Err(StartError::Timeout(address));
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// Where clients come.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where they come by TLS.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Whether the proxy has ended, which it does only when told to, or when it fails.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Sends new requests away, waits for those under way as long as configured, and stops. What has handed over is left to
    /// the end of the process.
    pub async fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        // With the pause: of HTTP/2, what is answered may not be written yet.
        let _ = timeout(self.shutdown_timeout, self.drained()).await;
        let requests = *self.running.borrow();
        if requests > 0 {
            tracing::warn!(requests, "stopping with requests under way");
        }
        let has_handed_over = *self.order.borrow() == Order::HandOver;
        self.order.send_replace(Order::Stop);
        let thread = self.thread;
        if !has_handed_over
            && tokio::task::spawn_blocking(move || thread.join()).await.is_ok_and(|ended| ended.is_err())
        {
            tracing::error!("the proxy's thread panicked");
        }
        self.book_keeper.stop().await;
    }
}

/// Starts what is behind each service, counting them in `services`; and what the paywall is told.
async fn start_upstreams(
    config: GatewayConfig,
    services: &AtomicUsize,
) -> Result<(PaywallConfig, Vec<Upstream>), StartError> {
    let (mut offers, mut upstreams) = (Vec::new(), Vec::new());
    for service in config.services {
        // Connections that were made under another configuration are none of this one's.
        let upstream = Upstream::start(service.upstream, services.fetch_add(1, Ordering::Relaxed)).await;
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
    Ok((paywall, upstreams))
}

/// Waits for a phase. False: it never comes.
async fn reached(phases: &mut broadcast::Receiver<ExecutionPhase>, is_it: fn(&ExecutionPhase) -> bool) -> bool {
    loop {
        match phases.recv().await {
            Ok(phase) if is_it(&phase) => return true,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return false,
        }
    }
}

/// Ends pingora when it is told to. Before it stops, requests under way were waited for already.
struct Ordered(watch::Receiver<Order>);

#[async_trait]
impl ShutdownSignalWatch for Ordered {
    async fn recv(&self) -> ShutdownSignal {
        // A sender that is gone means stop, too.
        match self.0.clone().wait_for(|order| *order != Order::Run).await.map(|order| *order) {
            Ok(Order::HandOver) => ShutdownSignal::GracefulUpgrade,
            _ => ShutdownSignal::FastShutdown,
        }
    }
}

fn server(upgrade: Option<Upgrade>) -> Result<Server, StartError> {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let mut conf = ServerConf { threads, ..ServerConf::default() };
    let mut opt = Opt::default();
    if let Some(Upgrade { socket, takes_over }) = upgrade {
        let path = socket.to_str().filter(|path| path.len() <= MAX_SOCKET_PATH).map(str::to_owned);
        conf.upgrade_sock = path.ok_or(StartError::Socket(socket))?;
        conf.grace_period_seconds = Some(LONGEST_HAND_OVER.as_secs());
        opt.upgrade = takes_over;
    }
    Ok(Server::new_with_opt_and_conf(opt, conf))
}

fn app(server: &Server, proxy: Proxy, keepalive: Duration, metrics: Arc<Metrics>) -> Connections<HttpProxy<Proxy>> {
    let serving = proxy.serving();
    let mut app = http_proxy(&server.configuration, proxy);
    app.server_options = Some(server_options(keepalive));
    app.h2_options = Some(h2_options());
    Connections::new(app, serving, metrics)
}

fn run(
    mut server: Server,
    app: Connections<HttpProxy<Proxy>>,
    address: SocketAddr,
    tls: Option<TlsConfig>,
    admin: Option<(SocketAddr, Router)>,
    ordered: watch::Receiver<Order>,
) {
    server.bootstrap();
    if let Some(tls) = tls {
        // It reads no files here: they come from the resolver.
        if let Ok(mut settings) = TlsSettings::intermediate("", "") {
            settings.set_cert_resolver(tls.certificate);
            settings.enable_h2();
            let mut service = Service::new("gateway by TLS".to_owned(), app.by_tls(settings.build()));
            service.add_tcp(&tls.listen.to_string());
            server.add_service(service);
        }
    }
    let mut service = Service::new("gateway".to_owned(), app);
    service.add_tcp(&address.to_string());
    server.add_service(service);
    if let Some((address, router)) = admin {
        let mut service = Service::new("admin".to_owned(), AdminApp(router));
        service.threads = Some(1);
        service.add_tcp(&address.to_string());
        server.add_service(service);
    }
    server.run(RunArgs { shutdown_signal: Box::new(Ordered(ordered)) });
}

fn server_options(keepalive: Duration) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(keepalive);
    options
}

/// The default window of 64 KiB would bound an upload to about 1.3 MB/s at 50 ms.
fn h2_options() -> pingora::protocols::http::v2::server::H2Options {
    let mut options = pingora::protocols::http::v2::server::H2Options::default();
    options.initial_window_size(1 << 20).initial_connection_window_size(4 << 20).max_concurrent_streams(256);
    options
}
