//! The rows in one SQLite file: whole with nothing to set up, for one machine.

mod media;
mod retries;
mod rows;
mod search;
mod uploads;

#[cfg(test)]
mod tests;

use std::{ops::RangeInclusive, path::Path, time::Duration};

use async_trait::async_trait;
use sluice_common::muid::Muid;
use sqlx::{
    ConnectOptions, Connection, Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use super::{
    BeginError, CommitError, Committed, Content, ContentId, Database, DbError, DiscardedCopy, FinishedUpload,
    FinishedVariant, KeyUse, Listing, Media, MediaChange, NewUpload, Owner, Page, PaidUse, RetryError, RetryId,
    TokenUse, Usage, Variant, older::Older, search::Search,
};
use crate::store::{BlobStore, StoreKind};

/// How long a statement waits while another process writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a connection that others have. Well within the lease of an upload, so that whoever waits to
/// renew it can try again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The code of SQLite's `SQLITE_BUSY`: <https://sqlite.org/rescode.html#busy>.
const BUSY: &str = "5";

/// How long to wait before another try, where SQLite does not wait itself.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Each has a thread of its own.
const READERS: u32 = 4;

/// The rows in one SQLite file. What was committed survives a crash of the machine (WAL, synchronous FULL).
///
/// One connection writes, so that writers queue up in here and not at SQLite's lock, where they would poll; a few others
/// read, and never wait for the one.
#[derive(Debug)]
pub struct SqliteDatabase {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteDatabase {
    /// Opens the database in the file `path`, in a folder that exists, and brings its tables up to date. Where there is
    /// no file, makes one that only this user can read.
    ///
    /// Errors: the file cannot be made, opened or written; a migration was changed since it ran, or failed.
    pub async fn open(path: &Path) -> Result<Self, DbError> {
        // Never truncates. The files that SQLite puts beside it take its mode.
        let file = tokio::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).await;
        drop(file.map_err(sqlx::Error::Io)?);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let pool = || SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).idle_timeout(None).max_lifetime(None);
        let writer = pool()
            .max_connections(1)
            // SQLite may end a transaction itself, for instance where the disk is full. Sqlx then takes it for open, and
            // no other could ever begin on that connection.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }));
        let failed = |error| if is_damaged(&error) { DbError::Damaged(path.to_owned()) } else { error.into() };
        let writer = connect(&writer, &options.clone().journal_mode(SqliteJournalMode::Wal)).await.map_err(failed)?;
        migrate(&writer).await.map_err(|error| match error {
            MigrateError::Execute(error) => failed(error),
            error => error.into(),
        })?;
        let readers = pool().max_connections(READERS).connect_lazy_with(options.pragma("query_only", "on"));
        Ok(Self { writer, readers })
    }

    /// How the database goes about a search: `EXPLAIN QUERY PLAN`, line by line.
    pub async fn search_plan(&self, term: &str, now: OffsetDateTime) -> Result<Vec<String>, DbError> {
        search::plan(&mut *self.readers.acquire().await?, &Search::parse(term), now).await
    }

    /// Looks at the stored copy of a content for an upload of `size` bytes that is to end. Whoever writes does not wait.
    async fn older(
        &self,
        upload: ContentId,
        muid: Muid,
        variant: Variant,
        size: u64,
        store: &dyn BlobStore,
    ) -> Result<Older, CommitError> {
        let mut db = self.readers.acquire().await?;
        let sealing = uploads::pending(&mut db, upload).await?;
        let copy = media::stored(&mut db, muid, variant).await?;
        drop(db);
        Ok(Older::look(copy, size, sealing.as_ref(), store).await?)
    }

    /// A transaction that has the right to write from its start: one that asks for it after it has read can be refused.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }
}

/// Whether SQLite says that the file is no database, or not a whole one.
fn is_damaged(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    // SQLITE_CORRUPT and SQLITE_NOTADB: https://sqlite.org/rescode.html
    matches!(code.as_deref(), Some("11" | "26"))
}

