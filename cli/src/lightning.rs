//! The Lightning node of the configuration: what is read for it, and what is asked of it before anything starts.

use std::{fs, io, path::PathBuf, sync::Arc};

use sluice_common::{network::Network, secret::Secret};
use sluice_gateway::lightning::{LightningError, LightningNode, LndConfig, LndConfigError, LndNode, NodeInfo};

use crate::{
    config::{Parts, Settings},
    keys::{self, KeyError},
};

/// Why the node cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The certificate cannot be read.
    #[error("[lightning] tlspath: {}: {source}", path.display())]
    Certificate {
        /// Its file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The macaroon.
    #[error(transparent)]
    Macaroon(#[from] KeyError),
    /// A setting.
    #[error("[lightning] {0}")]
    Config(#[from] LndConfigError),
    /// A node that would take other money than is meant.
    #[error("the Lightning node is on {found}, but [lightning] network = \"{configured}\"")]
    OtherNetwork {
        /// What the file says.
        configured: Network,
        /// What the node says.
        found: Network,
    },
    /// A node that must answer and does not.
    #[error(
        "{0}; without [lightning] network, a start needs the Lightning node, for tokens are of one network \
         (`sluice doctor` looks further)"
    )]
    Away(LightningError),
    /// A node that will not serve us.
    #[error("{0} (`sluice doctor` looks further)")]
    Node(LightningError),
}

/// Where payments are taken.
pub struct Found {
    /// On which network.
    pub network: Network,
    /// By which LND node; none for the embedded wallet, and for who takes none.
    pub lnd: Option<Arc<LndNode>>,
}

/// Finds out on which network `parts` sell, and who takes the payments if they are to. A node that is away is needed only
/// where it alone knows the network. Must be called in the runtime in which the node is used.
pub async fn find(settings: &Settings, parts: Parts) -> Result<Found, NodeError> {
    let configured = settings.lightning.network;
    if settings.lightning.is_wallet() {
        return Ok(Found { network: Network::TestWallet, lnd: None });
    }
    if let Some(network) = configured.filter(|_| !parts.has_gateway()) {
        return Ok(Found { network, lnd: None });
    }
    let node = LndNode::new(&lnd_config(settings)?)?;
    let network = match (node.info().await, configured) {
        (Ok(info), _) => {
            check_network(&info, configured)?;
            report(&info);
            info.network
        }
        (Err(error @ (LightningError::Unavailable(_) | LightningError::Unreached(_))), Some(network)) => {
            tracing::warn!(%error, "starting without the Lightning node: no challenges until it is there");
            network
        }
        (Err(error @ (LightningError::Unavailable(_) | LightningError::Unreached(_))), None) => {
            return Err(NodeError::Away(error));
        }
        (Err(error), _) => return Err(NodeError::Node(error)),
    };
    Ok(Found { network, lnd: Some(Arc::new(node)) })
}

/// Whether the node is on the network that is configured, if one is.
pub fn check_network(info: &NodeInfo, configured: Option<Network>) -> Result<(), NodeError> {
    match configured {
        Some(configured) if configured != info.network => {
            Err(NodeError::OtherNetwork { configured, found: info.network })
        }
        _ => Ok(()),
    }
}

fn report(info: &NodeInfo) {
    tracing::info!(pubkey = %info.pubkey, network = %info.network, "payment is taken by LND");
    match info.synced {
        Some(true) => {}
        Some(false) => tracing::warn!("the Lightning node is not synced to the chain: it may not be paid yet"),
        None => tracing::warn!("the macaroon does not give info:read: nobody sees whether the node is synced"),
    }
}

/// How the configured LND node is reached; its files are read here.
pub fn lnd_config(settings: &Settings) -> Result<LndConfig, NodeError> {
    let lightning = &settings.lightning;
    let tls_cert = match (&lightning.tlscert, &lightning.tlspath) {
        (Some(pem), _) => pem.clone().into_bytes(),
        (None, Some(path)) => fs::read(path).map_err(|source| NodeError::Certificate { path: path.clone(), source })?,
        (None, None) => Vec::new(),
    };
    let macaroon =
        lightning.macaroon().map_or_else(|| Ok(Secret::new(Vec::new())), |source| keys::lnd_macaroon(&source))?;
    let config = LndConfig {
        address: lightning.lndhost.clone().unwrap_or_default(),
        tls_cert,
        macaroon,
        network: lightning.network,
        private: lightning.private,
    };
    config.check()?;
    Ok(config)
}
