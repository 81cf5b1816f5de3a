//! The rows in a PostgreSQL database, which any number of backends can share.

mod connect;
mod media;
mod outage;
mod retries;
mod rows;
mod search;
mod uploads;

#[cfg(test)]
mod tests;

use std::{ops::RangeInclusive, time::Duration};

use async_trait::async_trait;
use sluice_common::muid::Muid;
use sqlx::{ConnectOptions, Connection, PgPool, migrate::Migrator, postgres::PgPoolOptions};
use time::OffsetDateTime;
use tokio::time::timeout;

pub use self::connect::{PostgresConfig, PostgresState};
pub(crate) use self::connect::{answers, connect_options};
use self::outage::{Failure, Outage};
use super::{
    BeginError, CommitError, Committed, Content, ContentId, Database, DbError, DiscardedCopy, FinishedUpload,
    FinishedVariant, KeyUse, LegacyCopy, Listing, Media, MediaChange, NewUpload, Owner, Page, PaidUse, RetryError,
    RetryId, Sealing, TokenUse, Usage, Variant, older::Older, search::Search,
};
use crate::store::{BlobStore, StoreKind};

/// How long migrations may take, with those of a backend that started at the same moment: a table of millions is rewritten.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Begins a transaction that sees one moment.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The rows in a PostgreSQL database. It may go away and come back.
#[derive(Debug)]
pub struct PostgresDatabase {
    pool: PgPool,
    legacy_public: bool,
    /// How long a call may take: a server that is cut off does not say so.
    call_timeout: Duration,
    outage: Outage,
}

impl PostgresDatabase {
    /// Connects to the database and brings its tables up to date; adopts what sphinx-meme left there.
    ///
    /// Errors: [`DbError::is_away`] where it makes sense to try again later.
    pub async fn open(config: &PostgresConfig) -> Result<Self, DbError> {
        let PostgresConfig { acquire_timeout, statement_timeout, .. } = *config;
        let options = connect_options(&config.url)?;
        // One connection without the pool, whose errors say only that it took too long; and no statement of a migration
        // takes too long.
        let connecting = timeout(acquire_timeout, options.connect());
        let mut connection = connecting.await.map_err(|_| DbError::Timeout(acquire_timeout))??;
        // As `run`, whose future no task could take. It locks, so that of several that start at once the others wait.
        let migrator = migrator();
        let migrating = timeout(MIGRATE_TIMEOUT, migrator.run_direct(None, &mut connection, false));
        migrating.await.map_err(|_| DbError::Timeout(MIGRATE_TIMEOUT))??;
        connection.close().await?;

        // The second: whoever holds locks and is heard of no more (its machine died) gives them up.
        let millis = statement_timeout.as_millis().to_string();
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(acquire_timeout)
            .after_connect(move |connection, _| {
                let millis = millis.clone();
                Box::pin(async move {
                    let set = "SELECT set_config('statement_timeout', $1, FALSE), \
                        set_config('idle_in_transaction_session_timeout', $1, FALSE)";
                    sqlx::query(set).bind(millis).execute(connection).await.map(drop)
                })
            })
            .after_release(|connection, _| Box::pin(answers(connection)))
            .connect_lazy_with(options.clone());
        let call_timeout = acquire_timeout + statement_timeout * 2;
        let outage = Outage::new(options, acquire_timeout);
        Ok(Self { pool, legacy_public: config.legacy_public, call_timeout, outage })
    }

    /// How the database goes about a search: `EXPLAIN (ANALYZE, BUFFERS)`, line by line.
    pub async fn search_plan(&self, term: &str, now: OffsetDateTime) -> Result<Vec<String>, DbError> {
        let search = Search::parse(term);
        self.bounded(async {
            search::plan(&mut *self.pool.begin_with(SNAPSHOT).await?, &search, now, self.legacy_public).await
        })
        .await
    }

