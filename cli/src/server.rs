//! Runs the servers: everything in one process, or one part.

mod parts;
mod plan;
mod reload;

use std::{
    future::pending,
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use sluice_backend::{auth::EmptyJwtKey, config::DatabaseConfig, server::StartError as BackendError};
use sluice_gateway::{
    admin::api::Api,
    ledger::key_use::{self, KeyUseError},
    lightning::{LightningNode, NodeWatch, TestWallet},
    metrics::Metrics,
    server::{Beside, Gateway, StartError as GatewayError},
    tls::CertificateError,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::interval,
};

pub(crate) use self::plan::{backend_config, s3_config};
use self::{
    parts::{AdminServer, BackendServer},
    plan::{GatewayPlan, Payee, Plan},
    reload::Started,
};
use crate::{
    config::{ConfigError, Invalid, Parts, Settings},
    data_dir::{DataDir, DataDirError},
    databases::{self, DatabaseError, Databases},
    keys::{self, KeyError, admin_token},
    lightning::{self, NodeError},
};

/// How often it is looked whether every part still runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the servers do not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] Invalid),
    /// The settings, read again.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The TLS certificate.
    #[error("[gateway] tls_certificate, tls_key: {0}")]
    Certificate(#[from] CertificateError),
    /// The data folder.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key for logins.
    #[error(transparent)]
    JwtKey(#[from] EmptyJwtKey),
    /// The Lightning node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Addresses that cannot be listened on.
    #[error("cannot listen on {}", .0.join(", nor on "))]
    Addresses(Vec<String>),
    /// A database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A key that the gateway was used with is missing.
    #[error("the gateway does not start: {0}")]
    GatewayKeys(#[from] KeyUseError),
    /// The gateway.
    #[error("the gateway does not start: {0}")]
    Gateway(#[from] GatewayError),
    /// The media server.
    #[error("the media server does not start: {0}")]
    Backend(#[from] BackendError),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// A part stopped without being told to.
    #[error("{0} has stopped by itself")]
    Ended(&'static str),
    /// Told to stop at once.
    #[error("told to stop twice: stopping without waiting for what is under way")]
    Hurried,
}

/// How a process begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// By itself.
    Anew,
    /// With the listeners of the gateway that runs.
    Upgrade,
}

/// Reads the settings again.
pub type Reread<'a> = &'a dyn Fn() -> Result<Settings, ConfigError>;

/// Runs `parts` until the process is told to stop (SIGINT, SIGTERM). A first start of all parts makes the keys it needs.
/// Prints where each part listens, and a line `ready` when all of them serve. On SIGHUP it goes on with what `reread`
/// gives. On SIGQUIT a gateway hands over to a process that begins with an [`Begin::Upgrade`], and ends when nothing is under way.
pub async fn run(settings: Settings, parts: Parts, begin: Begin, reread: Reread<'_>) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let mut told = Told {
        hang_up: signal(SignalKind::hangup()).map_err(RunError::Signals)?,
        // Where there is nothing to hand over, it ends the process as ever.
        quit: (parts == Parts::Gateway).then(|| signal(SignalKind::quit())).transpose().map_err(RunError::Signals)?,
    };
    let data_dir = match begin {
        Begin::Anew => DataDir::take(&settings.data_dir, parts)?,
        Begin::Upgrade => DataDir::take_over(&settings.data_dir)?,
    };
    if begin == Begin::Anew {
        check_addresses(&settings, parts)?;
    }
    if parts == Parts::All {
        for path in keys::make_missing(&settings)? {
            tracing::info!(path = %path.display(), "made a new key");
        }
    }
    let found = tokio::select! {
        found = lightning::find(&settings, parts) => found?,
        () = signals.next() => return Ok(()),
    };
    let plan = Plan::new(settings, parts, found)?;
    let mut servers = Servers::default();
    let outcome = tokio::select! {
        outcome = servers.run(plan, parts, data_dir, &mut told, reread) => outcome,
        () = signals.next() => Ok(()),
    };
    tokio::select! {
        () = servers.stop() => tracing::info!("stopped"),
        () = signals.next() => return Err(RunError::Hurried),
    }
    outcome
}

/// Whether all addresses can be listened on, so that a start does not end half way, and with all that are taken at once.
fn check_addresses(settings: &Settings, parts: Parts) -> Result<(), RunError> {
    let backend = if parts == Parts::Backend { "--listen, PORT" } else { "--backend-listen" };
    let all = [
        (settings.gateway.listen, "--listen", "[gateway] listen", parts.has_gateway()),
        (settings.gateway.admin_listen, "--admin-listen", "[gateway] admin_listen", parts.has_gateway()),
        (settings.backend.listen, backend, "[backend] listen", parts.has_backend()),
    ];
    let tls = settings.gateway.tls_listen.map(|listen| (listen, "TLS", "[gateway] tls_listen", parts.has_gateway()));
    let taken = |(address, flag, setting, _)| {
        let error = std::net::TcpListener::bind::<SocketAddr>(address).err()?;
        Some(format!("{address} ({flag}, {setting}): {error}"))
    };
    let taken: Vec<_> = all.into_iter().chain(tls).filter(|(.., needed)| *needed).filter_map(taken).collect();
    if taken.is_empty() { Ok(()) } else { Err(RunError::Addresses(taken)) }
}

/// The parts that run so far.
#[derive(Default)]
struct Servers {
    admin: Option<AdminServer>,
    backend: Option<BackendServer>,
    gateway: Option<Gateway>,
    /// What they were started with.
    started: Option<Started>,
    data_dir: Option<DataDir>,
}

impl Servers {
    /// Starts everything and comes back when a part fails, or when all is handed over and done. At a hang-up it goes on
    /// with what `reread` gives.
    async fn run(
        &mut self,
        plan: Plan,
        parts: Parts,
        data_dir: DataDir,
        told: &mut Told,
        reread: Reread<'_>,
    ) -> Result<(), RunError> {
        self.data_dir = Some(data_dir);
        self.start(plan, parts).await?;
        if let Some(data_dir) = &mut self.data_dir {
            data_dir.serves()?;
        }
        self.announce();
        let Told { hang_up, quit } = told;
        loop {
            tokio::select! {
                part = self.ended() => return Err(RunError::Ended(part)),
                _ = hang_up.recv() => self.reload(reread).await,
                () = received(quit) => if self.hand_over().await { return Ok(()) },
            }
        }
    }

    /// Hands over to the new process that waits, and waits until nothing is under way here. False: nobody waits.
    async fn hand_over(&self) -> bool {
        let (Some(gateway), Some(data_dir)) = (&self.gateway, &self.data_dir) else { return false };
        tracing::info!("told to hand over (SIGQUIT)");
        if !data_dir.is_awaited().await {
            tracing::error!("no new process waits for the listeners (`sluice gateway --upgrade`): going on");
            return false;
        }
        gateway.hand_over().await;
        tracing::info!("handed over; ending when nothing is under way any more");
        gateway.drained().await;
        true
    }

    /// Starts the parts, the gateway last: whoever it lets in finds the others at work.
    async fn start(&mut self, plan: Plan, parts: Parts) -> Result<(), RunError> {
        let Plan { mut settings, network, gateway, backend } = plan;
        let (mut started, said) = (Started::new(parts, network, backend.clone()), settings.clone());
        let mut paid_through = None;
        if let Some(GatewayPlan { config, payee }) = gateway {
            let databases = Databases::open(&settings).await?;
            let ledger = Arc::clone(&databases.ledger);
            started.ledger = Some(Arc::clone(&ledger));
            started.wallet_key = payee.wallet_key().cloned();
            key_use::check(&*ledger, &key_use::configured(&config.master_keys, payee.wallet_key())).await?;
            let (node, wallet): (Arc<dyn LightningNode>, _) = match payee {
                Payee::Lnd(node) => (node, None),
                Payee::Wallet(key) => {
                    let wallet = Arc::new(TestWallet::new(&key, databases.wallet(&settings).await?));
                    (Arc::<TestWallet>::clone(&wallet), Some(wallet))
                }
            };
            let watch = NodeWatch::start(Arc::clone(&node), config.network);
            let metrics = Arc::<Metrics>::default();
            let token = admin_token::read_or_make(&settings.data_dir)?;
            let api = Api::new(token, Arc::clone(&ledger), watch.health(), wallet.is_some(), config.network);
            let (api, counted) = (Arc::new(api), Arc::clone(&metrics));
            self.admin = Some(AdminServer::new(config.admin_listen, wallet, watch, counted, Arc::clone(&api)));
            paid_through = Some((config, node, ledger, metrics, api));
        }
        if let Some(config) = backend {
            if let DatabaseConfig::Sqlite { path } = &config.database {
                databases::make_dir_of(path)?;
            }
            let backend = BackendServer::start(config).await?;
            settings.backend.listen = backend.address;
            self.backend = Some(backend);
        }
        if let Some((mut config, node, ledger, metrics, api)) = paid_through {
            // Now that it is known which port the backend has.
            config.services = settings.services()?;
            let admin = self.admin.as_ref().map(|admin| admin.router.clone());
            let beside = Beside { admin, upgrade: self.data_dir.as_ref().and_then(DataDir::upgrade) };
            api.configured(&config);
            started.api = Some(api);
            // All that could fail is done.
            self.data_dir.iter().for_each(DataDir::ask);
            self.gateway = Some(Gateway::start(config, node, ledger, metrics, beside).await?);
        }
        if let Some(admin) = &self.admin {
            admin.ready.send_replace(true);
        }
        started.backend_listen = settings.backend.listen;
        started.settings = said;
        self.started = Some(started);
        Ok(())
    }

    /// Says where everything is. Nobody may be listening: then it goes unsaid.
    fn announce(&self) {
        let gateway = self.gateway.as_ref().map(|gateway| ("gateway", gateway.address()));
        let admin = self.admin.as_ref().map(|admin| ("admin", admin.address));
        let backend = self.backend.as_ref().map(|backend| ("backend", backend.address));
        let tls = self.gateway.as_ref().and_then(|gateway| Some(("tls", gateway.tls_address()?)));
        let mut out = io::stdout().lock();
        for (name, address) in [gateway, tls, admin, backend].into_iter().flatten() {
            let scheme = if name == "tls" { "https" } else { "http" };
            let _ = writeln!(out, "{name:<8} {scheme}://{address}");
            tracing::info!(%address, "{name} listens");
        }
        let _ = writeln!(out, "ready").and_then(|()| out.flush());
    }

    /// Waits until a part has stopped, which none does unless it is told to or fails; says which.
    async fn ended(&self) -> &'static str {
        let mut look = interval(LOOK_EVERY);
        loop {
            look.tick().await;
            if self.gateway.as_ref().is_some_and(Gateway::has_ended) {
                return "the gateway";
            }
            if self.backend.as_ref().is_some_and(|backend| backend.task.is_finished()) {
                return "the media server";
            }
        }
    }

    /// Stops the parts in the opposite order. Bounded by their own timeouts.
    async fn stop(&mut self) {
        if let Some(admin) = &self.admin {
            admin.ready.send_replace(false);
        }
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await;
        }
        if let Some(backend) = self.backend.take() {
            backend.stop().await;
        }
    }
}

/// What tells the process something else.
struct Told {
    hang_up: Signal,
    quit: Option<Signal>,
}

/// Waits for a signal; for ever where it is not listened for.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => pending().await,
    }
}

