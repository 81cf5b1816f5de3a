//! What is stored, whose it is and what was paid for, behind one trait.

#[cfg(test)]
pub(crate) mod contract;
mod model;
mod sqlite;

use async_trait::async_trait;
use sluice_common::muid::Muid;
use time::OffsetDateTime;

pub use self::{
    model::{
        BeginError, CommitError, Content, ContentId, CounterUse, DiscardedCopy, FinishedUpload, KeyUse, Media,
        NewMedia, NewUpload, Owner, PaidUse, Sealing, StoredUpload, TokenUse, UseCounter,
    },
    sqlite::SqliteDatabase,
};
use crate::store::{BlobStore, StoreKind};

/// The rows of the media server. Times are the caller's, so that a test can set the clock. Every implementation passes
/// the same contract suite.
#[async_trait]
pub trait Database: Send + Sync {
    /// The fingerprints of the keys that rows depend on.
    async fn keys_in_use(&self) -> Result<Vec<KeyUse>, DbError>;

    /// Notes that `key` is in use from now on; a second time changes nothing.
    async fn note_key(&self, key: &KeyUse) -> Result<(), DbError>;

    /// Forgets that `key` is in use. False: it was not.
    async fn forget_key(&self, key: &KeyUse) -> Result<bool, DbError>;

    /// Starts an upload: a pending content row with a lease and, for a paid one, a held use in each of its token's
    /// counters. Uploads of the token whose lease is over give theirs back first.
    async fn begin_upload(&self, upload: &NewUpload, now: OffsetDateTime) -> Result<ContentId, BeginError>;

    /// Extends the lease of a pending upload to `until`. False: it is pending no more (its lease was over, and swept).
    async fn renew_lease(&self, content: ContentId, until: OffsetDateTime) -> Result<bool, DbError>;

    /// In one transaction: makes the content final, the owner's media row new or up to date, and the held use spent.
    ///
    /// Where the content is already stored, that copy is looked at under the row's lock: whole and sealed under the same
    /// key (or like the new one under none), it stays and the new one is discarded; else it is discarded and the new one
    /// takes its place. A token that had stored this very content for this owner before is not charged again. What is
    /// discarded stands in [`Self::discarded`] at once.
    async fn commit_upload(
        &self,
        upload: &FinishedUpload,
        store: &dyn BlobStore,
        now: OffsetDateTime,
    ) -> Result<Media, CommitError>;

    /// Ends a pending upload that failed: gives its use back and marks its copy discarded. On any other row: nothing.
    async fn abandon_upload(&self, content: ContentId) -> Result<(), DbError>;

    /// At most `limit` copies to remove from this kind of store: discarded ones, and pending ones whose lease is over,
    /// which are marked discarded (and their uses given back) by this call, so that none of them can be committed any
    /// more. In the order of their rows; with `after`, those behind that row.
    async fn discarded(
        &self,
        store: StoreKind,
        after: Option<ContentId>,
        limit: u32,
        now: OffsetDateTime,
    ) -> Result<Vec<DiscardedCopy>, DbError>;

    /// Removes the row of a discarded copy, once the copy is gone. On any other row: nothing.
    async fn forget(&self, content: ContentId) -> Result<(), DbError>;

    /// The stored copy of a content.
    async fn content(&self, muid: Muid) -> Result<Option<Content>, DbError>;

    /// The row of `muid` that speaks for it: the first of `preferred` that owns it, else the oldest public one, else the
    /// oldest.
    async fn media(&self, muid: Muid, preferred: &[Owner]) -> Result<Option<Media>, DbError>;

    /// All rows of any of `owners`, newest first.
    async fn all_owned(&self, owners: &[Owner]) -> Result<Vec<Media>, DbError>;

    /// What became of a token: each counter's state, and what this very credential stored.
    async fn token_use(&self, paid: &PaidUse, now: OffsetDateTime) -> Result<TokenUse, DbError>;
}

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// The database failed or is away.
    #[error("the database: {0}")]
    Sqlx(#[from] sqlx::Error),
    /// The database's tables could not be brought up to date.
    #[error("the database's migrations: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this program never writes.
    #[error("the database holds a row that cannot be read: {0}")]
    Row(&'static str),
}
