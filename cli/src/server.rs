//! Runs the servers: everything in one process, or one part.

mod parts;

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use sluice_backend::{
    auth::{EmptyJwtKey, JwtKey},
    config::{BackendConfig, DatabaseConfig, StoreConfig, Timeouts},
    server::StartError as BackendError,
    store::{S3Config, S3Timeouts},
};
use sluice_common::{keys::MasterKeys, limits::FreeUploads, network::Network, secret::Secret};
use sluice_gateway::{
    config::GatewayConfig,
    ledger::key_use::{self, KeyUseError},
    lightning::{LightningNode, LndNode, NodeWatch, TestWallet},
    metrics::Metrics,
    server::{Gateway, StartError as GatewayError},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::interval,
};

use self::parts::{AdminServer, BackendServer};
use crate::{
    config::{Invalid, Parts, S3Settings, Settings, StorageMode},
    data_dir::{DataDir, DataDirError},
    databases::{self, DatabaseError, Databases},
    keys::{self, KeyError},
    lightning::{self, Found, NodeError},
};

/// How long a stop waits for requests under way.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is looked whether every part still runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the servers do not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] Invalid),
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
    /// The admin address.
    #[error("the admin address cannot listen on {address}: {source}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
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

/// Runs `parts` until the process is told to stop (SIGINT, SIGTERM). A first start of all parts makes the keys it needs.
/// Prints where each part listens, and a line `ready` when all of them serve.
pub async fn run(settings: Settings, parts: Parts) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let _data_dir = DataDir::take(&settings.data_dir, parts)?;
    check_addresses(&settings, parts)?;
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
        outcome = servers.run(plan) => outcome,
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
    let taken = |(address, flag, setting, _)| {
        let error = std::net::TcpListener::bind::<SocketAddr>(address).err()?;
        Some(format!("{address} ({flag}, {setting}): {error}"))
    };
    let taken: Vec<_> = all.into_iter().filter(|(.., needed)| *needed).filter_map(taken).collect();
    if taken.is_empty() { Ok(()) } else { Err(RunError::Addresses(taken)) }
}

/// What is to run, with all that can be checked before a port is bound.
struct Plan {
    settings: Settings,
    gateway: Option<GatewayPlan>,
    backend: Option<BackendConfig>,
}

/// A gateway that is to run.
struct GatewayPlan {
    config: GatewayConfig,
    payee: Payee,
}

/// Who takes the payments.
enum Payee {
    /// The embedded wallet, with this key.
    Wallet(Secret<[u8; 32]>),
    /// An LND node.
    Lnd(Arc<LndNode>),
}

impl Payee {
    fn wallet_key(&self) -> Option<&Secret<[u8; 32]>> {
        match self {
            Self::Wallet(key) => Some(key),
            Self::Lnd(_) => None,
        }
    }
}

impl Plan {
    fn new(settings: Settings, parts: Parts, found: Found) -> Result<Self, RunError> {
        let network = found.network;
        let read_keys = if parts.has_gateway() { keys::minting_master_keys } else { keys::master_keys };
        let master_keys = read_keys(&settings)?;
        let gateway =
            parts.has_gateway().then(|| GatewayPlan::new(&settings, master_keys.clone(), found)).transpose()?;
        if parts.has_backend()
            && let Some(warning) = keys::weak_jwt_key(&settings)?
        {
            tracing::warn!("{warning}");
        }
        let backend = parts.has_backend().then(|| backend_config(&settings, master_keys, network)).transpose()?;
        Ok(Self { settings, gateway, backend })
    }
}

impl GatewayPlan {
    fn new(settings: &Settings, master_keys: MasterKeys, found: Found) -> Result<Self, RunError> {
        let config = GatewayConfig {
            listen: settings.gateway.listen,
            admin_listen: settings.gateway.admin_listen,
            services: settings.services()?,
            master_keys,
            network: found.network,
            invoice_expiry: settings.invoice_expiry(),
            invoice_limits: settings.gateway.invoice_limits(),
            limits: settings.gateway.limits.config(),
            settlement: settings.lightning.settlement,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
        };
        let payee = match found.lnd {
            Some(node) => Payee::Lnd(node),
            None => Payee::Wallet(keys::wallet_key(settings)?),
        };
        Ok(Self { config, payee })
    }
}

/// The media server that `settings` describe.
pub(crate) fn backend_config(
    settings: &Settings,
    master_keys: MasterKeys,
    network: Network,
) -> Result<BackendConfig, RunError> {
    let backend = &settings.backend;
    Ok(BackendConfig {
        listen: backend.listen,
        host: settings.host(),
        jwt_key: JwtKey::new(keys::jwt_key(settings)?)?,
        database: settings.backend_database_config()?,
        store: store_config(settings)?,
        free_uploads: FreeUploads {
            restricted: backend.restrict_upload_size,
            max_free_upload_mb: backend.max_free_upload_size_mb,
        },
        quota: backend.quota(),
        terms: settings.media_terms()?,
        master_keys,
        network,
        template_uploaders: settings.template_uploaders()?,
        podcast_index: keys::podcast_index(settings)?,
        timeouts: Timeouts { shutdown: SHUTDOWN_TIMEOUT, ..Timeouts::default() },
    })
}