    /// Looks at the stored copy of a content for an upload of `size` bytes that is to end. No lock is held, and no
    /// connection.
    async fn older(
        &self,
        upload: ContentId,
        muid: Muid,
        variant: Variant,
        size: u64,
        store: &dyn BlobStore,
    ) -> Result<Older, CommitError> {
        let mut db = self.pool.acquire().await?;
        let sealing = uploads::pending(&mut db, upload).await?;
        let copy = media::stored(&mut db, muid, variant).await?;
        drop(db);
        Ok(Older::look(copy, size, sealing.as_ref(), store).await?)
    }

    /// A call that can as well be made later: while the database is known to be away, it fails at once.
    async fn bounded<T, E: From<DbError> + Failure>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        if self.outage.is_known() { Err(DbError::Away.into()) } else { self.patient(call).await }
    }

    /// A call with which an upload ends or lives on: it waits for the database to come back, as long as for a connection.
    async fn patient<T, E: From<DbError> + Failure>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let called = timeout(self.call_timeout, call).await;
        let called = called.unwrap_or_else(|_| Err(DbError::Timeout(self.call_timeout).into()));
        match &called {
            Err(error) if error.is_away() => self.outage.suspect(),
            Err(_) => {}
            Ok(_) => self.outage.is_over(),
        }
        called
    }
}

/// What makes the tables. It has its own table for what ran, and passes over what a newer program ran: migrations only
/// add.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/backend/postgres");
    migrator.dangerous_set_table_name("_sluice_backend_migrations");
    migrator.set_ignore_missing(true);
    migrator
}

#[async_trait]
impl Database for PostgresDatabase {
    async fn close(&self) {
        self.outage.stop();
        self.pool.close().await;
    }

    async fn keys_in_use(&self) -> Result<Vec<KeyUse>, DbError> {
        self.bounded(async {
            let rows = sqlx::query("SELECT * FROM key_use ORDER BY name, fingerprint").fetch_all(&self.pool).await?;
            rows.iter().map(rows::key_use).collect()
        })
        .await
    }

