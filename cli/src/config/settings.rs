//! Every setting, with its name in the file and its default.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sluice_backend::{
    config::DatabaseConfig,
    db::{PostgresConfig, Quota},
};
use sluice_common::{
    l402::UnknownCaveats,
    lightning_message::NodeKey,
    limits::{BYTES_PER_MB, FreeUploads},
};
use sluice_gateway::invoice_limits::{InvoiceLimits, RateLimit};
use time::OffsetDateTime;

use super::{
    DatabaseUrl, Invalid, KeySource, LightningSettings, LimitSettings, S3Settings, ServiceSettings,
    service_settings::Addresses,
};
use crate::logging::{LogFormat, LogLevel};

pub(super) const YEAR_SECS: NonZeroU64 = positive(31_557_600);

/// `value`, which must be positive; checked where it stands in a constant.
pub(super) const fn positive(value: u64) -> NonZeroU64 {
    match NonZeroU64::new(value) {
        Some(value) => value,
        None => NonZeroU64::MIN,
    }
}

const fn positive_u32(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(value) => value,
        None => NonZeroU32::MIN,
    }
}

/// The whole configuration: what `sluice.toml` holds and what `sluice check-config` prints.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where databases, files and keys are unless a setting says otherwise.
    pub data_dir: PathBuf,
    /// How long a stop waits for requests under way, for each part.
    pub stop_timeout_secs: NonZeroU64,
    /// What is logged, and how.
    pub log: LogSettings,
    /// What makes and checks tokens; gateway and backend must have the same.
    pub l402: L402Settings,
    /// Who takes the payments.
    pub lightning: LightningSettings,
    /// The paywall.
    pub gateway: GatewaySettings,
    /// What is sold. The first one that protects a request decides.
    #[serde(rename = "service")]
    pub services: Vec<ServiceSettings>,
    /// The media server.
    pub backend: BackendSettings,
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// The least severe that is logged.
    pub level: LogLevel,
    /// For people or for machines.
    pub format: LogFormat,
}

/// `[l402]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct L402Settings {
    /// The keys that tokens are made and checked with.
    pub master_keys: Vec<MasterKeySettings>,
    /// What to do with a caveat that is not understood.
    pub unknown_caveats: UnknownCaveats,
}

/// A key of `[l402] master_keys`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MasterKeySettings {
    /// 64 hexadecimal digits, or the file that holds them.
    pub key: KeySource,
    /// From when on it makes tokens.
    #[serde(default = "always", with = "time::serde::rfc3339")]
    pub mints_from: OffsetDateTime,
    /// Whether it has leaked: then it makes none, and its tokens need their payment in the ledger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
}

fn always() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// Where it listens for everyone.
    pub listen: SocketAddr,
    /// Where it listens for whoever runs it.
    pub admin_listen: SocketAddr,
    /// Where it listens for everyone, by TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_listen: Option<SocketAddr>,
    /// The certificate and its chain there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// To which port clients are sent that come without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_port: Option<NonZeroU16>,
    /// Its database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<DatabaseUrl>,
    /// How many invoices it asks the node for, for all clients.
    pub invoices_per_minute: NonZeroU32,
    /// How many of them at once.
    pub invoice_burst: NonZeroU32,
    /// How many for one network of clients.
    pub invoices_per_minute_per_client: NonZeroU32,
    /// How many of them at once.
    pub invoice_burst_per_client: NonZeroU32,
    /// How many invoices may be open.
    pub max_open_invoices: NonZeroU32,
    /// What bounds clients.
    pub limits: LimitSettings,
}

