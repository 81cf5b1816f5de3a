//! Looks at databases without changing anything in them.

use std::{path::Path, time::Duration};

use sluice_common::secret::Secret;
use sqlx::{
    ConnectOptions, Connection, PgConnection, Postgres, SqliteConnection, postgres::PgConnectOptions, query_scalar,
    sqlite::SqliteConnectOptions,
};
use tokio::time::timeout;

use crate::db::{RESTORE, is_damaged};

/// How long a server may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It cannot be opened or read.
    #[error(transparent)]
    Database(sqlx::Error),
    /// It says so itself.
    #[error("it is damaged ({0}): {RESTORE}")]
    Damaged(String),
    /// Not `postgres://…`.
    #[error("not a PostgreSQL URL")]
    Url,
    /// It does not answer.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

impl From<sqlx::Error> for ProbeError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(said) if is_damaged(&error) => Self::Damaged(said.message().to_owned()),
            _ => Self::Database(error),
        }
    }
}

/// Whether the SQLite file at `path` is a whole database. Reads all of it.
pub async fn sqlite(path: &Path) -> Result<(), ProbeError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
    let mut connection: SqliteConnection = options.connect().await?;
    let said: String = query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await?;
    connection.close().await?;
    if said == "ok" { Ok(()) } else { Err(ProbeError::Damaged(said)) }
}

/// Whether the SQLite file at `path` has a gateway's tables. Makes none.
pub async fn sqlite_has_gateway(path: &Path) -> Result<bool, ProbeError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
    let mut connection: SqliteConnection = options.connect().await?;
    let look = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sluice_gateway_migrations')";
    let has: bool = query_scalar(look).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(has)
}

/// Whether the PostgreSQL database at `url` has a gateway's tables. Makes none.
pub async fn postgres_has_gateway(url: &Secret<String>) -> Result<bool, ProbeError> {
    ask_postgres(url, "SELECT to_regclass('_sluice_gateway_migrations') IS NOT NULL").await
}

/// The time of the PostgreSQL server at `url`, in unix seconds.
pub async fn postgres(url: &Secret<String>) -> Result<u64, ProbeError> {
    let now: i64 = ask_postgres(url, "SELECT extract(epoch FROM clock_timestamp())::bigint").await?;
    Ok(u64::try_from(now).unwrap_or_default())
}

/// The one value that a statement gives.
async fn ask_postgres<T>(url: &Secret<String>, statement: &'static str) -> Result<T, ProbeError>
where
    T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres> + Send + Unpin,
{
    // The reader's own errors may quote from it.
    let options: PgConnectOptions = url.expose().parse().map_err(|_| ProbeError::Url)?;
    let ask = async {
        let mut connection: PgConnection = options.disable_statement_logging().connect().await?;
        let value = query_scalar(statement).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(value)
    };
    timeout(TIMEOUT, ask).await.map_err(|_| ProbeError::Timeout)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::GatewayDb;

    #[tokio::test]
    async fn sees_whether_a_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        assert!(matches!(sqlite(&path).await, Err(ProbeError::Database(_))), "missing");
        assert!(!path.exists(), "and not made");
        let db = GatewayDb::open(&path).await.unwrap();
        sqlite(&path).await.unwrap();
        db.close().await;

        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes[half..].fill(0xaa);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(sqlite(&path).await, Err(ProbeError::Damaged(_))));
        std::fs::write(&path, [0xaa; 8_192]).unwrap();
        assert!(matches!(sqlite(&path).await, Err(ProbeError::Damaged(_))));
        let error = GatewayDb::open(&path).await.unwrap_err().to_string();
        assert!(error.contains("gateway.db is damaged, or no database: restore it from the backup"), "{error}");
    }

    #[tokio::test]
    async fn sees_whether_a_gateway_was_there_and_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        assert!(matches!(sqlite_has_gateway(&path).await, Err(ProbeError::Database(_))), "missing");
        std::fs::write(&path, "").unwrap();
        assert!(!sqlite_has_gateway(&path).await.unwrap());
        assert!(std::fs::read(&path).unwrap().is_empty());
        GatewayDb::open(&path).await.unwrap().close().await;
        assert!(sqlite_has_gateway(&path).await.unwrap());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_error_without_the_password() {
        let url = Secret::new("postgres://u:hunter2@127.0.0.1:1/d".to_owned());
        let error = postgres(&url).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
