//! Looks at rows past the server that they are of.

use std::{collections::BTreeMap, path::PathBuf};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, sqlite::SqliteConnectOptions};

/// A database.
pub enum Rows {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Rows {
    /// The texts that a statement gives.
    pub async fn texts(&self, statement: &str) -> Vec<String> {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Sqlite(path) => {
                let mut db = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
                let texts = sqlx::query_scalar(statement).fetch_all(&mut db).await.unwrap();
                db.close().await.unwrap();
                texts
            }
            Self::Postgres(url) => {
                let mut db = PgConnection::connect(url).await.unwrap();
                let texts = sqlx::query_scalar(statement).fetch_all(&mut db).await.unwrap();
                db.close().await.unwrap();
                texts
            }
        }
    }

    /// How many rows there are of what stands after FROM.
    pub async fn count(&self, from: &str) -> usize {
        let counted = self.texts(&format!("SELECT CAST(count(*) AS TEXT) FROM {from}")).await;
        counted[0].parse().unwrap()
    }

    /// How many rows each table has.
    pub async fn counts(&self) -> BTreeMap<String, usize> {
        let tables = match self {
            Self::Sqlite(_) => "SELECT name FROM sqlite_schema WHERE type = 'table'",
            Self::Postgres(_) => "SELECT tablename::TEXT FROM pg_tables WHERE schemaname = 'public'",
        };
        let mut counts = BTreeMap::new();
        for table in self.texts(tables).await {
            let count = self.count(&table).await;
            counts.insert(table, count);
        }
        counts
    }

    /// Lets the time pass after which whoever began an upload, or looks at one again, is believed dead. Whoever it was is.
    pub async fn end_leases(&self) {
        let past = match self {
            Self::Sqlite(_) => "0",
            Self::Postgres(_) => "'epoch'",
        };
        let end = format!("UPDATE content SET lease_until = {past} WHERE state = 'pending' RETURNING store_key");
        self.texts(&end).await;
        let end =
            format!("UPDATE paid_retry SET lease_until = {past} WHERE lease_until IS NOT NULL RETURNING payment_hash");
        self.texts(&end).await;
    }
}
