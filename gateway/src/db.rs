//! The gateway's own SQLite file. Nothing is in it that a token's worth depends on.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::{Instant, sleep};

/// How long a statement waits for another process's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The code of SQLite's `SQLITE_BUSY`: <https://sqlite.org/rescode.html#busy>.
const BUSY: &str = "5";

/// How long to wait before another try, where SQLite does not wait itself.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

const MAX_READERS: u32 = 4;

/// The gateway's database: one connection that writes, so that writers queue instead of failing, and several that read
/// meanwhile. Clones share them.
#[derive(Debug, Clone)]
pub struct GatewayDb {
    writer: SqlitePool,
    reader: SqlitePool,
}

/// What to do about a database that is damaged.
pub(crate) const RESTORE: &str = "restore it from the backup (docs/OPERATING.md, Restore)";

/// Why the gateway's database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened, or is no SQLite database.
    #[error("the gateway's database {}: {source}", path.display())]
    Sqlx {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// Bytes of it changed, or it is another kind of file.
    #[error("the gateway's database {} is damaged, or no database: {RESTORE}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Its tables could not be brought up to date.
    #[error("the migrations of the gateway's database {}: {source}", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Which one failed, and how.
        source: MigrateError,
    },
}

impl GatewayDb {
    /// Opens the SQLite file at `path`, and brings its tables up to date. Where there is no file, makes one that only
    /// this user can read; its folder must exist.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| match source {
            source if is_damaged(&source) => OpenError::Damaged { path: path.to_owned() },
            source => OpenError::Sqlx { path: path.to_owned(), source },
        };
        // Never truncates. The files that SQLite puts beside it take its mode.
        let file = tokio::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).await;
        drop(file.map_err(|cause| failed(sqlx::Error::Io(cause)))?);
        // What is bound to a statement may be nobody else's business: no statement is logged.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();

        let writing = options.clone().journal_mode(SqliteJournalMode::Wal);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            // SQLite may end a transaction itself, for instance where the disk is full. Sqlx then takes it for open, and
            // no other could ever begin on that connection.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }));
        let writer = connect(&writer, &writing).await.map_err(failed)?;
        migrate(&writer).await.map_err(|source| match source {
            MigrateError::Execute(source) => failed(source),
            source => OpenError::Migrate { path: path.to_owned(), source },
        })?;

        let reading = options.pragma("query_only", "ON");
        let reader =
            SqlitePoolOptions::new().max_connections(MAX_READERS).connect_with(reading).await.map_err(failed)?;
        Ok(Self { writer, reader })
    }

    /// Begins a transaction that writes. It holds SQLite's write lock from the start: one that only then found that it
    /// must write would fail where another had written in between.
    pub async fn write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    /// The connections that read.
    pub fn reader(&self) -> &SqlitePool {
        &self.reader
    }

    /// Closes every connection, once those in use are given back.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Whether SQLite says that the file is no database, or not a whole one.
pub(crate) fn is_damaged(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    // SQLITE_CORRUPT and SQLITE_NOTADB: https://sqlite.org/rescode.html
    matches!(code.as_deref(), Some("11" | "26"))
}

/// Connects, and tries again while the file is locked: SQLite waits for most locks itself, but not for the one that it
/// needs to begin a write-ahead log, which of two gateways that start at once on a new file one must wait for.
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

pub(crate) fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/gateway/sqlite");
    // Gateway and backend may share one database.
    migrator.dangerous_set_table_name("_sluice_gateway_migrations");
    // A newer gateway's migrations only add: the older one beside it goes on.
    migrator.set_ignore_missing(true);
    migrator
}

