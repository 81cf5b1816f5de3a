//! How a PostgreSQL database is reached.

use std::{path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use sluice_common::secret::Secret;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

use super::PostgresDatabase;
use crate::db::DbError;

/// How long a connection that goes back to its pool may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

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

impl PostgresDatabase {
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
}

/// Whether a connection that goes back to its pool still answers. sqlx asks it, too, but without a bound: of a server that
/// was cut off in the middle of a call it would keep the connection's place for a quarter of an hour.
pub(crate) async fn answers(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    timeout(PING_TIMEOUT, connection.ping()).await.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|()| true)
}

/// Reads a URL. What the reader itself says of a bad one may quote from it, so it is not told.
pub(crate) fn connect_options(url: &Secret<String>) -> Result<PgConnectOptions, DbError> {
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
