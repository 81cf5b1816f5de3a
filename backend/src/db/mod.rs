//! What is stored, whose it is and what was paid for, behind one trait.

#[cfg(test)]
pub(crate) mod contract;
mod model;
mod postgres;
mod sqlite;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use sluice_common::muid::Muid;
use sqlx::migrate::MigrateError;
use time::OffsetDateTime;

pub use self::{
    model::{
        BeginError, CommitError, Content, ContentId, CounterUse, DiscardedCopy, FinishedUpload, KeyUse, LegacyCopy,
        Media, NewMedia, NewUpload, Owner, PaidUse, Sealing, StoredUpload, TokenUse, UseCounter,
    },
    postgres::{PostgresConfig, PostgresDatabase, PostgresState},
    sqlite::SqliteDatabase,
};
use crate::{
    config::DatabaseConfig,
    store::{BlobStore, StoreKind},
};

/// Opens the database that is configured, and brings its tables up to date.
pub async fn open(config: &DatabaseConfig) -> Result<Arc<dyn Database>, DbError> {
    Ok(match config {
        DatabaseConfig::Sqlite { path } => Arc::new(SqliteDatabase::open(path).await?),
        DatabaseConfig::Postgres(config) => Arc::new(PostgresDatabase::open(config).await?),
    })
}

/// The rows of the media server. Times are the caller's, so that a test can set the clock. Every implementation passes
/// the same contract suite.
#[async_trait]
pub trait Database: Send + Sync {
    /// Ends once all that is under way is done. Whoever asks after that gets an error.
    async fn close(&self);

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

    /// The copy of a content that sphinx-meme stored, as long as it was not adopted: [`Self::content`] says nothing of
    /// it. Only a database that sphinx-meme used has any.
    async fn legacy_copy(&self, _muid: Muid) -> Result<Option<LegacyCopy>, DbError> {
        Ok(None)
    }

    /// At most `limit` of all those, in the order of their rows; with `after`, those behind that row.
    async fn legacy_copies(&self, _after: Option<ContentId>, _limit: u32) -> Result<Vec<LegacyCopy>, DbError> {
        Ok(vec![])
    }

    /// Makes a legacy copy one like all others: in `store`, sealed like this, of a file of `size` bytes. On any other row:
    /// nothing.
    async fn adopt(
        &self,
        _copy: ContentId,
        _store: StoreKind,
        _sealing: Option<&Sealing>,
        _size: u64,
    ) -> Result<(), DbError> {
        Ok(())
    }

    /// How many rows sphinx-meme left that do not say whether their file is public.
    async fn of_unknown_publicity(&self) -> Result<u64, DbError> {
        Ok(0)
    }
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
    Migrate(#[from] MigrateError),
    /// The database did not answer in time.
    #[error("the database did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Not `postgres://…`, or not one that can be read.
    #[error("not a URL of a PostgreSQL database; use postgres://USER:PASSWORD@HOST/NAME")]
    Url,
    /// A certificate or key that the URL names cannot be read.
    #[error("the database's URL names {}: {source}", path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A row holds what this program never writes.
    #[error("the database holds a row that cannot be read: {0}")]
    Row(&'static str),
}

impl DbError {
    /// Whether the database cannot be asked now and may be later: it is away, starting, stopping or overloaded.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::Sqlx(error) => is_away(error),
            Self::Migrate(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => is_away(error),
            _ => false,
        }
    }
}

fn is_away(error: &sqlx::Error) -> bool {
    match error {
        // How rustls says that it does not trust the server.
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        // Classes of PostgreSQL: no connection, no room, an operator's intervention. SQLite's codes are numbers of one
        // to four digits. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.len() == 5 && ["08", "53", "57"].iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}