/// Connects, and tries again while the file is locked: SQLite waits for most locks itself, but not for the one that it
/// needs to begin a write-ahead log, which of two servers that start at once on a new file one must wait for.
async fn connect(pool: &SqlitePoolOptions, options: &SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let end = Instant::now() + BUSY_TIMEOUT;
    loop {
        match pool.clone().connect_with(options.clone()).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(BUSY) && Instant::now() < end => {
                sleep(BUSY_PAUSE).await;
            }
            connected => return connected,
        }
    }
}

/// What makes the tables. It has its own table for what ran, and passes over what a newer program ran: migrations only
/// add.
pub(super) fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/backend/sqlite");
    migrator.dangerous_set_table_name("_sluice_backend_migrations");
    migrator.set_ignore_missing(true);
    migrator
}

/// In one transaction, for sqlx takes no lock of its own on SQLite: of two servers that start at once, one waits.
async fn migrate(writer: &SqlitePool) -> Result<(), MigrateError> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    // As `run`, whose future no task could take.
    migrator().run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await?;
    Ok(())
}

#[async_trait]
impl Database for SqliteDatabase {
    async fn close(&self) {
        self.readers.close().await;
        // The last to leave folds the write-ahead log into the file.
        self.writer.close().await;
    }

    async fn keys_in_use(&self) -> Result<Vec<KeyUse>, DbError> {
        let rows = sqlx::query("SELECT * FROM key_use ORDER BY name, fingerprint").fetch_all(&self.readers).await?;
        rows.iter().map(rows::key_use).collect()
    }

