//! The ledger in PostgreSQL, which several gateways can share.

use std::time::Duration;

use async_trait::async_trait;
use sluice_common::{keys::KeyUse, l402::PaymentHash, secret::Secret};
use sqlx::{
    ConnectOptions, Connection, PgPool, migrate::Migrator, postgres::PgConnectOptions, postgres::PgPoolOptions, query,
    query_as, query_scalar,
};
use tokio::time::timeout;

use super::{
    Bought, BoughtOn, DaySum, Filter, LedgerDb, LedgerError, PAGE, Payment, Sale, SettledToken, Sum, TokenUse,
    sql::{self, Bounds},
};
use crate::db::to_i64;

const MAX_CONNECTIONS: u32 = 8;

/// How long a statement waits for a connection. While the server is away that is how long it takes to know.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a transaction may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The ledger in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresLedger {
    pub(super) pool: PgPool,
}

impl PostgresLedger {
    /// Opens the database at `url` (`postgres://…`, as libpq reads it) and brings its tables up to date. From then on
    /// the database may go away and come back.
    pub async fn open(url: &Secret<String>) -> Result<Self, LedgerError> {
        let is_ours = ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
        let options: PgConnectOptions = url.expose().parse().ok().filter(|_| is_ours).ok_or(LedgerError::Url)?;
        // What is bound to a statement may be nobody else's business: no statement is logged.
        let options = options.application_name("sluice-gateway").disable_statement_logging();
        // One connection without the pool, whose errors say only that it took too long.
        bounded(async {
            let mut connection = options.connect().await?;
            // Takes a lock, so that of several gateways that start at once the others wait.
            migrator().run(&mut connection).await?;
            Ok(connection.close().await?)
        })
        .await?;
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(CONNECT_TIMEOUT)
            // Whoever waits longer has gone; and whoever holds locks and is heard of no more (its machine died) gives
            // them up.
            .after_connect(|connection, _| {
                Box::pin(async {
                    let millis = TIMEOUT.as_millis().to_string();
                    let set = "SELECT set_config('statement_timeout', $1, FALSE), \
                        set_config('idle_in_transaction_session_timeout', $1, FALSE)";
                    query(set).bind(millis).execute(connection).await.map(drop)
                })
            })
            // sqlx asks it, too, but without a bound: of a server that was cut off in the middle of a call it would keep
            // the connection's place for a quarter of an hour.
            .after_release(|connection, _| {
                Box::pin(async {
                    let pinged = tokio::time::timeout(CONNECT_TIMEOUT, connection.ping()).await;
                    pinged.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|()| true)
                })
            })
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    /// Closes every connection, once those in use are given back.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/gateway/postgres");
    // Gateway and backend may share one database.
    migrator.dangerous_set_table_name("_sluice_gateway_migrations");
    // A newer gateway's migrations only add: the older one beside it goes on.
    migrator.set_ignore_missing(true);
    migrator
}

/// A server that is cut off does not say so: nobody waits for it longer than this.
pub(super) async fn bounded<T>(work: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
    timeout(TIMEOUT, work).await.map_err(|_| LedgerError::Timeout(TIMEOUT.as_secs()))?
}

