//! The Lightning node that takes payment, behind one trait.

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod health;
mod lnd;
mod wallet;

use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use futures_util::Stream;
use sluice_common::{l402::PaymentHash, network::Network};

pub use self::{
    health::{NodeHealth, NodeWatch},
    lnd::{BAKE_MACAROON, LndConfig, LndConfigError, LndNode},
    wallet::{PayError, TestWallet},
};

/// The settlements of a node, oldest first; ends only with an error.
pub type Settlements = Pin<Box<dyn Stream<Item = Result<Settlement, LightningError>> + Send>>;

/// A Lightning node that takes payment. Every implementation passes the same contract suite.
#[async_trait]
pub trait LightningNode: Send + Sync {
    /// Makes an invoice.
    async fn create_invoice(&self, order: &InvoiceOrder) -> Result<Invoice, LightningError>;

    /// The settlement of an invoice of this node, if it is settled; none for one that is not, and for one that the node
    /// does not know.
    async fn settlement(&self, payment_hash: PaymentHash) -> Result<Option<Settlement>, LightningError>;

    /// All settlements with an index above `after`, those of the past first, then each as it happens.
    async fn settlements(&self, after: u64) -> Result<Settlements, LightningError>;

    /// Whether the node has a settlement with this index (at least 1), or a later one. If it had and has not, its indexes
    /// began anew: it was restored without its invoices.
    async fn reaches(&self, index: u64) -> Result<bool, LightningError>;

    /// Who the node is.
    async fn info(&self) -> Result<NodeInfo, LightningError>;
}

/// What an invoice is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceOrder {
    /// The amount, in satoshi; never 0.
    pub amount_sat: u64,
    /// What the payer's wallet shows; ends with `SERVICE TOKENID_HEX`.
    pub memo: String,
    /// How long the invoice can be paid.
    pub expiry: Duration,
}

/// An invoice that can be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// The invoice as text, BOLT 11.
    pub bolt11: String,
    /// What the payment is known by.
    pub payment_hash: PaymentHash,
    /// Unix seconds at which it can no longer be paid.
    pub expires_at: u64,
}

/// An invoice that was paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Grows by settlement, from 1; where a later stream goes on.
    pub index: u64,
    /// What the payment is known by.
    pub payment_hash: PaymentHash,
    /// What was received, in millisatoshi.
    pub amount_msat: u64,
    /// The invoice's memo.
    pub memo: String,
    /// Unix seconds.
    pub settled_at: u64,
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// The network on which it is paid.
    pub network: Network,
    /// The node's public key, 33 bytes in hex.
    pub pubkey: String,
    /// Whether it is ready to be paid; none where it does not say.
    pub synced: Option<bool>,
    /// Unix seconds of the newest block that it knows, where there are blocks and it says so.
    pub best_header_at: Option<u64>,
}

/// Why a node did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LightningError {
    /// The order cannot be an invoice, for instance for its amount or a memo that is too long.
    #[error("the node refuses the invoice: {0}")]
    Refused(String),
    /// The node was shut down while a stream of its settlements was open.
    #[error("the node was shut down")]
    Closed,
    /// The node does not answer in time, or broke off. It may have done what was asked; it may answer later.
    #[error("the node cannot be used now: {0}")]
    Unavailable(String),
    /// Nothing was asked of the node: it cannot be connected to, or does not serve yet. It may later.
    #[error("the node cannot be used now: {0}")]
    Unreached(String),
    /// The node made an invoice, but one that cannot be sold on.
    #[error(transparent)]
    Unsold(Box<LightningError>),
    /// The node does not take the macaroon for a call: it lacks a right, or is none of this node's.
    #[error("the macaroon does not give `{right}`, or is not this node's: {said}")]
    Permission {
        /// The right that the call needs, as `lncli bakemacaroon` writes it.
        right: &'static str,
        /// What the node says.
        said: String,
    },
    /// The node is on another network than it must be; nothing is sold for its money.
    #[error("the node is on {found}, but {configured} is configured")]
    OtherNetwork {
        /// Where it must be.
        configured: Network,
        /// Where it is.
        found: Network,
    },
    /// The node sent something that cannot be understood.
    #[error("the node's answer cannot be understood: {0}")]
    Malformed(&'static str),
    /// The node's records cannot be read or written.
    #[error("the node's database: {0}")]
    Database(#[from] sqlx::Error),
}

impl LightningError {
    /// Whether a call to make an invoice that ended so has certainly made none. Where nobody can know, it has.
    pub fn made_no_invoice(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Permission { .. } | Self::Unreached(_) | Self::OtherNetwork { .. } => true,
            Self::Unavailable(_) | Self::Unsold(_) | Self::Malformed(_) | Self::Closed | Self::Database(_) => false,
        }
    }
}
