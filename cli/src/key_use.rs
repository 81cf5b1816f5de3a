//! `sluice keys`: which keys the databases were used with, and giving one up.
//!
//! A start without one of them is refused, so that no key is lost or changed unnoticed. One that is gone for good, or
//! that nothing needs any more, is forgotten here.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    sync::Arc,
};

use clap::Subcommand;
use sluice_backend::{
    config::DatabaseConfig,
    db::{self, Database, DbError, PostgresDatabase, PostgresState},
};
use sluice_common::{keys::KeyUse, network::Network, secret::Secret};
use sluice_gateway::ledger::{LedgerDb, LedgerError, key_use::configured};

use crate::{
    args::FileArgs,
    config::Settings,
    databases::{DatabaseError, Databases},
    keys::{self, KeyError, rotate::RotateArgs},
    server::{self, RunError},
};

/// `sluice keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys that the databases were used with: database, name, fingerprint, and whether it is configured
    List(FileArgs),
    /// Make a new master key, and say what to do with it on all servers
    Rotate(RotateArgs),
    /// Start without this key from now on: it is gone for good, or nothing that depends on it is wanted any more
    Forget {
        /// Its name, as `sluice keys list` shows it
        name: String,
        /// Its fingerprint, which stands there beside it: 16 hexadecimal digits
        fingerprint: Option<String>,
        /// Where from.
        #[command(flatten)]
        files: FileArgs,
    },
}

