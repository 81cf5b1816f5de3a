//! From settings to what is to run: all that can be checked before a port is bound.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use sluice_backend::{
    auth::JwtKey,
    config::{BackendConfig, StoreConfig, Timeouts},
    ledger::LedgerConfig,
    store::{S3Config, S3Timeouts},
};
use sluice_common::{
    keys::MasterKeys,
    limits::{BYTES_PER_MB, FreeUploads},
    network::Network,
    secret::Secret,
};
use sluice_gateway::{config::GatewayConfig, lightning::LndNode};

use super::RunError;
use crate::{
    config::{DatabaseUrl, Parts, S3Settings, Settings, StorageMode},
    keys::{self, KeyError},
    lightning::Found,
};

/// What is to run, with all that can be checked before a port is bound.
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) network: Network,
    pub(super) gateway: Option<GatewayPlan>,
    pub(super) backend: Option<BackendConfig>,
}

/// A gateway that is to run.
pub(super) struct GatewayPlan {
    pub(super) config: GatewayConfig,
    pub(super) payee: Payee,
}

/// Who takes the payments.
pub(super) enum Payee {
    /// The embedded wallet, with this key.
    Wallet(Secret<[u8; 32]>),
    /// An LND node.
    Lnd(Arc<LndNode>),
}

impl Payee {
    pub(super) fn wallet_key(&self) -> Option<&Secret<[u8; 32]>> {
        match self {
            Self::Wallet(key) => Some(key),
            Self::Lnd(_) => None,
        }
    }
}

impl Plan {
    pub(super) fn new(settings: Settings, parts: Parts, found: Found) -> Result<Self, RunError> {
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
        if parts.has_backend()
            && let Some(warning) = keys::lone_podcast_secret(&settings)
        {
            tracing::warn!("{warning}");
        }
        let backend = parts.has_backend().then(|| backend_config(&settings, master_keys, network)).transpose()?;
        Ok(Self { settings, network, gateway, backend })
    }
}

/// The gateway that `settings` describe.
pub(super) fn gateway_config(
    settings: &Settings,
    master_keys: MasterKeys,
    network: Network,
) -> Result<GatewayConfig, RunError> {
    Ok(GatewayConfig {
        listen: settings.gateway.listen,
        tls: settings.gateway.tls()?,
        https_port: settings.gateway.https_port.map(NonZeroU16::get),
        admin_listen: settings.gateway.admin_listen,
        services: settings.services()?,
        master_keys,
        network,
        invoice_expiry: settings.invoice_expiry(),
        invoice_limits: settings.gateway.invoice_limits(),
        limits: settings.gateway.limits.config(),
        settlement: settings.lightning.settlement,
        shutdown_timeout: settings.stop_timeout(),
    })
}

impl GatewayPlan {
    fn new(settings: &Settings, master_keys: MasterKeys, found: Found) -> Result<Self, RunError> {
        let config = gateway_config(settings, master_keys, found.network)?;
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
        ledger: match settings.gateway_database() {
            DatabaseUrl::Sqlite(path) => LedgerConfig::Sqlite { path },
            DatabaseUrl::Postgres(url) => LedgerConfig::Postgres { url },
        },
        store: store_config(settings)?,
        free_uploads: FreeUploads {
            restricted: backend.restrict_upload_size,
            max_free_upload_mb: backend.max_free_upload_size_mb,
        },
        quota: backend.quota(),
        min_free_disk_bytes: backend.min_free_disk_mb.saturating_mul(BYTES_PER_MB),
        terms: settings.media_terms()?,
        master_keys,
        network,
        template_uploaders: settings.template_uploaders()?,
        podcast_index: keys::podcast_index(settings)?,
        timeouts: Timeouts { shutdown: settings.stop_timeout(), ..Timeouts::default() },
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
