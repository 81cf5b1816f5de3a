//! The ledger: what was paid. A payment is written once, merged by its payment hash from what the node says and from the
//! first use of the token that it bought, whichever comes first. Nothing unpaid is ever in it.

mod book;
mod bought;
#[cfg(test)]
mod contract;
mod csv;
pub mod key_use;
mod postgres;
mod proof;
mod revocation;
mod sql;
mod sqlite;
mod uses;

use async_trait::async_trait;
use sluice_common::{
    keys::KeyUse,
    l402::{PaymentHash, TokenId},
    network::Network,
};

pub(crate) use self::revocation::LedgerChanges;
pub use self::{
    book::{BookKeeper, Books, Sold},
    bought::{Bought, BoughtOn, Sale},
    csv::{CSV_HEAD, csv_field},
    postgres::PostgresLedger,
    proof::{SettlementCheck, SettlementProof, Unproven},
    revocation::{Revocation, RevocationDb, RevokeOrder},
    uses::{NoUse, UseDb, UseEnd, UseHold, UseOrder},
};
use crate::lightning::Settlement;

/// How many payments a page of [`LedgerDb::payments`] has at most.
pub const PAGE: usize = 1_000;

/// A database that keeps the ledger. Every implementation passes the same contract suite.
#[async_trait]
pub trait LedgerDb: RevocationDb + UseDb {
    /// Books what `node` (its public key in hex) says was paid, and that its settlements up to `last_index` were seen:
    /// all of it or nothing. What a node said of a payment before stays; an index never falls.
    async fn book_settlements(
        &self,
        node: &str,
        paid: &[SettledToken],
        last_index: Option<u64>,
    ) -> Result<(), LedgerError>;

    /// Books that tokens were used: all of them or none. Of two uses of a token the earlier stays.
    async fn book_uses(&self, uses: &[TokenUse]) -> Result<(), LedgerError>;

    /// Up to which index the settlements of `node` were seen; 0 if it is not known.
    async fn last_index(&self, node: &str) -> Result<u64, LedgerError>;

    /// Forgets up to which index the settlements of `node` were seen, for its indexes began anew.
    async fn forget_index(&self, node: &str) -> Result<(), LedgerError>;

    /// Whether any node ever said that this payment is settled.
    async fn is_settled(&self, payment_hash: PaymentHash) -> Result<bool, LedgerError>;

    /// Whether a node ever said that just this token was paid, for this service and on this network; when it was used does
    /// not matter.
    async fn is_token_settled(&self, token: &TokenUse) -> Result<bool, LedgerError>;

    /// A payment, if it is known.
    async fn payment(&self, payment_hash: PaymentHash) -> Result<Option<Payment>, LedgerError>;

    /// The sums of what `filter` lets through, of each day (UTC, of [`Payment::time`]), network and service: days first.
    async fn days(&self, filter: &Filter) -> Result<Vec<DaySum>, LedgerError>;

    /// The payments that `filter` lets through, by [`Payment::time`] and payment hash: at most [`PAGE`] of them, those
    /// after the payment `after`.
    async fn payments(&self, filter: &Filter, after: Option<&Payment>) -> Result<Vec<Payment>, LedgerError>;

    /// The keys that the gateway was used with.
    async fn keys_in_use(&self) -> Result<Vec<KeyUse>, LedgerError>;

    /// Notes that these keys are in use from now on: all of them or none. A second time changes nothing.
    async fn note_keys(&self, keys: &[KeyUse]) -> Result<(), LedgerError>;

    /// Forgets that `key` is in use: from now on the gateway starts without it. False: it was not in use.
    async fn forget_key(&self, key: &KeyUse) -> Result<bool, LedgerError>;

    /// The sums of what `filter` lets through, of each service on each network, by the names of both: networks first.
    async fn sums(&self, filter: &Filter) -> Result<Vec<Sum>, LedgerError>;

    /// Adds to what payments bought: all of it or nothing. What is said a second time is added a second time.
    async fn book_bought(&self, bought: &[(Sale, Bought)]) -> Result<(), LedgerError>;

