//! The Lightning node that takes payment, behind one trait.

#[cfg(test)]
mod contract;
mod wallet;

use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use futures_util::Stream;
use sluice_common::{l402::PaymentHash, network::Network};

pub use self::wallet::{PayError, TestWallet};

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
    /// Whether it is ready to be paid.
    pub synced: bool,
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
    /// The node's records cannot be read or written.
    #[error("the node's database: {0}")]
    Database(#[from] sqlx::Error),
}