/// What tells the process to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Signals);
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => tracing::info!("told to stop (SIGINT)"),
            _ = self.terminate.recv() => tracing::info!("told to stop (SIGTERM)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_common::network::Network;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn no_part_ends_unnoticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
        settings.backend.listen.set_port(0);
        keys::make_missing(&settings).unwrap();
        let master_keys = keys::master_keys(&settings).unwrap();
        let config = backend_config(&settings, master_keys, Network::TestWallet).unwrap();
        let backend = BackendServer::start(config).await.unwrap();
        let stop = backend.task.abort_handle();
        let servers = Servers { backend: Some(backend), ..Servers::default() };
        assert!(timeout(LOOK_EVERY / 2, servers.ended()).await.is_err(), "it runs");
        stop.abort();
        assert_eq!(timeout(LOOK_EVERY * 10, servers.ended()).await.unwrap(), "the media server");
    }

    #[test]
    fn names_all_addresses_that_are_taken() {
        let taken = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (gateway, admin) = (taken(), taken());
        let mut settings = Settings::default();
        settings.gateway.listen = gateway.local_addr().unwrap();
        settings.gateway.admin_listen = admin.local_addr().unwrap();
        settings.backend.listen.set_port(0);
        let error = check_addresses(&settings, Parts::All).unwrap_err().to_string();
        for part in [
            format!(
                "cannot listen on {} (--listen, [gateway] listen): Address already in use",
                settings.gateway.listen
            ),
            format!(", nor on {} (--admin-listen, [gateway] admin_listen)", settings.gateway.admin_listen),
        ] {
            assert!(error.contains(&part), "{part}: {error}");
        }
        assert!(!error.contains("backend"), "{error}");
        check_addresses(&settings, Parts::Backend).unwrap();
    }
}
