//! What is stored, whose it is and what was paid for, behind one trait.

mod classes;
#[cfg(test)]
pub(crate) mod contract;
mod model;
mod older;
mod page;
mod postgres;
mod quota;
mod retry;
mod rows;
mod search;
mod sqlite;
mod statements;

use std::{io, ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use sluice_common::muid::Muid;
use sqlx::migrate::MigrateError;
use time::OffsetDateTime;

pub(crate) use self::postgres::{answers, connect_options};
pub use self::{
    model::{
        BeginError, CommitError, Committed, Content, ContentId, CounterUse, DiscardedCopy, FinishedUpload,
        FinishedVariant, KeyUse, LegacyCopy, Media, MediaChange, NewMedia, NewUpload, Owner, PaidUse, Sealing,
        StoredUpload, TokenUse, UseCounter, Variant,
    },
    page::{Cursor, InvalidCursor, Listing, Page},
    postgres::{PostgresConfig, PostgresDatabase, PostgresState},
    quota::{OverQuota, Quota, Usage},
    retry::{RetryError, RetryId},
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
    /// Where the content is already stored, that copy is looked at first, while nobody waits: whole and sealed under the
    /// same key (or like the new one under none), it stays and the new one is discarded; else it is discarded and the new
    /// one takes its place. If by then another copy is the stored one, that one is looked at. A token that had stored this very content for this owner before is not charged again. What is
    /// discarded stands in [`Self::discarded`] at once. Whoever deletes the last row of a content meanwhile waits for this
    /// or is waited for, so that what is committed has its content.
    ///
    /// A row of the owner's that is expired, but not swept, is as good as gone: it is made anew.
    async fn commit_upload(
        &self,
        upload: &FinishedUpload,
        store: &dyn BlobStore,
        now: OffsetDateTime,
    ) -> Result<Committed, CommitError>;

    /// In one transaction: makes a picture of a stored file final. Where there is such a picture already, one of both is
    /// kept, as [`Self::commit_upload`] chooses. Returns the one that is.
    async fn commit_variant(&self, variant: &FinishedVariant, store: &dyn BlobStore) -> Result<Content, CommitError>;

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

    /// The stored copy of a content, or of a picture of it.
    async fn content(&self, muid: Muid, variant: Variant) -> Result<Option<Content>, DbError>;

    /// The row of `muid` that speaks for it: the first of `preferred` that owns it, else the oldest public one, else the
    /// oldest. Among the preferred, and among the others, rows that are expired at `now` come last; one is given only
    /// where there is no better, for the caller to say that it is gone.
    async fn media(&self, muid: Muid, preferred: &[Owner], now: OffsetDateTime) -> Result<Option<Media>, DbError>;

    /// The rows of any of `owners`, newest first, without those that are expired at `now`.
    async fn owned(&self, owners: &[Owner], page: &Page, now: OffsetDateTime) -> Result<Listing, DbError>;

    /// The templates of all owners, newest first, without those that are expired at `now`.
    async fn templates(&self, page: &Page, now: OffsetDateTime) -> Result<Listing, DbError>;

    /// The row of `muid` that speaks for it as a template: the oldest that is one, else the oldest that was measured, as
    /// the old server did not say which are templates. One that is expired at `now` only where there is no other.
    async fn template(&self, muid: Muid, now: OffsetDateTime) -> Result<Option<Media>, DbError>;

    /// Public media and media for sale that `term` finds, best first, then newest; each content once, by its best row.
    /// Without those that are expired at `now`.
    ///
    /// Any text is a search: words must all be there, `"words in quotes"` in this order, `or` begins another choice,
    /// `-word` must not be there, and the last word may be the begin of one. Best is what has all of it in the name, then
    /// in name and description, then with the tags; in each whole words before begins. What is written between two pages
    /// neither hides nor repeats others.
    async fn search(&self, term: &str, page: &Page, now: OffsetDateTime) -> Result<Listing, DbError>;

    /// Notes that somebody bought the owner's file, for its price. None: no such row, or an expired one.
    async fn purchase(&self, muid: Muid, owner: &Owner, now: OffsetDateTime) -> Result<Option<Media>, DbError>;

    /// Changes what the owner says of a file. None: no such row, or an expired one.
    async fn change_media(
        &self,
        muid: Muid,
        owner: &Owner,
        change: &MediaChange,
        now: OffsetDateTime,
    ) -> Result<Option<Media>, DbError>;

    /// Deletes the owner's row, expired or not; with the last row of a content, the content and the pictures of it are
    /// discarded. False: there is no such row.
    async fn delete_media(&self, muid: Muid, owner: &Owner) -> Result<bool, DbError>;

    /// Deletes at most `limit` rows that are expired at `now`, as [`Self::delete_media`] does. Says how many; fewer than
    /// `limit`: there were no more, or another server is at them.
    async fn expire(&self, now: OffsetDateTime, limit: u32) -> Result<u64, DbError>;

    /// What an owner has.
    async fn usage(&self, owner: &Owner) -> Result<Usage, DbError>;

    /// Whether an owner has a file whose length in bytes is one of `sizes`.
    async fn owns_of_size(&self, owner: &Owner, sizes: RangeInclusive<u64>) -> Result<bool, DbError>;

    /// What became of a token: each counter's state, and what this very credential stored.
    async fn token_use(&self, paid: &PaidUse, now: OffsetDateTime) -> Result<TokenUse, DbError>;

    /// Begins a retry: an upload with a token that is used up, of this declared length, to be compared with what this very
    /// credential stored. Its lease ends at `lease_until`; others of the credential wait until it has ended.
    async fn begin_retry(
        &self,
        paid: &PaidUse,
        declared: Option<u64>,
        lease_until: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<RetryId, RetryError>;

    /// Extends the lease of a retry to `until`, unless it has ended.
    async fn renew_retry(&self, retry: RetryId, until: OffsetDateTime) -> Result<(), DbError>;

    /// Ends a retry. It goes on counting for an hour from its begin.
    async fn end_retry(&self, retry: RetryId) -> Result<(), DbError>;

    /// Whether this very credential paid for an upload of this content for this owner.
    async fn has_stored(&self, paid: &PaidUse, muid: Muid, owner: &Owner) -> Result<bool, DbError>;

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
    /// Bytes of the file changed, or it is another kind of file.
    #[error(
        "the database {} is damaged, or no database: restore it from the backup (docs/OPERATING.md, Restore)",
        .0.display()
    )]
    Damaged(PathBuf),
    /// The database was away a moment ago, and nobody has found it back yet.
    #[error("the database is away")]
    Away,
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
            Self::Timeout(_) | Self::Away => true,
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

/// Unix microseconds, rounded down: all that rows keep of a time.
fn micros(time: OffsetDateTime) -> i64 {
    // A year has four digits at most, so this always fits.
    time.unix_timestamp_nanos().div_euclid(1_000) as i64
}

fn from_micros(micros: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()
}
