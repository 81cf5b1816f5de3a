//! What the gateway's ledger says of tokens: which are revoked, and which of a retired key were paid.
//!
//! The gateway refuses those, too, but this server trusts no position in the network. It only reads, and only these two
//! tables. A ledger that no gateway has made yet revokes nothing, and proves no payment.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use sluice_common::{
    l402::{PaymentHash, Token},
    network::Network,
    problem::Problem,
    revocation::{Change, NotKnown, RevocationSource, RevocationWatch, Revoked, revoked_problem},
    secret::Secret,
};
use sqlx::{
    ConnectOptions, Connection, FromRow, PgPool, SqliteConnection, postgres::PgPoolOptions, query_as, query_scalar,
    sqlite::SqliteConnectOptions,
};
use tokio::time::timeout;

use crate::db::{DbError, answers, connect_options};

/// How long an answer may take for which a request waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long SQLite waits for the gateway to write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

const MAX_CONNECTIONS: u32 = 2;

/// The code of PostgreSQL for a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

const CHANGES: &str = "SELECT change, payment_hash, minted_before, undone_at FROM revocation
     WHERE change > $1 ORDER BY change LIMIT 10000";

const LAST_CHANGE: &str = "SELECT last_change FROM revocation_change";

const IS_SETTLED: &str = "SELECT EXISTS (SELECT 1 FROM payment WHERE payment_hash = $1 AND token_id = $2
     AND service = $3 AND network = $4 AND settled_at IS NOT NULL)";

/// Where the gateway's ledger is.
#[derive(Debug, Clone)]
pub enum LedgerConfig {
    /// A file on this machine, which need not be there yet.
    Sqlite {
        /// Its path.
        path: PathBuf,
    },
    /// A PostgreSQL database.
    Postgres {
        /// `postgres://…`, as libpq reads it.
        url: Secret<String>,
    },
}

impl LedgerConfig {
    /// Whether the URL can be read. Asks nobody.
    pub fn check(&self) -> Result<(), DbError> {
        match self {
            Self::Sqlite { .. } => Ok(()),
            Self::Postgres { url } => connect_options(url).map(drop),
        }
    }
}

/// Why a genuine token is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// Its key is retired, and no node said that it was paid.
    #[error("the key of this token is retired, and the ledger does not have its payment")]
    NotSettled,
    /// It is not known whether it is revoked.
    #[error(transparent)]
    RevocationsUnknown(#[from] NotKnown),
    /// It is not known whether it was paid.
    #[error("the ledger cannot be asked whether a token was paid: {0}")]
    SettlementUnknown(#[from] ReadError),
}

/// Why the ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Its URL.
    #[error("its URL cannot be read")]
    Url,
    /// It is not there.
    #[error("there is no ledger of a gateway")]
    Gone,
    /// It may not be looked at.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not answer.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
}

impl NotTaken {
    /// What the client is told.
    pub fn to_problem(&self) -> Problem {
        let unknown = |code, detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code).detail(detail);
        match self {
            Self::Revoked => revoked_problem(),
            Self::NotSettled => Problem::new(StatusCode::UNAUTHORIZED, "not_settled")
                .detail("The node has not received the payment of this token. If it is under way, come again."),
            Self::RevocationsUnknown(_) => unknown(
                "revocations_unknown",
                "It is not known yet whether this token is revoked. Come again; a token that is paid stays good.",
            ),
            Self::SettlementUnknown(_) => unknown(
                "settlement_unknown",
                "It cannot be looked up now whether this token is paid. Come again; a token that is paid stays good.",
            ),
        }
    }

    /// Whether the client should come again.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::RevocationsUnknown(_) | Self::SettlementUnknown(_))
    }
}

/// The gateway's ledger, as far as this server reads it.
#[derive(Debug)]
pub struct Ledger {
    reader: Arc<Reader>,
    revoked: RevocationWatch,
}

impl Ledger {
    /// Begins to follow what is revoked. Must be called in a tokio runtime.
    pub fn follow(config: &LedgerConfig) -> Self {
        let place = match config {
            LedgerConfig::Sqlite { path } => Place::Sqlite(path.clone()),
            LedgerConfig::Postgres { url } => connect_options(url).map_or(Place::Unreadable, |options| {
                let pool = PgPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(ANSWER_TIMEOUT);
                let pool = pool.after_release(|connection, _| Box::pin(answers(connection)));
                Place::Postgres(pool.connect_lazy_with(options))
            }),
        };
        let reader = Arc::new(Reader { place, was_there: false.into(), missed: false.into() });
        Self { revoked: RevocationWatch::start(Follow(Arc::clone(&reader))), reader }
    }

