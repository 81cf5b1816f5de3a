//! Looks at the media server's rows past the media server.

use std::path::PathBuf;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, sqlite::SqliteConnectOptions};

/// The database of media servers.
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

    /// Lets the time pass after which whoever began an upload is believed dead. Whoever it was is.
    pub async fn end_leases(&self) {
        let past = match self {
            Self::Sqlite(_) => "0",
            Self::Postgres(_) => "'epoch'",
        };
        let end = format!("UPDATE content SET lease_until = {past} WHERE state = 'pending' RETURNING store_key");
        self.texts(&end).await;
    }
}