/// In one transaction, for sqlx takes no lock of its own on SQLite: of two gateways that start at once, one waits.
async fn migrate(writer: &SqlitePool) -> Result<(), MigrateError> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    migrator().run(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// What a number of either database can hold of `value`. No amount and no time of a payment is beyond it.
pub(crate) fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use sqlx::{query, query_scalar};

    use super::*;

    async fn open(folder: &tempfile::TempDir) -> GatewayDb {
        GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap()
    }

    async fn tables(db: &GatewayDb) -> Vec<String> {
        query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
            .fetch_all(db.reader())
            .await
            .unwrap()
    }

    async fn pragma(pool: &SqlitePool, name: &'static str) -> String {
        query_scalar(name).fetch_one(pool).await.map(|value: i64| value.to_string()).unwrap()
    }

    #[tokio::test]
    async fn migrates_up_and_down_and_up_again() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder).await;
        let all = [
            "_sluice_gateway_migrations",
            "bought",
            "gateway_key_use",
            "payment",
            "revocation",
            "revocation_change",
            "settle_index",
            "test_wallet_payments",
            "use_counter",
            "use_hold",
        ];
        assert_eq!(tables(&db).await, all);

        migrator().undo(&db.writer, 0).await.unwrap();
        assert_eq!(tables(&db).await, all[..1]);

        migrate(&db.writer).await.unwrap();
        assert_eq!(tables(&db).await, all);
    }

    #[test]
    fn every_migration_goes_both_ways() {
        let migrator = migrator();
        let (ups, downs): (Vec<_>, Vec<_>) =
            migrator.iter().partition(|migration| migration.migration_type.is_up_migration());
        assert!(!ups.is_empty());
        let versions = |migrations: Vec<&sqlx::migrate::Migration>| -> Vec<i64> {
            migrations.iter().map(|migration| migration.version).collect()
        };
        assert_eq!(versions(ups), versions(downs));
    }

    #[tokio::test]
    async fn a_migration_of_a_newer_program_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder).await;
        let newer = "INSERT INTO _sluice_gateway_migrations (version, description, success, checksum, execution_time)
            VALUES (9999, 'of a newer program', TRUE, x'00', 0)";
        let mut transaction = db.write().await.unwrap();
        query(newer).execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        db.close().await;
        open(&folder).await;
    }

    #[tokio::test]
    async fn is_durable_and_only_the_writer_writes() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder).await;
        for pool in [&db.writer, &db.reader] {
            let journal: String = query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
            assert_eq!(journal, "wal");
            assert_eq!(pragma(pool, "PRAGMA synchronous").await, "2");
            assert_eq!(pragma(pool, "PRAGMA foreign_keys").await, "1");
            assert_eq!(pragma(pool, "PRAGMA busy_timeout").await, "10000");
        }
        let refused = query("DELETE FROM test_wallet_payments").execute(db.reader()).await;
        assert!(refused.unwrap_err().to_string().contains("readonly"));
    }

    #[tokio::test]
    async fn is_for_this_user_only() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder).await;
        query("DELETE FROM test_wallet_payments").execute(&db.writer).await.unwrap();
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 3, "the database, its write-ahead log and its shared memory: {files:?}");
        for file in files {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        }
    }

    #[tokio::test]
    async fn writes_again_after_sqlite_ended_a_transaction_itself() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder).await;
        let mut transaction = db.write().await.unwrap();
        // As SQLite does where the disk is full: sqlx takes the transaction for open, and cannot roll it back.
        query("ROLLBACK").execute(&mut *transaction).await.unwrap();
        drop(transaction);
        db.write().await.unwrap().commit().await.unwrap();
    }

    #[tokio::test]
    async fn several_that_start_at_once_on_a_new_file_all_start() {
        let folder = tempfile::tempdir().unwrap();
        let all = futures_util::future::join_all((0..8).map(|_| open(&folder))).await;
        let [one, other, ..] = &all[..] else { panic!("eight") };
        let mut writing = one.write().await.unwrap();
        query("DELETE FROM test_wallet_payments").execute(&mut *writing).await.unwrap();
        assert_eq!(tables(other).await.len(), 10, "reads go on beside a write");
    }

    #[tokio::test]
    async fn says_which_file_it_cannot_open() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing").join("gateway.db");
        let error = GatewayDb::open(&missing).await.unwrap_err().to_string();
        assert!(error.contains("missing/gateway.db"), "{error}");

        let junk = folder.path().join("junk.db");
        fs::write(&junk, "this is no database, but long enough to be looked at as one".repeat(20)).unwrap();
        assert!(GatewayDb::open(&junk).await.is_err());
    }
}