    async fn note_key(&self, key: &KeyUse) -> Result<(), DbError> {
        let note = sqlx::query("INSERT INTO key_use (name, fingerprint) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        self.bounded(async {
            note.bind(&key.name).bind(&key.fingerprint).execute(&self.pool).await?;
            Ok(())
        })
        .await
    }

    async fn forget_key(&self, key: &KeyUse) -> Result<bool, DbError> {
        let forget = sqlx::query("DELETE FROM key_use WHERE name = $1 AND fingerprint = $2");
        self.bounded(async {
            let deleted = forget.bind(&key.name).bind(&key.fingerprint).execute(&self.pool).await?;
            Ok(deleted.rows_affected() > 0)
        })
        .await
    }

    async fn begin_upload(&self, upload: &NewUpload, now: OffsetDateTime) -> Result<ContentId, BeginError> {
        self.bounded(async {
            let mut tx = self.pool.begin().await?;
            let content = uploads::begin(&mut tx, upload, now).await?;
            tx.commit().await?;
            Ok(content)
        })
        .await
    }

    async fn renew_lease(&self, content: ContentId, until: OffsetDateTime) -> Result<bool, DbError> {
        let renew = sqlx::query("UPDATE content SET lease_until = $2 WHERE id = $1 AND state = 'pending'");
        self.patient(async {
            let renewed = renew.bind(content.0).bind(until).execute(&self.pool).await?;
            Ok(renewed.rows_affected() == 1)
        })
        .await
    }

    async fn commit_upload(
        &self,
        upload: &FinishedUpload,
        store: &dyn BlobStore,
        now: OffsetDateTime,
    ) -> Result<Committed, CommitError> {
        self.patient(async {
            loop {
                let older = self.older(upload.content, upload.muid, Variant::File, upload.size, store).await?;
                let mut tx = self.pool.begin().await?;
                if let Some(committed) = uploads::finish(&mut tx, upload, &older, store.kind(), now).await? {
                    tx.commit().await?;
                    return Ok(committed);
                }
            }
        })
        .await
    }

    async fn abandon_upload(&self, content: ContentId) -> Result<(), DbError> {
        self.patient(async {
            let mut tx = self.pool.begin().await?;
            uploads::discard_pending(&mut tx, content).await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    async fn discarded(
        &self,
        store: StoreKind,
        after: Option<ContentId>,
        limit: u32,
        now: OffsetDateTime,
    ) -> Result<Vec<DiscardedCopy>, DbError> {
        self.bounded(async {
            let mut tx = self.pool.begin().await?;
            uploads::end_leases(&mut tx, now).await?;
            let copies = uploads::discarded(&mut tx, store, after, limit).await?;
            tx.commit().await?;
            Ok(copies)
        })
        .await
    }

    async fn forget(&self, content: ContentId) -> Result<(), DbError> {
        self.patient(async {
            let forget = sqlx::query("DELETE FROM content WHERE id = $1 AND state = 'discarded'").bind(content.0);
            forget.execute(&self.pool).await?;
            Ok(())
        })
        .await
    }

    async fn commit_variant(&self, variant: &FinishedVariant, store: &dyn BlobStore) -> Result<Content, CommitError> {
        self.patient(async {
            loop {
                let older = self.older(variant.content, variant.muid, variant.variant, variant.size, store).await?;
                let mut tx = self.pool.begin().await?;
                if let Some(content) = uploads::finish_variant(&mut tx, variant, &older).await? {
                    tx.commit().await?;
                    return Ok(content);
                }
            }
        })
        .await
    }

    async fn content(&self, muid: Muid, variant: Variant) -> Result<Option<Content>, DbError> {
        self.bounded(async { media::stored(&mut *self.pool.acquire().await?, muid, variant).await }).await
    }

    async fn media(&self, muid: Muid, preferred: &[Owner], now: OffsetDateTime) -> Result<Option<Media>, DbError> {
        self.bounded(async {
            media::first(&mut *self.pool.acquire().await?, muid, preferred, now, self.legacy_public).await
        })
        .await
    }

    async fn owned(&self, owners: &[Owner], page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
        self.bounded(async {
            let mut tx = self.pool.begin_with(SNAPSHOT).await?;
            media::owned(&mut tx, owners, page, now, self.legacy_public).await
        })
        .await
    }

    async fn templates(&self, page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
        self.bounded(async { media::templates(&mut *self.pool.acquire().await?, page, now, self.legacy_public).await })
            .await
    }

    async fn template(&self, muid: Muid, now: OffsetDateTime) -> Result<Option<Media>, DbError> {
        self.bounded(async { media::template(&mut *self.pool.acquire().await?, muid, now, self.legacy_public).await })
            .await
    }

    async fn search(&self, term: &str, page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
        self.bounded(async {
            let search = Search::parse(term);
            let mut tx = self.pool.begin_with(SNAPSHOT).await?;
            search::search(&mut tx, &search, page, now, self.legacy_public).await
        })
        .await
    }

    async fn purchase(&self, muid: Muid, owner: &Owner, now: OffsetDateTime) -> Result<Option<Media>, DbError> {
        self.bounded(media::purchase(&self.pool, muid, owner, now, self.legacy_public)).await
    }

    async fn change_media(
        &self,
        muid: Muid,
        owner: &Owner,
        change: &MediaChange,
        now: OffsetDateTime,
    ) -> Result<Option<Media>, DbError> {
        self.bounded(media::change(&self.pool, muid, owner, change, now, self.legacy_public)).await
    }

    async fn delete_media(&self, muid: Muid, owner: &Owner) -> Result<bool, DbError> {
        self.bounded(async {
            let mut tx = self.pool.begin().await?;
            let deleted = media::delete(&mut tx, &muid.to_string(), owner.as_str(), None).await?;
            tx.commit().await?;
            Ok(deleted)
        })
        .await
    }

    async fn expire(&self, now: OffsetDateTime, limit: u32) -> Result<u64, DbError> {
        let expired = self.bounded(media::expired(&self.pool, now, limit)).await?;
        let mut deleted = 0;
        // Each on its own: who holds the lock of one content waits for no other.
        for (muid, owner) in expired {
            let delete = async {
                let mut tx = self.pool.begin().await?;
                let is_deleted = media::delete(&mut tx, &muid, &owner, Some(now)).await?;
                tx.commit().await?;
                Ok::<_, DbError>(is_deleted)
            };
            deleted += u64::from(self.bounded(delete).await?);
        }
        Ok(deleted)
    }

    async fn usage(&self, owner: &Owner) -> Result<Usage, DbError> {
        self.bounded(async { media::usage(&mut *self.pool.acquire().await?, owner).await }).await
    }

    async fn owns_of_size(&self, owner: &Owner, sizes: RangeInclusive<u64>) -> Result<bool, DbError> {
        self.bounded(async { media::owns_of_size(&mut *self.pool.acquire().await?, owner, &sizes).await }).await
    }

    async fn token_use(&self, paid: &PaidUse, now: OffsetDateTime) -> Result<TokenUse, DbError> {
        self.bounded(async {
            // One snapshot, so that counters and list are of one moment.
            let mut tx = self.pool.begin_with(SNAPSHOT).await?;
            uploads::token_use(&mut tx, paid, now).await
        })
        .await
    }

    async fn begin_retry(
        &self,
        paid: &PaidUse,
        declared: Option<u64>,
        lease_until: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<RetryId, RetryError> {
        self.bounded(async {
            let mut tx = self.pool.begin().await?;
            let retry = retries::begin(&mut tx, paid, declared, lease_until, now).await?;
            tx.commit().await?;
            Ok(retry)
        })
        .await
    }

    async fn renew_retry(&self, retry: RetryId, until: OffsetDateTime) -> Result<(), DbError> {
        self.bounded(async { Ok(retries::set_lease(&mut *self.pool.acquire().await?, retry, Some(until)).await?) })
            .await
    }

    async fn end_retry(&self, retry: RetryId) -> Result<(), DbError> {
        self.bounded(async { Ok(retries::set_lease(&mut *self.pool.acquire().await?, retry, None).await?) }).await
    }

    async fn has_stored(&self, paid: &PaidUse, muid: Muid, owner: &Owner) -> Result<bool, DbError> {
        self.bounded(async { Ok(retries::has_stored(&mut *self.pool.acquire().await?, paid, muid, owner).await?) })
            .await
    }

    async fn legacy_copy(&self, muid: Muid) -> Result<Option<LegacyCopy>, DbError> {
        self.bounded(async { media::legacy(&mut *self.pool.acquire().await?, muid).await }).await
    }

    async fn legacy_copies(&self, after: Option<ContentId>, limit: u32) -> Result<Vec<LegacyCopy>, DbError> {
        self.bounded(async { media::all_legacy(&mut *self.pool.acquire().await?, after, limit).await }).await
    }

    async fn adopt(
        &self,
        copy: ContentId,
        store: StoreKind,
        sealing: Option<&Sealing>,
        size: u64,
    ) -> Result<(), DbError> {
        self.bounded(async {
            let mut tx = self.pool.begin().await?;
            media::adopt(&mut tx, copy, store, sealing, size).await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    async fn of_unknown_publicity(&self) -> Result<u64, DbError> {
        self.bounded(async {
            let count: i64 =
                sqlx::query_scalar("SELECT count(*) FROM media WHERE public IS NULL").fetch_one(&self.pool).await?;
            Ok(count.unsigned_abs())
        })
        .await
    }
}
