//! How often tokens were used, in the ledger's database: of services whose server does not see the token, for the media
//! server counts itself.

mod postgres;
mod sql;
mod sqlite;

use async_trait::async_trait;
use sluice_common::l402::{Counter, PaymentHash};

use super::LedgerError;

/// The part of a ledger that counts uses. Every implementation passes the same contract suite.
#[async_trait]
pub trait UseDb: Send + Sync {
    /// Holds one use of each counter until `order.lease_until`, or none at all. Uses that others held too long end before
    /// that, as [`UseEnd::Unanswered`].
    async fn hold_use(&self, order: &UseOrder<'_>) -> Result<UseHold, NoUse>;

    /// Holds on until `until` (unix seconds).
    async fn renew_use(&self, hold: &UseHold, until: u64) -> Result<(), LedgerError>;

    /// Ends a hold. One that others have ended, for its time was over, is spent all the same, and else stays as they ended
    /// it.
    async fn end_use(&self, hold: &UseHold, end: UseEnd) -> Result<(), LedgerError>;
}

/// One use of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UseOrder<'a> {
    /// The payment.
    pub payment_hash: PaymentHash,
    /// Its limits, the one that was sold first; at least one.
    pub counters: &'a [Counter],
    /// Until when it is held, in unix seconds.
    pub lease_until: u64,
    /// This moment, in unix seconds.
    pub now: u64,
}

/// A use that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseHold {
    /// What it is known by: random.
    id: [u8; 16],
    payment_hash: PaymentHash,
    /// Of which counters, the one that was sold first.
    counters: Vec<[u8; 32]>,
}

/// What becomes of a use that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UseEnd {
    /// It bought something.
    Spent,
    /// It bought nothing.
    GivenBack,
    /// Nobody knows: the server behind got the request and did not answer. Given back three times in a row, then spent.
    Unanswered,
}

/// Why there is no use.
#[derive(Debug, thiserror::Error)]
pub enum NoUse {
    /// All were spent.
    #[error("the token has been used as often as it allows")]
    UsedUp,
    /// All that are left are held by others.
    #[error("the last uses of the token are under way")]
    InUse,
    /// The database.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<sqlx::Error> for NoUse {
    fn from(error: sqlx::Error) -> Self {
        Self::Ledger(error.into())
    }
}

impl UseOrder<'_> {
    /// The hold that it will be.
    fn hold(&self) -> UseHold {
        UseHold {
            id: rand::random(),
            payment_hash: self.payment_hash,
            counters: self.counters.iter().map(|counter| counter.id).collect(),
        }
    }
}

/// Whether a counter has room where so many uses were spent and so many are held.
fn room(counter: &Counter, spent: u64, held: u64) -> Result<(), NoUse> {
    if spent >= counter.max_uses {
        Err(NoUse::UsedUp)
    } else if spent.saturating_add(held) >= counter.max_uses {
        Err(NoUse::InUse)
    } else {
        Ok(())
    }
}