    /// Whether a genuine token of `service`, bought on `network`, is taken: it must not be revoked
    /// and, if its key is retired, be in the ledger as paid.
    pub async fn take(&self, token: &Token, is_retired: bool, service: &str, network: Network) -> Result<(), NotTaken> {
        if self.revoked.has(token).await? {
            return Err(NotTaken::Revoked);
        }
        if is_retired {
            let settled = timeout(ANSWER_TIMEOUT, self.reader.is_settled(token, service, network)).await;
            if !settled.map_err(|_| ReadError::Timeout)?? {
                return Err(NotTaken::NotSettled);
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Reader {
    place: Place,
    /// Whether its tables were ever found: then a ledger without them says nothing, in the place of "nothing is revoked".
    was_there: AtomicBool,
    /// Whether it was said that they were not.
    missed: AtomicBool,
}

#[derive(Debug)]
enum Place {
    /// Opened anew each time: it may be made, or replaced by a backup, at any time.
    Sqlite(PathBuf),
    Postgres(PgPool),
    Unreadable,
}

struct Follow(Arc<Reader>);

impl RevocationSource for Follow {
    type Error = ReadError;

    async fn last_change(&self) -> Result<u64, ReadError> {
        let last: Option<(i64,)> = match &self.0.place {
            Place::Sqlite(path) => match open(path, "revocation_change").await? {
                Some(mut ledger) => {
                    let last = query_as(LAST_CHANGE).fetch_one(&mut ledger).await?;
                    ledger.close().await?;
                    Some(last)
                }
                None => None,
            },
            Place::Postgres(pool) => none_without_table(query_as(LAST_CHANGE).fetch_one(pool).await)?,
            Place::Unreadable => return Err(ReadError::Url),
        };
        match last {
            Some((last,)) => {
                self.0.was_there.store(true, Ordering::Relaxed);
                Ok(last.cast_unsigned())
            }
            None if self.0.was_there.load(Ordering::Relaxed) => Err(ReadError::Gone),
            None => {
                if !self.0.missed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "there is no ledger of a gateway yet ([gateway] database_url): nothing is revoked here, and tokens \
                         of a retired key are not taken"
                    );
                }
                Ok(0)
            }
        }
    }

    async fn changes_after(&self, number: u64) -> Result<Vec<Change>, ReadError> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let rows: Vec<Row> = match &self.0.place {
            Place::Sqlite(path) => {
                let mut ledger = open(path, "revocation").await?.ok_or(ReadError::Gone)?;
                let rows = query_as(CHANGES).bind(number).fetch_all(&mut ledger).await?;
                ledger.close().await?;
                rows
            }
            Place::Postgres(pool) => query_as(CHANGES).bind(number).fetch_all(pool).await?,
            Place::Unreadable => return Err(ReadError::Url),
        };
        // The table allows no other rows.
        Ok(rows.into_iter().filter_map(Row::change).collect())
    }
}

impl Reader {
    /// Whether a node said that just this token was paid.
    async fn is_settled(&self, token: &Token, service: &str, network: Network) -> Result<bool, ReadError> {
        let payment_hash = token.payment_hash().as_bytes().to_vec();
        let token_id = token.token_id().as_bytes().to_vec();
        macro_rules! ask {
            ($from:expr) => {
                query_scalar(IS_SETTLED)
                    .bind(payment_hash)
                    .bind(token_id)
                    .bind(service)
                    .bind(network.name())
                    .fetch_one($from)
                    .await
            };
        }
        match &self.place {
            Place::Sqlite(path) => {
                let mut ledger = open(path, "payment").await?.ok_or(ReadError::Gone)?;
                let settled = ask!(&mut ledger)?;
                ledger.close().await?;
                Ok(settled)
            }
            Place::Postgres(pool) => none_without_table(ask!(pool))?.ok_or(ReadError::Gone),
            Place::Unreadable => Err(ReadError::Url),
        }
    }
}

/// A row of [`CHANGES`].
#[derive(FromRow)]
struct Row {
    change: i64,
    payment_hash: Option<Vec<u8>>,
    minted_before: Option<i64>,
    undone_at: Option<i64>,
}

impl Row {
    fn change(self) -> Option<Change> {
        let revoked = match (self.payment_hash, self.minted_before) {
            (Some(bytes), None) => Revoked::Payment(PaymentHash::from_bytes(bytes.try_into().ok()?)),
            (None, Some(time)) => Revoked::MintedBefore(time.cast_unsigned()),
            _ => return None,
        };
        Some(Change { number: self.change.cast_unsigned(), revoked, in_effect: self.undone_at.is_none() })
    }
}

/// Opens a ledger in a file, to read; none if it has no such table yet, or there is no file.
async fn open(path: &Path, table: &str) -> Result<Option<SqliteConnection>, ReadError> {
    if !path.try_exists()? {
        return Ok(None);
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let mut ledger: SqliteConnection = options.connect().await?;
    let look = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1)";
    let has: bool = query_scalar(look).bind(table).fetch_one(&mut ledger).await?;
    if has {
        return Ok(Some(ledger));
    }
    ledger.close().await?;
    Ok(None)
}

/// None where the table is not there yet.
fn none_without_table<T>(said: Result<T, sqlx::Error>) -> Result<Option<T>, sqlx::Error> {
    match said {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => Ok(None),
        said => said.map(Some),
    }
}
