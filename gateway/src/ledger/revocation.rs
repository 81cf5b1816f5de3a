//! What is revoked, in the ledger's database: for as long as it is in effect, and on all gateways and media servers that
//! read this database.

mod postgres;
mod sql;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use sluice_common::{
    l402::PaymentHash,
    revocation::{Change, RevocationSource, Revoked},
};

use super::{LedgerDb, LedgerError};

/// How many changes are read at once.
pub(super) const CHANGES: usize = 10_000;

/// The part of a ledger that keeps what is revoked. Every implementation passes the same contract suite.
#[async_trait]
pub trait RevocationDb: Send + Sync {
    /// Revokes, from now on. What is revoked already stays so, with this order's reason.
    async fn revoke(&self, order: &RevokeOrder) -> Result<(), LedgerError>;

    /// Ends a revocation at `now` (unix seconds). False: there is none in effect.
    async fn undo_revocation(&self, revoked: Revoked, now: u64) -> Result<bool, LedgerError>;

    /// The number of the last change; 0 if there was none.
    async fn last_revocation_change(&self) -> Result<u64, LedgerError>;

    /// The changes after one, in their order: the first of them, if there are many.
    async fn revocation_changes(&self, after: u64) -> Result<Vec<Change>, LedgerError>;

    /// Revocations, also those that are undone, the last changed first: at most `limit` of them, those before the change
    /// `before`.
    async fn revocations(&self, before: Option<u64>, limit: u32) -> Result<Vec<Revocation>, LedgerError>;

    /// The time before which all tokens are revoked, if there is one.
    async fn revoked_before(&self) -> Result<Option<u64>, LedgerError>;

    /// The revocation of a payment or of a time, also where it is undone.
    async fn revocation(&self, revoked: Revoked) -> Result<Option<Revocation>, LedgerError>;
}

/// What is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeOrder {
    /// Which tokens.
    pub revoked: Revoked,
    /// Why, for people.
    pub reason: String,
    /// This moment, in unix seconds.
    pub now: u64,
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The number of its last change.
    pub change: u64,
    /// Which tokens.
    pub revoked: Revoked,
    /// Unix seconds.
    pub revoked_at: u64,
    /// Unix seconds at which it was undone; none: it is in effect.
    pub undone_at: Option<u64>,
    /// Why, for people.
    pub reason: String,
}

/// The changes of a ledger, for who follows them.
pub(crate) struct LedgerChanges(pub(crate) Arc<dyn LedgerDb>);

impl RevocationSource for LedgerChanges {
    type Error = LedgerError;

    async fn last_change(&self) -> Result<u64, LedgerError> {
        self.0.last_revocation_change().await
    }

    async fn changes_after(&self, number: u64) -> Result<Vec<Change>, LedgerError> {
        self.0.revocation_changes(number).await
    }
}

/// A thing to revoke as the statements take it: one of the two.
fn columns(revoked: &Revoked) -> (Option<&[u8]>, Option<i64>) {
    match revoked {
        Revoked::Payment(payment_hash) => (Some(payment_hash.as_bytes()), None),
        Revoked::MintedBefore(time) => (None, Some(crate::db::to_i64(*time))),
    }
}

/// The same the other way round; none where a row is not what its table allows.
fn revoked(payment_hash: Option<Vec<u8>>, minted_before: Option<i64>) -> Option<Revoked> {
    match (payment_hash, minted_before) {
        (Some(bytes), None) => Some(Revoked::Payment(PaymentHash::from_bytes(bytes.try_into().ok()?))),
        (None, Some(time)) => Some(Revoked::MintedBefore(time.cast_unsigned())),
        _ => None,
    }
}