/// Where its files are.
fn store_config(settings: &Settings) -> Result<StoreConfig, RunError> {
    let encryption_key = keys::local_encryption_key(settings)?;
    if settings.backend.storage_mode == StorageMode::Local {
        return Ok(StoreConfig::Local { dir: settings.local_dir(), encryption_key });
    }
    let s3 = &settings.backend.s3;
    Ok(StoreConfig::S3 { s3: Box::new(s3_config(s3)?), seal: s3.seal, encryption_key })
}

/// Which bucket of which server, and how it is talked to.
pub(crate) fn s3_config(s3: &S3Settings) -> Result<S3Config, KeyError> {
    Ok(S3Config {
        bucket: s3.bucket.clone(),
        region: s3.region.clone(),
        endpoint: s3.endpoint.clone(),
        path_style: s3.path_style(),
        credentials: keys::s3_credentials(s3)?,
        timeouts: S3Timeouts {
            connect: Duration::from_secs(s3.connect_timeout_secs.get()),
            read: Duration::from_secs(s3.read_timeout_secs.get()),
            ..S3Timeouts::default()
        },
        attempts: s3.attempts.get(),
    })
}

/// The parts that run so far.
#[derive(Default)]
struct Servers {
    admin: Option<AdminServer>,
    backend: Option<BackendServer>,
    gateway: Option<Gateway>,
}

impl Servers {
    /// Starts everything and comes back when a part fails.
    async fn run(&mut self, plan: Plan) -> Result<(), RunError> {
        self.start(plan).await?;
        self.announce();
        Err(RunError::Ended(self.ended().await))
    }

    /// Starts the parts, the gateway last: whoever it lets in finds the others at work.
    async fn start(&mut self, plan: Plan) -> Result<(), RunError> {
        let Plan { mut settings, gateway, backend } = plan;
        let mut paid_through = None;
        if let Some(GatewayPlan { config, payee }) = gateway {
            let databases = Databases::open(&settings).await?;
            let ledger = Arc::clone(&databases.ledger);
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
            self.admin = Some(AdminServer::start(config.admin_listen, wallet, watch, Arc::clone(&metrics)).await?);
            paid_through = Some((config, node, ledger, metrics));
        }
        if let Some(config) = backend {
            if let DatabaseConfig::Sqlite { path } = &config.database {
                databases::make_dir_of(path)?;
            }
            let backend = BackendServer::start(config).await?;
            settings.backend.listen = backend.address;
            self.backend = Some(backend);
        }
        if let Some((mut config, node, ledger, metrics)) = paid_through {
            // Now that it is known which port the backend has.
            config.services = settings.services()?;
            self.gateway = Some(Gateway::start(config, node, ledger, metrics).await?);
        }
        if let Some(admin) = &self.admin {
            admin.ready.send_replace(true);
        }
        Ok(())
    }

    /// Says where everything is. Nobody may be listening: then it goes unsaid.
    fn announce(&self) {
        let gateway = self.gateway.as_ref().map(|gateway| ("gateway", gateway.address()));
        let admin = self.admin.as_ref().map(|admin| ("admin", admin.address));
        let backend = self.backend.as_ref().map(|backend| ("backend", backend.address));
        let mut out = io::stdout().lock();
        for (name, address) in [gateway, admin, backend].into_iter().flatten() {
            let _ = writeln!(out, "{name:<8} http://{address}");
            tracing::info!(%address, "{name} listens");
        }
        let _ = writeln!(out, "ready").and_then(|()| out.flush());
    }

    /// Waits until a part has stopped, which none does unless it is told to or fails; says which.
    async fn ended(&mut self) -> &'static str {
        let mut look = interval(LOOK_EVERY);
        loop {
            look.tick().await;
            if self.gateway.as_ref().is_some_and(Gateway::has_ended) {
                return "the gateway";
            }
            if self.backend.as_ref().is_some_and(|backend| backend.task.is_finished()) {
                return "the media server";
            }
            if self.admin.as_ref().is_some_and(|admin| admin.task.is_finished()) {
                return "the admin address";
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
        if let Some(admin) = self.admin.take() {
            admin.stop().await;
        }
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
    use sluice_gateway::db::GatewayDb;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn no_part_ends_unnoticed() {
        let dir = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&dir.path().join("gateway.db")).await.unwrap();
        let wallet = Arc::new(TestWallet::new(&Secret::new([1; 32]), db));
        let watch = NodeWatch::start(Arc::<TestWallet>::clone(&wallet), Network::TestWallet);
        let admin = AdminServer::start(([127, 0, 0, 1], 0).into(), Some(wallet), watch, Arc::default()).await.unwrap();
        let stop = admin.task.abort_handle();
        let mut servers = Servers { admin: Some(admin), ..Servers::default() };
        assert!(timeout(LOOK_EVERY / 2, servers.ended()).await.is_err(), "it runs");
        stop.abort();
        assert_eq!(timeout(LOOK_EVERY * 10, servers.ended()).await.unwrap(), "the admin address");
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
