//! Which keys the gateway was used with. Started without one of them, it would refuse what was sold, or not know its own
//! invoices; so it does not start, and says which.

use sluice_common::{
    keys::{self, KeyMissing, KeyUse, MasterKeys},
    secret::Secret,
};

use super::{LedgerDb, LedgerError};

const WALLET_KEY: &str = "wallet_key";

/// Why the keys are not those that the gateway was used with.
#[derive(Debug, thiserror::Error)]
pub enum KeyUseError {
    /// One is missing.
    #[error(transparent)]
    Missing(#[from] KeyMissing),
    /// The database failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The keys of a gateway, the embedded wallet's among them if that takes the payments.
pub fn configured(master_keys: &MasterKeys, wallet_key: Option<&Secret<[u8; 32]>>) -> Vec<KeyUse> {
    let of_wallet = |key: &Secret<[u8; 32]>| KeyUse::of(WALLET_KEY, key.expose(), "sluice v1 wallet key fingerprint");
    KeyUse::of_master_keys(master_keys).chain(wallet_key.map(of_wallet)).collect()
}

/// Refuses to go on without a key that is in use, then notes that all of the configured keys are.
pub async fn check(ledger: &dyn LedgerDb, configured: &[KeyUse]) -> Result<(), KeyUseError> {
    refuse_missing(ledger, configured).await?;
    ledger.note_keys(configured).await?;
    // Of two gateways that start at once with other keys, the one that notes its own last sees those of both.
    refuse_missing(ledger, configured).await
}

async fn refuse_missing(ledger: &dyn LedgerDb, configured: &[KeyUse]) -> Result<(), KeyUseError> {
    let mut in_use = ledger.keys_in_use().await?;
    // Of a wallet that no longer takes the payments nobody asks for anything.
    in_use.retain(|key| key.name != WALLET_KEY || configured.iter().any(|other| other.name == WALLET_KEY));
    Ok(keys::check_in_use(in_use, configured)?)
}

#[cfg(test)]
mod tests {
    use sluice_common::keys::MasterKey;

    use super::*;
    use crate::db::GatewayDb;

    fn master(keys: &[u8]) -> MasterKeys {
        let keys = keys.iter().map(|&byte| MasterKey::new(&Secret::new([byte; 32]), 0));
        MasterKeys::new(keys.collect()).unwrap()
    }

    fn with(master_keys: &[u8], wallet_key: u8) -> Vec<KeyUse> {
        configured(&master(master_keys), Some(&Secret::new([wallet_key; 32])))
    }

    #[tokio::test]
    async fn no_start_without_a_key_that_was_used_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
        check(&db, &with(&[1], 9)).await.unwrap();
        check(&db, &with(&[1], 9)).await.unwrap();
        check(&db, &with(&[1, 2], 9)).await.unwrap();
        for (configured, name) in [(with(&[2], 9), "SLUICE_MASTER_KEYS"), (with(&[1, 2], 8), "wallet_key")] {
            let Err(KeyUseError::Missing(missing)) = check(&db, &configured).await else { panic!("{name}") };
            assert_eq!(missing.name, name);
        }
        assert_eq!(db.keys_in_use().await.unwrap().len(), 3, "a start that is refused notes nothing");
        check(&db, &configured(&master(&[1, 2]), None)).await.unwrap();

        let first = with(&[1], 9).remove(0);
        assert!(db.forget_key(&first).await.unwrap());
        assert!(!db.forget_key(&first).await.unwrap());
        check(&db, &with(&[2], 9)).await.unwrap();
    }

    #[tokio::test]
    async fn of_two_that_start_at_once_with_other_keys_never_both_do() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
            let (one, other) = (with(&[1], 8), with(&[1], 9));
            let (first, second) = tokio::join!(check(&db, &one), check(&db, &other));
            assert!(first.is_err() || second.is_err());
        }
    }
}
