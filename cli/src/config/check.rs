//! What can be said of settings only once they are all known.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{Parts, ServiceSettings, Settings, StorageMode};

/// Settings that are each well formed and yet cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Something that only LND needs, without LND.
    #[error("[lightning] {0} is for kind = \"lnd\", but kind is \"wallet\"")]
    ForLnd(&'static str),
    /// Something that LND needs.
    #[error("[lightning] kind = \"lnd\" needs {0}")]
    LndLacks(&'static str),
    /// Two settings of which one would go unseen.
    #[error("[lightning] {0} and {1} are two ways to say one thing; say only one")]
    SaidTwice(&'static str, &'static str),
    /// No network of LND's.
    #[error(
        "[lightning] network = \"test-wallet\" is the embedded wallet's; LND's are mainnet, testnet, signet, simnet and regtest"
    )]
    WalletNetwork,
    /// The backend asks no node.
    #[error("[lightning] kind = \"lnd\" needs network here: `sluice backend` alone cannot ask the node for it")]
    BackendNetwork,
    /// A store that this version cannot use.
    #[error("[backend] storage_mode = \"s3\" (STORAGE_MODE) is not supported yet; use \"local\"")]
    S3,
    /// A database that this version's backend cannot use.
    #[error("[backend] database_url (DATABASE_URL): PostgreSQL is not supported there yet; use sqlite:PATH")]
    BackendPostgres,
    /// Play money for everyone.
    #[error(
        "the embedded wallet is no real money: with it, {0} listens on {1}, where others can reach it; \
         if that is meant, say [lightning] allow_test_wallet = true"
    )]
    TestWalletExposed(&'static str, SocketAddr),
    /// Two servers at one place.
    #[error("{0} and {1} cannot both listen on {2}")]
    SameAddress(&'static str, &'static str, SocketAddr),
    /// A name that cannot stand in a media token.
    #[error("[backend] host (HOST): \"{0}\" is not a host name in ASCII")]
    Host(String),
    /// No port that clients could know.
    #[error("[gateway] listen: port 0 would be another one each time")]
    NoPort,
    /// Nobody could pay for an upload.
    #[error("no [[service]] protects \"POST /largefile\": the backend would know no token")]
    NoPaidUpload,
    /// A flag for the only service, where there is not just one.
    #[error("--price-sat and --max-mb are for one [[service]], but there are {0}")]
    WhichService(usize),
    /// Neither of two ways to say what costs, or both.
    #[error("service `{0}`: say either protect or free")]
    ProtectOrFree(String),
    /// Not a method.
    #[error("service `{service}`: `{method}` is no method")]
    Method {
        /// The service.
        service: String,
        /// What stands there.
        method: String,
    },
    /// A list of a service with something in it that cannot be.
    #[error("service `{service}`: {error}")]
    InService {
        /// The service.
        service: String,
        /// What is wrong.
        error: sluice_gateway::config::ConfigError,
    },
    /// A header with a variable that is not there.
    #[error("service `{service}`: headers: `{header}` needs the environment variable {variable}, which is not set")]
    HeaderVariable {
        /// The service.
        service: String,
        /// The header.
        header: String,
        /// The variable.
        variable: String,
    },
    /// A file of a service that cannot be read.
    #[error("service `{service}`: {key}: {}: {source}", path.display())]
    ServiceFile {
        /// The service.
        service: String,
        /// The key in the file.
        key: &'static str,
        /// Its file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A service that cannot be sold.
    #[error(transparent)]
    Sales(#[from] sluice_gateway::config::ConfigError),
}

impl Invalid {
    pub(super) fn file(service: &ServiceSettings, key: &'static str, path: &Path, source: io::Error) -> Self {
        Self::ServiceFile { service: service.name.clone(), key, path: path.to_owned(), source }
    }
}

/// Checks what `parts` need.
pub(super) fn check(settings: &Settings, parts: Parts) -> Result<(), Invalid> {
    settings.lightning.check(parts)?;
    if parts.has_backend() && settings.backend.storage_mode == StorageMode::S3 {
        return Err(Invalid::S3);
    }
    if parts.has_backend() && settings.backend_database().sqlite_path().is_none() {
        return Err(Invalid::BackendPostgres);
    }
    let host = settings.host();
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Invalid::Host(host));
    }
    check_addresses(settings, parts)?;
    settings.check_services()?;
    if parts.has_backend() { settings.media_terms().map(drop) } else { Ok(()) }
}

fn check_addresses(settings: &Settings, parts: Parts) -> Result<(), Invalid> {
    if parts.has_gateway() && settings.gateway.listen.port() == 0 {
        return Err(Invalid::NoPort);
    }
    let gateway = [("the gateway", settings.gateway.listen), ("its admin address", settings.gateway.admin_listen)];
    let gateway = gateway.into_iter().filter(|_| parts.has_gateway());
    if settings.lightning.is_wallet()
        && !settings.lightning.allow_test_wallet
        && let Some((who, address)) = gateway.clone().find(|(_, address)| !address.ip().is_loopback())
    {
        return Err(Invalid::TestWalletExposed(who, address));
    }
    let backend = [("the backend", settings.backend.listen)].into_iter().filter(|_| parts.has_backend());
    let all: Vec<_> = gateway.chain(backend).collect();
    for (at, (second, address)) in all.iter().enumerate() {
        let same = all[..at].iter().find(|(_, other)| other == address && address.port() != 0);
        if let Some((first, _)) = same {
            return Err(Invalid::SameAddress(first, second, *address));
        }
    }
    Ok(())
}