#[async_trait]
impl LedgerDb for PostgresLedger {
    async fn book_settlements(
        &self,
        node: &str,
        paid: &[SettledToken],
        last_index: Option<u64>,
    ) -> Result<(), LedgerError> {
        bounded(async {
            let mut transaction = self.pool.begin().await?;
            // In the order of the payment hashes: of two gateways that book the same at once, one waits.
            let mut paid: Vec<_> = paid.iter().collect();
            paid.sort_unstable_by_key(|token| token.payment_hash);
            for token in paid {
                query(sql::BOOK_SETTLEMENT)
                    .bind(&token.payment_hash.as_bytes()[..])
                    .bind(&token.service)
                    .bind(token.network.name())
                    .bind(&token.token_id.as_bytes()[..])
                    .bind(to_i64(token.amount_msat))
                    .bind(to_i64(token.settled_at))
                    .bind(node)
                    .execute(&mut *transaction)
                    .await?;
            }
            if let Some(index) = last_index {
                query(sql::BOOK_INDEX).bind(node).bind(to_i64(index)).execute(&mut *transaction).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn book_uses(&self, uses: &[TokenUse]) -> Result<(), LedgerError> {
        bounded(async {
            let mut transaction = self.pool.begin().await?;
            let mut uses: Vec<_> = uses.iter().collect();
            uses.sort_unstable_by_key(|token| token.payment_hash);
            for token in uses {
                query(sql::BOOK_USE)
                    .bind(&token.payment_hash.as_bytes()[..])
                    .bind(&token.service)
                    .bind(token.network.name())
                    .bind(&token.token_id.as_bytes()[..])
                    .bind(to_i64(token.used_at))
                    .execute(&mut *transaction)
                    .await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn last_index(&self, node: &str) -> Result<u64, LedgerError> {
        bounded(async {
            let index: Option<i64> = query_scalar(sql::LAST_INDEX).bind(node).fetch_optional(&self.pool).await?;
            Ok(index.map_or(0, i64::cast_unsigned))
        })
        .await
    }

    async fn forget_index(&self, node: &str) -> Result<(), LedgerError> {
        bounded(async {
            query(sql::FORGET_INDEX).bind(node).execute(&self.pool).await?;
            Ok(())
        })
        .await
    }

    async fn is_settled(&self, payment_hash: PaymentHash) -> Result<bool, LedgerError> {
        let payment_hash = &payment_hash.as_bytes()[..];
        bounded(async { Ok(query_scalar(sql::IS_SETTLED).bind(payment_hash).fetch_one(&self.pool).await?) }).await
    }

    async fn is_token_settled(&self, token: &TokenUse) -> Result<bool, LedgerError> {
        bounded(async {
            let settled = query_scalar(sql::IS_TOKEN_SETTLED)
                .bind(&token.payment_hash.as_bytes()[..])
                .bind(&token.token_id.as_bytes()[..])
                .bind(&token.service)
                .bind(token.network.name());
            Ok(settled.fetch_one(&self.pool).await?)
        })
        .await
    }

    async fn payment(&self, payment_hash: PaymentHash) -> Result<Option<Payment>, LedgerError> {
        let payment_hash = &payment_hash.as_bytes()[..];
        bounded(async { Ok(query_as(sql::PAYMENT).bind(payment_hash).fetch_optional(&self.pool).await?) }).await
    }

    async fn days(&self, filter: &Filter) -> Result<Vec<DaySum>, LedgerError> {
        let bounds = Bounds::from(filter);
        bounded(async {
            let days = query_as(sql::DAYS)
                .bind(bounds.from)
                .bind(bounds.before)
                .bind(bounds.service)
                .bind(bounds.network)
                .fetch_all(&self.pool)
                .await?;
            Ok(days)
        })
        .await
    }

    async fn payments(&self, filter: &Filter, after: Option<&Payment>) -> Result<Vec<Payment>, LedgerError> {
        let (bounds, (time, payment_hash)) = (Bounds::from(filter), sql::place(after));
        bounded(async {
            let payments = query_as(sql::PAYMENTS)
                .bind(bounds.from)
                .bind(bounds.before)
                .bind(bounds.service)
                .bind(bounds.network)
                .bind(time)
                .bind(payment_hash)
                .bind(to_i64(PAGE as u64))
                .fetch_all(&self.pool)
                .await?;
            Ok(payments)
        })
        .await
    }

    async fn keys_in_use(&self) -> Result<Vec<KeyUse>, LedgerError> {
        bounded(async {
            let keys: Vec<(String, String)> = query_as(sql::KEYS_IN_USE).fetch_all(&self.pool).await?;
            Ok(keys.into_iter().map(sql::key_use).collect())
        })
        .await
    }

    async fn note_keys(&self, keys: &[KeyUse]) -> Result<(), LedgerError> {
        bounded(async {
            let mut transaction = self.pool.begin().await?;
            for key in keys {
                query(sql::NOTE_KEY).bind(&key.name).bind(&key.fingerprint).execute(&mut *transaction).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn forget_key(&self, key: &KeyUse) -> Result<bool, LedgerError> {
        bounded(async {
            let deleted = query(sql::FORGET_KEY).bind(&key.name).bind(&key.fingerprint).execute(&self.pool).await?;
            Ok(deleted.rows_affected() > 0)
        })
        .await
    }

    async fn sums(&self, filter: &Filter) -> Result<Vec<Sum>, LedgerError> {
        let bounds = Bounds::from(filter);
        bounded(async {
            let sums = query_as(sql::SUMS)
                .bind(bounds.from)
                .bind(bounds.before)
                .bind(bounds.service)
                .bind(bounds.network)
                .fetch_all(&self.pool)
                .await?;
            Ok(sums)
        })
        .await
    }

    async fn book_bought(&self, bought: &[(Sale, Bought)]) -> Result<(), LedgerError> {
        bounded(async {
            let mut transaction = self.pool.begin().await?;
            // In one order: of two gateways that book the same at once, one waits.
            let mut bought: Vec<_> = bought.iter().collect();
            bought.sort_unstable_by_key(|(sale, _)| sale);
            for (sale, bought) in bought {
                query(sql::BOOK_BOUGHT)
                    .bind(&sale.payment_hash.as_bytes()[..])
                    .bind(&sale.service)
                    .bind(sale.network)
                    .bind(to_i64(sale.day))
                    .bind(to_i64(bought.uses))
                    .bind(to_i64(bought.bytes))
                    .bind(to_i64(bought.refused))
                    .bind(to_i64(bought.given_back))
                    .execute(&mut *transaction)
                    .await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn bought(&self, filter: &Filter) -> Result<Vec<BoughtOn>, LedgerError> {
        let bounds = Bounds::from(filter);
        let bought =
            query_as(sql::BOUGHT).bind(bounds.from).bind(bounds.before).bind(bounds.service).bind(bounds.network);
        bounded(async { Ok(bought.fetch_all(&self.pool).await?) }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::contract::contract_tests;

    async fn ledger() -> (PostgresLedger, ()) {
        (open().await, ())
    }

    async fn open() -> PostgresLedger {
        PostgresLedger::open(&Secret::new(sluice_testing::postgres::database())).await.unwrap()
    }

    contract_tests!(ledger);

    async fn tables(ledger: &PostgresLedger) -> Vec<String> {
        let tables = "SELECT table_name::TEXT FROM information_schema.tables
            WHERE table_schema = current_schema() ORDER BY table_name";
        query_scalar(tables).fetch_all(&ledger.pool).await.unwrap()
    }

    #[tokio::test]
    async fn migrates_up_and_down_and_up_again() {
        let ledger = open().await;
        let all = [
            "_sluice_gateway_migrations",
            "bought",
            "gateway_key_use",
            "payment",
            "revocation",
            "revocation_change",
            "settle_index",
            "use_counter",
            "use_hold",
        ];
        assert_eq!(tables(&ledger).await, all);

        migrator().undo(&ledger.pool, 0).await.unwrap();
        assert_eq!(tables(&ledger).await, all[..1]);

        migrator().run(&ledger.pool).await.unwrap();
        assert_eq!(tables(&ledger).await, all);
    }

    #[test]
    fn counts_its_migrations_as_sqlite_does() {
        let versions = |migrator: Migrator| -> Vec<_> {
            migrator.iter().map(|migration| (migration.version, migration.migration_type.is_up_migration())).collect()
        };
        assert_eq!(versions(migrator()), versions(crate::db::migrator()));
    }

    #[tokio::test]
    async fn several_that_start_at_once_all_start() {
        let url = Secret::new(sluice_testing::postgres::database());
        let all = futures_util::future::join_all((0..5).map(|_| PostgresLedger::open(&url))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
    }

    #[tokio::test]
    async fn says_why_it_cannot_be_opened_and_no_password() {
        for url in ["mysql://u:hunter2@h/d", "postgres://u:hunter2@h:port/d", "postgres://u:hunter2@localhost:1/d"] {
            let error = PostgresLedger::open(&Secret::new(url.to_owned())).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            assert_eq!(matches!(error, LedgerError::Url), !url.contains("localhost"), "{error:?}");
        }
    }
}