/// `[backend]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The name of this server in media tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The key that logins are signed with; used as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_key: Option<KeySource>,
    /// The key that files on disk are sealed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_encryption_key: Option<KeySource>,
    /// Its database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<DatabaseUrl>,
    /// How many connections it has to a PostgreSQL server.
    pub database_max_connections: NonZeroU32,
    /// How long it waits for one of them.
    pub database_acquire_timeout_secs: NonZeroU32,
    /// How long a statement may take there.
    pub database_statement_timeout_secs: NonZeroU32,
    /// Whether files are public of which sphinx-meme did not know.
    pub legacy_public: bool,
    /// Where files are kept.
    pub storage_mode: StorageMode,
    /// The folder of `storage_mode = "local"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_dir: Option<PathBuf>,
    /// The bucket of `storage_mode = "s3"`.
    pub s3: S3Settings,
    /// Whether free uploads are limited to `max_free_upload_size_mb`.
    pub restrict_upload_size: bool,
    /// The largest free upload where they are limited.
    pub max_free_upload_size_mb: u64,
    /// The most MB of all files of one owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_mb: Option<u64>,
    /// The most files of one owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_files: Option<u64>,
    /// How many MB stay free on the disks of stored files and of SQLite databases; 0: none.
    pub min_free_disk_mb: u64,
    /// The nodes that may add templates, as public keys in hex; any that is logged in, if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_uploaders: Option<Vec<String>>,
    /// Where the API of the Podcast Index is.
    pub podcast_index_url: String,
    /// The key of that API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub podcast_index_key: Option<String>,
    /// What belongs to the key; used as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub podcast_index_secret: Option<KeySource>,
}

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageMode {
    /// A folder.
    Local,
    /// A bucket of an S3 server.
    S3,
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("sluice-data"),
            stop_timeout_secs: positive(30),
            log: LogSettings::default(),
            l402: L402Settings::default(),
            lightning: LightningSettings::default(),
            gateway: GatewaySettings::default(),
            services: vec![ServiceSettings::media()],
            backend: BackendSettings::default(),
        }
    }
}

impl Default for GatewaySettings {
    fn default() -> Self {
        let InvoiceLimits { all, per_client, max_open } = InvoiceLimits::default();
        Self {
            listen: loopback(8081),
            admin_listen: loopback(8082),
            tls_listen: None,
            tls_certificate: None,
            tls_key: None,
            https_port: None,
            database_url: None,
            invoices_per_minute: all.per_minute,
            invoice_burst: all.burst,
            invoices_per_minute_per_client: per_client.per_minute,
            invoice_burst_per_client: per_client.burst,
            max_open_invoices: max_open,
            limits: LimitSettings::default(),
        }
    }
}

impl GatewaySettings {
    /// How many invoices the node is asked for.
    pub fn invoice_limits(&self) -> InvoiceLimits {
        InvoiceLimits {
            all: RateLimit { per_minute: self.invoices_per_minute, burst: self.invoice_burst },
            per_client: RateLimit {
                per_minute: self.invoices_per_minute_per_client,
                burst: self.invoice_burst_per_client,
            },
            max_open: self.max_open_invoices,
        }
    }
}

impl Default for BackendSettings {
    fn default() -> Self {
        let free = FreeUploads::default();
        Self {
            listen: loopback(8083),
            host: None,
            jwt_key: None,
            local_encryption_key: None,
            database_url: None,
            database_max_connections: positive_u32(10),
            database_acquire_timeout_secs: positive_u32(5),
            database_statement_timeout_secs: positive_u32(30),
            legacy_public: true,
            storage_mode: StorageMode::Local,
            local_dir: None,
            s3: S3Settings::default(),
            restrict_upload_size: free.restricted,
            max_free_upload_size_mb: free.max_free_upload_mb,
            quota_mb: None,
            quota_files: None,
            min_free_disk_mb: 512,
            template_uploaders: None,
            podcast_index_url: "https://api.podcastindex.org/api/1.0".to_owned(),
            podcast_index_key: None,
            podcast_index_secret: None,
        }
    }
}

impl BackendSettings {
    /// How much each owner may have.
    pub fn quota(&self) -> Quota {
        let bounded = |max: Option<u64>| max.filter(|&max| max > 0);
        Quota {
            max_bytes: bounded(self.quota_mb).map(|mb| mb.saturating_mul(BYTES_PER_MB)),
            max_files: bounded(self.quota_files),
        }
    }
}

impl Settings {
    /// The master keys.
    pub fn master_keys(&self) -> Vec<MasterKeySettings> {
        if self.l402.master_keys.is_empty() {
            return vec![MasterKeySettings { key: self.key_file("master.key"), mints_from: always(), retired: false }];
        }
        self.l402.master_keys.clone()
    }