    /// What all payments together bought, of each day on which `filter` has a moment, each network and service: days first.
    async fn bought(&self, filter: &Filter) -> Result<Vec<BoughtOn>, LedgerError>;
}

/// A token that a node says was paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledToken {
    /// The payment.
    pub payment_hash: PaymentHash,
    /// The service that it was sold for.
    pub service: String,
    /// The network that it was paid on.
    pub network: Network,
    /// The token.
    pub token_id: TokenId,
    /// What was received, in millisatoshi.
    pub amount_msat: u64,
    /// Unix seconds.
    pub settled_at: u64,
}

/// A use of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    /// The payment.
    pub payment_hash: PaymentHash,
    /// The service that it was used for.
    pub service: String,
    /// The network that it was sold on.
    pub network: Network,
    /// The token.
    pub token_id: TokenId,
    /// Unix seconds.
    pub used_at: u64,
}

/// A payment in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// What it is known by.
    pub payment_hash: PaymentHash,
    /// The service that was paid.
    pub service: String,
    /// The network that it was paid on.
    pub network: Network,
    /// The token that was bought.
    pub token_id: TokenId,
    /// What the node says of it; none while only its use is known.
    pub settled: Option<Settled>,
    /// Unix seconds at which the token was first used; none if it never was.
    pub first_used_at: Option<u64>,
    /// What it bought so far, on all days.
    pub bought: Bought,
}

/// What a node says of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What was received, in millisatoshi.
    pub amount_msat: u64,
    /// Unix seconds.
    pub at: u64,
    /// The node's public key in hex.
    pub node: String,
}

/// Which payments are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// From this time on, in unix seconds of [`Payment::time`].
    pub from: Option<u64>,
    /// Before this time, in unix seconds of [`Payment::time`].
    pub before: Option<u64>,
    /// Of this service.
    pub service: Option<String>,
    /// On this network.
    pub network: Option<Network>,
}

/// What a service was paid on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The network.
    pub network: Network,
    /// The service.
    pub service: String,
    /// The number of payments.
    pub payments: u64,
    /// How many of them have no amount yet, for no node has said it.
    pub without_amount: u64,
    /// The amounts of all others, in millisatoshi.
    pub amount_msat: u64,
}

/// What a service was paid on a network on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaySum {
    /// The day, in days since 1970-01-01.
    pub day: u64,
    /// What was paid on it.
    pub sum: Sum,
}

/// Why the ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The database.
    #[error("the ledger's database: {0}")]
    Database(#[from] sqlx::Error),
    /// The URL of the PostgreSQL database. Says nothing of it, for a password may stand in it.
    #[error("the ledger's database URL is not one of PostgreSQL")]
    Url,
    /// The tables could not be brought up to date.
    #[error("the migrations of the ledger's database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database did not answer.
    #[error("the ledger's database did not answer within {0} s")]
    Timeout(u64),
}

impl Payment {
    /// When it was paid, in unix seconds, as far as it is known: when the node says, or else by its first use.
    pub fn time(&self) -> u64 {
        self.settled.as_ref().map(|settled| settled.at).or(self.first_used_at).unwrap_or_default()
    }
}

impl SettledToken {
    /// What a node's settlement says of a token that is `sold` here; none if the invoice was for something else. Other
    /// programs make invoices at the node, too, and token ids are no secret: nothing that is not known comes out of a memo.
    pub fn of(settlement: &Settlement, sold: &Sold) -> Option<Self> {
        let mut words = settlement.memo.rsplit(' ');
        let token_id: TokenId = words.next()?.parse().ok()?;
        let named = words.next()?;
        let service = sold.services.iter().find(|service| *service == named);
        if !sold.keys.made(&token_id) {
            return None;
        }
        if service.is_none() {
            tracing::warn!(
                payment_hash = %settlement.payment_hash,
                "not booked: paid for a service that is not configured, or by an invoice of another program"
            );
        }
        service.map(|service| Self {
            payment_hash: settlement.payment_hash,
            service: service.clone(),
            network: sold.network,
            token_id,
            amount_msat: settlement.amount_msat,
            settled_at: settlement.settled_at,
        })
    }
}

#[cfg(test)]
mod tests;