    async fn note_key(&self, key: &KeyUse) -> Result<(), DbError> {
        sqlx::query("INSERT INTO key_use (name, fingerprint) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(&key.name)
            .bind(&key.fingerprint)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    async fn forget_key(&self, key: &KeyUse) -> Result<bool, DbError> {
        let deleted = sqlx::query("DELETE FROM key_use WHERE name = ? AND fingerprint = ?")
            .bind(&key.name)
            .bind(&key.fingerprint)
            .execute(&self.writer)
            .await?;
        Ok(deleted.rows_affected() > 0)
    }

    async fn begin_upload(&self, upload: &NewUpload, now: OffsetDateTime) -> Result<ContentId, BeginError> {
        let mut tx = self.begin().await?;
        let content = uploads::begin(&mut tx, upload, now).await?;
        tx.commit().await?;
        Ok(content)
    }

    async fn renew_lease(&self, content: ContentId, until: OffsetDateTime) -> Result<bool, DbError> {
        let renewed = sqlx::query("UPDATE content SET lease_until = ? WHERE id = ? AND state = 'pending'")
            .bind(rows::micros(until))
            .bind(content.0)
            .execute(&self.writer)
            .await?;
        Ok(renewed.rows_affected() == 1)
    }

    async fn commit_upload(
        &self,
        upload: &FinishedUpload,
        store: &dyn BlobStore,
        now: OffsetDateTime,
    ) -> Result<Committed, CommitError> {
        loop {
            let older = self.older(upload.content, upload.muid, Variant::File, upload.size, store).await?;
            let mut tx = self.begin().await?;
            if let Some(committed) = uploads::finish(&mut tx, upload, &older, now).await? {
                tx.commit().await?;
                return Ok(committed);
            }
        }
    }

    async fn commit_variant(&self, variant: &FinishedVariant, store: &dyn BlobStore) -> Result<Content, CommitError> {
        loop {
            let older = self.older(variant.content, variant.muid, variant.variant, variant.size, store).await?;
            let mut tx = self.begin().await?;
            if let Some(content) = uploads::finish_variant(&mut tx, variant, &older).await? {
                tx.commit().await?;
                return Ok(content);
            }
        }
    }

    async fn abandon_upload(&self, content: ContentId) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        uploads::discard_pending(&mut tx, content).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn discarded(
        &self,
        store: StoreKind,
        after: Option<ContentId>,
        limit: u32,
        now: OffsetDateTime,
    ) -> Result<Vec<DiscardedCopy>, DbError> {
        let mut tx = self.begin().await?;
        uploads::end_leases(&mut tx, now).await?;
        let copies = uploads::discarded(&mut tx, store, after, limit).await?;
        tx.commit().await?;
        Ok(copies)
    }

    async fn forget(&self, content: ContentId) -> Result<(), DbError> {
        sqlx::query("DELETE FROM content WHERE id = ? AND state = 'discarded'")
            .bind(content.0)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    async fn content(&self, muid: Muid, variant: Variant) -> Result<Option<Content>, DbError> {
        media::stored(&mut *self.readers.acquire().await?, muid, variant).await
    }

    async fn media(&self, muid: Muid, preferred: &[Owner], now: OffsetDateTime) -> Result<Option<Media>, DbError> {
        media::first(&mut *self.readers.acquire().await?, muid, preferred, now).await
    }

    async fn owned(&self, owners: &[Owner], page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
        media::owned(&mut *self.readers.begin().await?, owners, page, now).await
    }

    async fn templates(&self, page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
        media::templates(&mut *self.readers.acquire().await?, page, now).await
    }

    async fn template(&self, muid: Muid, now: OffsetDateTime) -> Result<Option<Media>, DbError> {
        media::template(&mut *self.readers.acquire().await?, muid, now).await
    }

    async fn search(&self, term: &str, page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
        search::search(&mut *self.readers.begin().await?, &Search::parse(term), page, now).await
    }

    async fn purchase(&self, muid: Muid, owner: &Owner, now: OffsetDateTime) -> Result<Option<Media>, DbError> {
        media::purchase(&self.writer, muid, owner, now).await
    }

    async fn change_media(
        &self,
        muid: Muid,
        owner: &Owner,
        change: &MediaChange,
        now: OffsetDateTime,
    ) -> Result<Option<Media>, DbError> {
        media::change(&self.writer, muid, owner, change, now).await
    }

    async fn delete_media(&self, muid: Muid, owner: &Owner) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let deleted = media::delete(&mut tx, &muid.to_string(), owner.as_str()).await?;
        tx.commit().await?;
        Ok(deleted)
    }

    async fn expire(&self, now: OffsetDateTime, limit: u32) -> Result<u64, DbError> {
        // Mostly there are none, and who asks every second should hold up nobody who writes.
        if !media::any_expired(&mut *self.readers.acquire().await?, now).await? {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        let expired = media::expire(&mut tx, now, limit).await?;
        tx.commit().await?;
        Ok(expired)
    }

    async fn usage(&self, owner: &Owner) -> Result<Usage, DbError> {
        media::usage(&mut *self.readers.acquire().await?, owner).await
    }

    async fn owns_of_size(&self, owner: &Owner, sizes: RangeInclusive<u64>) -> Result<bool, DbError> {
        media::owns_of_size(&mut *self.readers.acquire().await?, owner, &sizes).await
    }

    async fn token_use(&self, paid: &PaidUse, now: OffsetDateTime) -> Result<TokenUse, DbError> {
        // One transaction, so that counters and list are of one moment.
        uploads::token_use(&mut *self.readers.begin().await?, paid, now).await
    }

    async fn begin_retry(
        &self,
        paid: &PaidUse,
        declared: Option<u64>,
        lease_until: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<RetryId, RetryError> {
        let mut tx = self.begin().await?;
        let retry = retries::begin(&mut tx, paid, declared, lease_until, now).await?;
        tx.commit().await?;
        Ok(retry)
    }

    async fn renew_retry(&self, retry: RetryId, until: OffsetDateTime) -> Result<(), DbError> {
        Ok(retries::set_lease(&mut *self.writer.acquire().await?, retry, Some(until)).await?)
    }

    async fn end_retry(&self, retry: RetryId) -> Result<(), DbError> {
        Ok(retries::set_lease(&mut *self.writer.acquire().await?, retry, None).await?)
    }

    async fn has_stored(&self, paid: &PaidUse, muid: Muid, owner: &Owner) -> Result<bool, DbError> {
        Ok(retries::has_stored(&mut *self.readers.acquire().await?, paid, muid, owner).await?)
    }
}