    /// How long a stop waits for requests under way, for each part.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout_secs.get())
    }

    /// The embedded wallet's key.
    pub fn wallet_key(&self) -> KeySource {
        self.lightning.wallet_key.clone().unwrap_or_else(|| self.key_file("wallet.key"))
    }

    /// The gateway's database.
    pub fn gateway_database(&self) -> DatabaseUrl {
        let default = || DatabaseUrl::sqlite(self.data_dir.join("gateway.db"));
        self.gateway.database_url.clone().unwrap_or_else(default)
    }

    /// The SQLite file of the embedded wallet: the gateway's database, if it is one.
    pub fn wallet_database(&self) -> PathBuf {
        let default = || self.data_dir.join("gateway.db");
        self.gateway_database().sqlite_path().map_or_else(default, Path::to_owned)
    }

    /// Where the requests of `service` go.
    pub fn upstream(&self, service: &ServiceSettings) -> Addresses {
        service.upstream.clone().unwrap_or_else(|| reachable(self.backend.listen).to_string().into())
    }

    /// The name of the media server in media tokens.
    pub fn host(&self) -> String {
        self.backend.host.clone().unwrap_or_else(|| self.gateway.listen.to_string())
    }

    /// The key that logins are signed with.
    pub fn jwt_key(&self) -> KeySource {
        self.backend.jwt_key.clone().unwrap_or_else(|| self.key_file("jwt.key"))
    }

    /// The key that files on disk are sealed with.
    pub fn local_encryption_key(&self) -> KeySource {
        self.backend.local_encryption_key.clone().unwrap_or_else(|| self.key_file("local-encryption.key"))
    }

    /// The backend's database.
    pub fn backend_database(&self) -> DatabaseUrl {
        let default = || DatabaseUrl::sqlite(self.data_dir.join("backend.db"));
        self.backend.database_url.clone().unwrap_or_else(default)
    }

    /// The same with all that is set of it.
    ///
    /// Errors: a URL that cannot be read.
    pub fn backend_database_config(&self) -> Result<DatabaseConfig, Invalid> {
        let url = match self.backend_database() {
            DatabaseUrl::Sqlite(path) => return Ok(DatabaseConfig::Sqlite { path }),
            DatabaseUrl::Postgres(url) => url,
        };
        let secs = |secs: NonZeroU32| Duration::from_secs(secs.get().into());
        let config = PostgresConfig {
            url,
            max_connections: self.backend.database_max_connections.get(),
            acquire_timeout: secs(self.backend.database_acquire_timeout_secs),
            statement_timeout: secs(self.backend.database_statement_timeout_secs),
            legacy_public: self.backend.legacy_public,
        };
        config.check().map_err(Invalid::BackendDatabase)?;
        Ok(DatabaseConfig::Postgres(config))
    }

    /// Whether what is stored from now on is sealed.
    pub fn seals(&self) -> bool {
        self.backend.storage_mode == StorageMode::Local || self.backend.s3.seal
    }

    /// The folder of the stored files.
    pub fn local_dir(&self) -> PathBuf {
        self.backend.local_dir.clone().unwrap_or_else(|| self.data_dir.join("media"))
    }

    /// The nodes that may add templates; none: any.
    pub fn template_uploaders(&self) -> Result<Option<Vec<NodeKey>>, Invalid> {
        let parse = |text: &String| NodeKey::from_hex(text).map_err(|_| Invalid::TemplateUploader(text.clone()));
        self.backend.template_uploaders.as_ref().map(|nodes| nodes.iter().map(parse).collect()).transpose()
    }

    fn key_file(&self, name: &str) -> KeySource {
        KeySource::File(self.data_dir.join("keys").join(name))
    }

    /// The same settings with everything said that was left to follow from others.
    #[must_use]
    pub fn effective(&self) -> Self {
        let service = |service: &ServiceSettings| {
            let upstream = self.upstream(service);
            let check = if upstream.0.len() > 1 { "tcp" } else { "off" };
            ServiceSettings {
                health_check: service.health_check.clone().or_else(|| Some(check.to_owned())),
                forward_credential: Some(self.forwards_credential(service)),
                upstream: Some(upstream),
                ..service.clone()
            }
        };
        Self {
            data_dir: self.data_dir.clone(),
            stop_timeout_secs: self.stop_timeout_secs,
            log: self.log.clone(),
            l402: L402Settings { master_keys: self.master_keys(), ..self.l402.clone() },
            lightning: self.effective_lightning(),
            gateway: GatewaySettings { database_url: Some(self.gateway_database()), ..self.gateway.clone() },
            services: self.services.iter().map(service).collect(),
            backend: BackendSettings {
                host: Some(self.host()),
                jwt_key: Some(self.jwt_key()),
                local_encryption_key: Some(self.local_encryption_key()),
                database_url: Some(self.backend_database()),
                local_dir: Some(self.local_dir()),
                s3: S3Settings { path_style: Some(self.backend.s3.path_style()), ..self.backend.s3.clone() },
                ..self.backend.clone()
            },
        }
    }
}

/// The address by which a server on this machine that listens on `address` is reached.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    (loopback, address.port()).into()
}
