//! The rows in a PostgreSQL database, which any number of backends can share.

mod media;
mod retries;
mod rows;
mod search;
mod uploads;

#[cfg(test)]
mod tests;

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use sluice_common::{muid::Muid, secret::Secret};
use sqlx::{
    ConnectOptions, Connection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{
    BeginError, CommitError, Content, ContentId, Database, DbError, DiscardedCopy, FinishedUpload, FinishedVariant,
    KeyUse, LegacyCopy, Listing, Media, MediaChange, NewUpload, Owner, Page, PaidUse, RetryError, RetryId, Sealing,
    TokenUse, Usage, Variant, search::Search,
};
use crate::store::{BlobStore, StoreKind};

/// How long migrations may take, with those of a backend that started at the same moment: a table of millions is rewritten.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Begins a transaction that sees one moment.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How a PostgreSQL database is used.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// `postgres://…`, as libpq reads it: with `sslmode` and `sslrootcert`, if they are wanted.
    pub url: Secret<String>,
    /// The most connections.
    pub max_connections: u32,
    /// How long to wait for a connection. While the database is away, that is how long it takes to know.
    pub acquire_timeout: Duration,
    /// How long a statement may take, and how long it may wait for a lock.
    pub statement_timeout: Duration,
    /// Whether a file is public of which sphinx-meme did not know.
    pub legacy_public: bool,
}

impl PostgresConfig {
    /// The database at `url`, with what is usual for the rest.
    pub fn new(url: Secret<String>) -> Self {
        Self {
            url,
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            legacy_public: true,
        }
    }

    /// Whether the URL can be read, and the files that it names. Asks nobody.
    pub fn check(&self) -> Result<(), DbError> {
        connect_options(&self.url).map(drop)
    }
}

/// What is in a PostgreSQL database before a media server starts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresState {
    /// A media server's tables.
    Ours,
    /// The table that sphinx-meme made, which the first start adopts.
    Legacy,
    /// Nothing of either.
    Empty,
}

/// The rows in a PostgreSQL database. It may go away and come back.
#[derive(Debug)]
pub struct PostgresDatabase {
    pool: PgPool,
    legacy_public: bool,
    /// How long a call may take: a server that is cut off does not say so.
    call_timeout: Duration,
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
            .connect_lazy_with(options);
        let call_timeout = acquire_timeout + statement_timeout * 2;
        Ok(Self { pool, legacy_public: config.legacy_public, call_timeout })
    }

    /// Says what is in a database, and changes nothing in it.
    pub async fn look(config: &PostgresConfig) -> Result<PostgresState, DbError> {
        let look = async {
            let mut connection = connect_options(&config.url)?.connect().await?;
            let query =
                "SELECT to_regclass('_sluice_backend_migrations') IS NOT NULL, to_regclass('media') IS NOT NULL";
            let there: (bool, bool) = sqlx::query_as(query).fetch_one(&mut connection).await?;
            connection.close().await?;
            Ok(match there {
                (true, _) => PostgresState::Ours,
                (false, true) => PostgresState::Legacy,
                (false, false) => PostgresState::Empty,
            })
        };
        let limit = config.acquire_timeout;
        timeout(limit, look).await.unwrap_or(Err(DbError::Timeout(limit)))
    }

    /// How the database goes about a search: `EXPLAIN (ANALYZE, BUFFERS)`, line by line.
    pub async fn search_plan(&self, term: &str, now: OffsetDateTime) -> Result<Vec<String>, DbError> {
        let search = Search::parse(term);
        self.bounded(async {
            search::plan(&mut *self.pool.begin_with(SNAPSHOT).await?, &search, now, self.legacy_public).await
        })
        .await
    }

    async fn bounded<T, E: From<DbError>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        timeout(self.call_timeout, call).await.unwrap_or_else(|_| Err(DbError::Timeout(self.call_timeout).into()))
    }
}

/// Reads a URL. What the reader itself says of a bad one may quote from it, so it is not told.
fn connect_options(url: &Secret<String>) -> Result<PgConnectOptions, DbError> {
    let is_ours = ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
    let options: PgConnectOptions = url.expose().parse().ok().filter(|_| is_ours).ok_or(DbError::Url)?;
    // Else one that is missing would look like a server that is.
    for path in tls_files(url.expose()) {
        std::fs::File::open(&path).map_err(|source| DbError::TlsFile { path, source })?;
    }
    // What is bound to a statement may be nobody else's business: no statement is logged.
    Ok(options.application_name("sluice-backend").disable_statement_logging())
}

/// The files that a URL names for TLS. sqlx takes the text of a certificate in their place, too.
fn tls_files(url: &str) -> Vec<PathBuf> {
    const NAMES: [&str; 7] = ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| NAMES.contains(name));
    let paths = values.map(|(_, path)| percent_decode_str(path).decode_utf8_lossy().into_owned());
    paths.filter(|path| !path.contains("-----BEGIN")).map(PathBuf::from).collect()
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
        self.bounded(async {
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
    ) -> Result<Media, CommitError> {
        self.bounded(async {
            let mut tx = self.pool.begin().await?;
            let media = uploads::finish(&mut tx, upload, store, now).await?;
            tx.commit().await?;
            Ok(media)
        })
        .await
    }

    async fn abandon_upload(&self, content: ContentId) -> Result<(), DbError> {
        self.bounded(async {
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
        self.bounded(async {
            let forget = sqlx::query("DELETE FROM content WHERE id = $1 AND state = 'discarded'").bind(content.0);
            forget.execute(&self.pool).await?;
            Ok(())
        })
        .await
    }

    async fn commit_variant(&self, variant: &FinishedVariant, store: &dyn BlobStore) -> Result<Content, CommitError> {
        self.bounded(async {
            let mut tx = self.pool.begin().await?;
            let content = uploads::finish_variant(&mut tx, variant, store).await?;
            tx.commit().await?;
            Ok(content)
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
