//! What the media server is started with: values that were read and checked elsewhere.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use sluice_common::{
    keys::MasterKeys,
    l402::{Macaroon, ServiceTerms, covered_services},
    lightning_message::NodeKey,
    limits::FreeUploads,
    network::Network,
    secret::Secret,
};

use crate::{
    auth::JwtKey,
    db::{PostgresConfig, Quota},
    ledger::LedgerConfig,
    store::S3Config,
};

/// Everything that the media server is started with.
#[derive(Debug, Clone)]
pub struct BackendConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The server's name in media tokens, with its port if it has one (`HOST`).
    pub host: String,
    /// Signs logins (`JWT_KEY`).
    pub jwt_key: JwtKey,
    /// Where the rows are (`DATABASE_URL`).
    pub database: DatabaseConfig,
    /// Where the gateway's ledger is (`GATEWAY_DATABASE_URL`): what of tokens is revoked.
    pub ledger: LedgerConfig,
    /// Where the bytes are (`STORAGE_MODE`).
    pub store: StoreConfig,
    /// The limits of the upload routes that cost nothing.
    pub free_uploads: FreeUploads,
    /// How much each owner may have.
    pub quota: Quota,
    /// How many bytes stay free on the disks of stored files and of a SQLite database; 0: none.
    pub min_free_disk_bytes: u64,
    /// What the tokens for `/largefile` are checked against.
    pub terms: MediaTerms,
    /// What tokens were minted under (`SLUICE_MASTER_KEYS`): the gateway's.
    pub master_keys: MasterKeys,
    /// The network that tokens were paid on.
    pub network: Network,
    /// The nodes that may add templates; none: any that is logged in and may write.
    pub template_uploaders: Option<Vec<NodeKey>>,
    /// Looks up podcasts (`PODCAST_INDEX_KEY`, `PODCAST_INDEX_SECRET`); none: `/podcast` finds nothing.
    pub podcast_index: Option<PodcastIndexConfig>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// The terms of the services of the gateway that sell uploads to `/largefile`; at least one.
#[derive(Debug, Clone)]
pub struct MediaTerms {
    first: ServiceTerms,
    others: Vec<ServiceTerms>,
}

/// Who this server is to the Podcast Index.
#[derive(Debug, Clone)]
pub struct PodcastIndexConfig {
    /// Where the API is: what stands before `/episodes/byfeedurl`.
    pub base_url: String,
    /// The API key; visible ASCII.
    pub key: String,
    /// What belongs to the key.
    pub secret: Secret<String>,
}

/// Where the rows are.
#[derive(Debug, Clone)]
pub enum DatabaseConfig {
    /// A file, made if it is missing, in a folder that exists.
    Sqlite {
        /// Its path.
        path: PathBuf,
    },
    /// PostgreSQL, which several media servers can share.
    Postgres(PostgresConfig),
}

/// Where the bytes are.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// A folder, made if it is missing (`LOCAL_DIR`).
    Local {
        /// Its path.
        dir: PathBuf,
        /// Seals what is stored from now on and opens what it sealed (`LOCAL_ENCRYPTION_KEY`). None: files lie open.
        encryption_key: Option<Secret<[u8; 32]>>,
    },
    /// A bucket of an S3 server.
    S3 {
        /// Which, and how it is talked to.
        s3: Box<S3Config>,
        /// Whether what is stored from now on is sealed. It needs a key.
        seal: bool,
        /// Seals, and opens what it sealed (`LOCAL_ENCRYPTION_KEY`).
        encryption_key: Option<Secret<[u8; 32]>>,
    },
}

impl MediaTerms {
    /// Those of these services; none: there are none.
    pub fn new(terms: impl IntoIterator<Item = ServiceTerms>) -> Option<Self> {
        let mut terms = terms.into_iter();
        Some(Self { first: terms.next()?, others: terms.collect() })
    }

    /// What a token is checked against: the terms of the services that it names, at least one. Where it names none of them,
    /// those of the first, which do not cover it.
    pub fn of(&self, macaroon: &Macaroon) -> Vec<&ServiceTerms> {
        let is_named = |terms: &&ServiceTerms| covered_services(macaroon).any(|name| name == terms.name);
        let named: Vec<_> = self.all().filter(is_named).collect();
        if named.is_empty() { vec![&self.first] } else { named }
    }

    /// The largest upload that any of them sells, in bytes.
    pub fn max_upload_bytes(&self) -> u64 {
        self.all().map(ServiceTerms::max_upload_bytes).max().unwrap_or_default()
    }

    /// All of them, in the order of the configuration.
    pub fn all(&self) -> impl Iterator<Item = &ServiceTerms> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl From<ServiceTerms> for MediaTerms {
    fn from(terms: ServiceTerms) -> Self {
        Self { first: terms, others: Vec::new() }
    }
}

impl DatabaseConfig {
    /// The folder of its file, if it is one.
    pub fn dir(&self) -> Option<&Path> {
        match self {
            Self::Sqlite { path } => path.parent().map(|dir| if dir == Path::new("") { Path::new(".") } else { dir }),
            Self::Postgres(_) => None,
        }
    }
}

impl StoreConfig {
    /// The folder of the files, if they are in one.
    pub fn dir(&self) -> Option<&Path> {
        match self {
            Self::Local { dir, .. } => Some(dir),
            Self::S3 { .. } => None,
        }
    }

    /// Opens what was sealed.
    pub fn encryption_key(&self) -> Option<&Secret<[u8; 32]>> {
        match self {
            Self::Local { encryption_key, .. } | Self::S3 { encryption_key, .. } => encryption_key.as_ref(),
        }
    }

    /// Whether what is stored from now on is sealed.
    pub fn seals(&self) -> bool {
        match self {
            Self::Local { encryption_key, .. } => encryption_key.is_some(),
            Self::S3 { seal, encryption_key, .. } => *seal && encryption_key.is_some(),
        }
    }
}

/// How long the server waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a request's head, and for the next request of an idle connection. Whoever keeps connections to this server
    /// must drop idle ones sooner.
    pub header_read: Duration,
    /// For uploads and answers under way, once the server is told to stop.
    pub shutdown: Duration,
    /// Between two rounds of the sweeper.
    pub sweep: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { header_read: Duration::from_secs(60), shutdown: Duration::from_secs(30), sweep: Duration::from_secs(60) }
    }
}
