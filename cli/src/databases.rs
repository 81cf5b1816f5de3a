//! Opens the databases that the configuration names.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_gateway::{
    db::{GatewayDb, OpenError},
    ledger::{LedgerDb, LedgerError, PostgresLedger},
    probe::{self, ProbeError},
};

use crate::{
    config::{DatabaseUrl, Settings},
    files,
};

/// The databases of a gateway.
pub struct Databases {
    /// What was paid.
    pub ledger: Arc<dyn LedgerDb>,
    /// The SQLite file that the ledger is in, if it is in one.
    sqlite: Option<GatewayDb>,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Its folder.
    #[error("the folder of {}: {source}", path.display())]
    Dir {
        /// The database.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is none yet.
    #[error("there is no ledger in {0} yet; a gateway makes it when it first starts")]
    NoLedger(String),
    /// It cannot be looked into.
    #[error("{database}: {source}")]
    Probe {
        /// The database.
        database: String,
        /// Why not.
        source: ProbeError,
    },
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] OpenError),
    /// PostgreSQL.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Databases {
    /// Opens the gateway's database, and makes it if it is a file that is missing.
    pub async fn open(settings: &Settings) -> Result<Self, DatabaseError> {
        match settings.gateway_database() {
            DatabaseUrl::Sqlite(path) => {
                make_dir_of(&path)?;
                let db = GatewayDb::open(&path).await?;
                Ok(Self { ledger: Arc::new(db.clone()), sqlite: Some(db) })
            }
            DatabaseUrl::Postgres(url) => {
                Ok(Self { ledger: Arc::new(PostgresLedger::open(&url).await?), sqlite: None })
            }
        }
    }

    /// Opens the ledger, and makes none. One that an older program made is brought up to date.
    pub async fn existing_ledger(settings: &Settings) -> Result<Arc<dyn LedgerDb>, DatabaseError> {
        let database = settings.gateway_database();
        let is_there = match &database {
            // Who may not look into its folder is not told that there is none.
            DatabaseUrl::Sqlite(path) => match path.try_exists() {
                Ok(true) => probe::sqlite_has_gateway(path).await,
                Ok(false) => Ok(false),
                Err(source) => return Err(DatabaseError::Dir { path: path.clone(), source }),
            },
            DatabaseUrl::Postgres(url) => probe::postgres_has_gateway(url).await,
        };
        match is_there {
            Ok(true) => Ok(Self::open(settings).await?.ledger),
            Ok(false) => Err(DatabaseError::NoLedger(database.to_string())),
            Err(source) => Err(DatabaseError::Probe { database: database.to_string(), source }),
        }
    }

    /// The database of the embedded wallet: the ledger's, if that is a file; else one of its own.
    pub async fn wallet(self, settings: &Settings) -> Result<GatewayDb, DatabaseError> {
        if let Some(db) = self.sqlite {
            return Ok(db);
        }
        let path = settings.wallet_database();
        make_dir_of(&path)?;
        Ok(GatewayDb::open(&path).await?)
    }
}

/// Makes the folder that the SQLite database at `path` is to be in.
pub fn make_dir_of(path: &Path) -> Result<(), DatabaseError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.map_or(Ok(()), files::make_dir).map_err(|source| DatabaseError::Dir { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ledger_that_cannot_be_looked_for_is_not_called_missing() {
        let dir = tempfile::tempdir().unwrap();
        let error = async |data_dir: PathBuf| {
            let settings = Settings { data_dir, ..Settings::default() };
            Databases::existing_ledger(&settings).await.err().unwrap().to_string()
        };
        let missing = error(dir.path().to_owned()).await;
        assert!(missing.starts_with("there is no ledger in "), "{missing}");
        std::fs::write(dir.path().join("file"), "").unwrap();
        let unknown = error(dir.path().join("file")).await;
        assert!(unknown.starts_with("the folder of ") && unknown.contains("Not a directory"), "{unknown}");
    }
}