/// Why keys are not listed, or not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum KeyUseError {
    /// Nothing was started with these settings yet.
    #[error("there is no database yet: neither {gateway} nor {backend}")]
    NoDatabase {
        /// The gateway's.
        gateway: String,
        /// The media server's.
        backend: String,
    },
    /// It is needed.
    #[error("{name} {fingerprint} is configured: take it out of the configuration first")]
    Configured {
        /// Its name.
        name: String,
        /// Its fingerprint.
        fingerprint: String,
    },
    /// No database has one of this name.
    #[error("no database was used with a key that is called {name}; those that there are: {names}")]
    UnknownName {
        /// Its name.
        name: String,
        /// All names.
        names: String,
    },
    /// Its fingerprint is not said.
    #[error("which {name}? say its fingerprint behind it: {fingerprints}")]
    NoFingerprint {
        /// Its name.
        name: String,
        /// The fingerprints of the keys that are called so.
        fingerprints: String,
    },
    /// No database has it.
    #[error(
        "no database was used with {name} {fingerprint}; `sluice keys list` shows the names and fingerprints that there are"
    )]
    Unknown {
        /// Its name.
        name: String,
        /// Its fingerprint.
        fingerprint: String,
    },
    /// A configured key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The media server's settings.
    #[error(transparent)]
    Settings(#[from] RunError),
    /// The gateway's database.
    #[error(transparent)]
    OpenGateway(#[from] DatabaseError),
    /// The gateway's database.
    #[error(transparent)]
    Gateway(#[from] LedgerError),
    /// The media server's database.
    #[error(transparent)]
    Backend(#[from] DbError),
    /// Standard output.
    #[error("standard output: {0}")]
    Io(#[from] io::Error),
}

/// Writes a line for each key that a database was used with.
pub async fn list(settings: &Settings, out: &mut (dyn Write + Send)) -> Result<(), KeyUseError> {
    for database in databases(settings).await? {
        for key in database.in_use().await? {
            let state = if database.configured.contains(&key) { "configured" } else { "missing" };
            writeln!(out, "{:<8} {:<20} {} {state}", database.name, key.name, key.fingerprint)?;
        }
    }
    Ok(out.flush()?)
}

/// Has every database forget the key `name` of this fingerprint, which must not be configured, and writes what that means.
pub async fn forget(
    settings: &Settings,
    name: String,
    fingerprint: Option<String>,
    out: &mut (dyn Write + Send),
) -> Result<(), KeyUseError> {
    let databases = databases(settings).await?;
    let mut used = Vec::new();
    for database in &databases {
        used.extend(database.in_use().await?);
    }
    if used.iter().all(|key| key.name != name) {
        return Err(KeyUseError::UnknownName { name, names: listed(used.into_iter().map(|key| key.name)) });
    }
    let Some(fingerprint) = fingerprint else {
        let of_name = used.into_iter().filter(|key| key.name == name);
        return Err(KeyUseError::NoFingerprint { fingerprints: listed(of_name.map(|key| key.fingerprint)), name });
    };
    let key = &KeyUse { name: name.clone(), fingerprint: fingerprint.clone() };
    if databases.iter().any(|database| database.configured.contains(key)) {
        return Err(KeyUseError::Configured { name, fingerprint });
    }
    let mut forgot = false;
    for database in databases {
        if database.forget(key).await? {
            forgot = true;
            writeln!(out, "the database of the {} forgot {name} {fingerprint}", database.name)?;
        }
    }
    if !forgot {
        return Err(KeyUseError::Unknown { name, fingerprint });
    }
    if let Some(loss) = loss(&name) {
        writeln!(out, "without this key, {loss}")?;
    }
    Ok(out.flush()?)
}

/// Each text once, in order.
fn listed(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

/// What no longer works without a key.
fn loss(name: &str) -> Option<&'static str> {
    match name {
        "SLUICE_MASTER_KEYS" => Some(
            "tokens that were made with it are refused, and files that were stored with such a token, and with no login, \
             are out of reach",
        ),
        "JWT_KEY" => Some("logins that were made with it have ended: their owners log in again"),
        "LOCAL_ENCRYPTION_KEY" => Some("files that were stored with it cannot be read"),
        "wallet_key" => Some("unpaid invoices that were made with it cannot be paid; tokens that are paid stay good"),
        _ => None,
    }
}

/// A database that is there, and the keys of the part that uses it.
struct InUse {
    name: &'static str,
    kind: Kind,
    configured: Vec<KeyUse>,
}

enum Kind {
    Gateway(Arc<dyn LedgerDb>),
    Backend(Arc<dyn Database>),
}

/// The databases that are there, which are one alone where the parts run on two machines.
async fn databases(settings: &Settings) -> Result<Vec<InUse>, KeyUseError> {
    let (gateway, backend) = (settings.gateway_database(), settings.backend_database());
    let mut databases = Vec::new();
    match Databases::existing_ledger(settings).await {
        Ok(ledger) => databases.push(InUse {
            name: "gateway",
            configured: configured(&keys::master_keys(settings)?, wallet_key(settings)?.as_ref()),
            kind: Kind::Gateway(ledger),
        }),
        Err(DatabaseError::NoLedger(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let has_backend = match settings.backend_database_config().map_err(RunError::from)? {
        DatabaseConfig::Sqlite { path } => path.exists(),
        DatabaseConfig::Postgres(config) => PostgresDatabase::look(&config).await? == PostgresState::Ours,
    };
    if has_backend {
        // No key depends on the network.
        let config = server::backend_config(settings, keys::master_keys(settings)?, Network::TestWallet)?;
        databases.push(InUse {
            name: "backend",
            configured: sluice_backend::keys::configured(&config),
            kind: Kind::Backend(db::open(&config.database).await?),
        });
    }
    if databases.is_empty() {
        return Err(KeyUseError::NoDatabase { gateway: gateway.to_string(), backend: backend.to_string() });
    }
    Ok(databases)
}

/// The embedded wallet's key, if that takes the payments. None where no wallet ever did: with `sluice up --lnd` and no file
/// the settings still name it.
fn wallet_key(settings: &Settings) -> Result<Option<Secret<[u8; 32]>>, KeyError> {
    if !settings.lightning.is_wallet() {
        return Ok(None);
    }
    match keys::wallet_key(settings) {
        Err(KeyError::Missing { .. }) => Ok(None),
        key => key.map(Some),
    }
}

impl InUse {
    async fn in_use(&self) -> Result<Vec<KeyUse>, KeyUseError> {
        Ok(match &self.kind {
            Kind::Gateway(db) => db.keys_in_use().await?,
            Kind::Backend(db) => db.keys_in_use().await?,
        })
    }

    async fn forget(&self, key: &KeyUse) -> Result<bool, KeyUseError> {
        Ok(match &self.kind {
            Kind::Gateway(db) => db.forget_key(key).await?,
            Kind::Backend(db) => db.forget_key(key).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sluice_gateway::ledger::key_use;

    use super::*;

    async fn all_of(settings: &Settings) -> String {
        let mut out = Vec::new();
        list(settings, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    fn gateway_keys(settings: &Settings) -> Vec<KeyUse> {
        configured(&keys::master_keys(settings).unwrap(), Some(&keys::wallet_key(settings).unwrap()))
    }

    async fn start_gateway(settings: &Settings) -> bool {
        let ledger = Databases::open(settings).await.unwrap().ledger;
        key_use::check(&*ledger, &gateway_keys(settings)).await.is_ok()
    }

    #[tokio::test]
    async fn lists_also_where_no_wallet_ever_took_a_payment() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
        keys::make_missing(&settings).unwrap();
        fs::remove_file(dir.path().join("keys/wallet.key")).unwrap();
        let ledger = Databases::open(&settings).await.unwrap().ledger;
        let with_lnd = configured(&keys::master_keys(&settings).unwrap(), None);
        key_use::check(&*ledger, &with_lnd).await.unwrap();
        assert_eq!(all_of(&settings).await.matches("configured").count(), 1);
    }

    #[tokio::test]
    async fn a_key_that_is_gone_is_forgotten_and_one_that_is_configured_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
        assert!(matches!(list(&settings, &mut Vec::new()).await, Err(KeyUseError::NoDatabase { .. })));
        keys::make_missing(&settings).unwrap();
        assert!(start_gateway(&settings).await);
        let before = all_of(&settings).await;
        assert_eq!(before.matches("configured").count(), 2, "{before}");

        fs::write(dir.path().join("keys/wallet.key"), "5a".repeat(32)).unwrap();
        assert!(!start_gateway(&settings).await);
        let now = all_of(&settings).await;
        let missing = now.lines().find(|line| line.ends_with("missing")).unwrap();
        let [_, name, fingerprint, _] = missing.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{missing}") };
        let lost = KeyUse { name: name.to_owned(), fingerprint: fingerprint.to_owned() };
        let mut out = Vec::new();
        let forget = async |name: &str, fingerprint: Option<&str>, out: &mut Vec<u8>| {
            forget(&settings, name.to_owned(), fingerprint.map(str::to_owned), out).await
        };
        let error = forget("nope", None, &mut out).await.unwrap_err().to_string();
        assert!(error.contains("called nope;") && error.ends_with(": SLUICE_MASTER_KEYS, wallet_key"), "{error}");
        let error = forget(&lost.name, None, &mut out).await.unwrap_err().to_string();
        assert!(error.starts_with("which wallet_key?") && error.ends_with(&lost.fingerprint), "{error}");
        forget(&lost.name, Some(&lost.fingerprint), &mut out).await.unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("gateway forgot wallet_key") && out.contains("invoices"), "{out}");
        assert!(start_gateway(&settings).await);
        let error = forget(&lost.name, Some(&lost.fingerprint), &mut Vec::new()).await.unwrap_err();
        assert!(matches!(error, KeyUseError::Unknown { .. }), "{error}");

        for key in gateway_keys(&settings) {
            let error = forget(&key.name, Some(&key.fingerprint), &mut Vec::new()).await.unwrap_err();
            assert!(matches!(error, KeyUseError::Configured { .. }), "{error}");
        }
        assert_eq!(all_of(&settings).await.matches("configured").count(), 2);
    }
}
