//! Which keys the gateway was used with. Started without one of them, it would refuse what was sold, or not know its own
//! invoices; so it does not start, and says which.

use sluice_common::{
    keys::{self, KeyMissing, KeyUse, MasterKeys},
    secret::Secret,
};
use sqlx::{query, query_as};

use super::GatewayDb;

/// Why the keys are not those that the gateway was used with.
#[derive(Debug, thiserror::Error)]
pub enum KeyUseError {
    /// One is missing.
    #[error(transparent)]
    Missing(#[from] KeyMissing),
    /// The database failed.
    #[error("the gateway's database: {0}")]
    Db(#[from] sqlx::Error),
}

/// The keys of a gateway that takes payments with the embedded wallet.
pub fn configured(master_keys: &MasterKeys, wallet_key: &Secret<[u8; 32]>) -> Vec<KeyUse> {
    let wallet = KeyUse::of("wallet_key", wallet_key.expose(), "sluice v1 wallet key fingerprint");
    KeyUse::of_master_keys(master_keys).chain([wallet]).collect()
}

impl GatewayDb {
    /// Refuses to go on without a key that is in use, then notes that all of the configured keys are.
    pub async fn check_keys(&self, configured: &[KeyUse]) -> Result<(), KeyUseError> {
        keys::check_in_use(self.keys_in_use().await?, configured)?;
        let mut transaction = self.write().await?;
        for key in configured {
            query("INSERT INTO gateway_key_use (name, fingerprint) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(&key.name)
                .bind(&key.fingerprint)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The keys in use.
    pub async fn keys_in_use(&self) -> Result<Vec<KeyUse>, KeyUseError> {
        let rows: Vec<(String, String)> =
            query_as("SELECT name, fingerprint FROM gateway_key_use ORDER BY name, fingerprint")
                .fetch_all(self.reader())
                .await?;
        Ok(rows.into_iter().map(|(name, fingerprint)| KeyUse { name, fingerprint }).collect())
    }

    /// Forgets that `key` is in use: from now on the gateway starts without it. False: it was not in use.
    pub async fn forget_key(&self, key: &KeyUse) -> Result<bool, KeyUseError> {
        let mut transaction = self.write().await?;
        let deleted = query("DELETE FROM gateway_key_use WHERE name = $1 AND fingerprint = $2")
            .bind(&key.name)
            .bind(&key.fingerprint)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected() > 0)
    }
}

#[cfg(test)]
mod tests {
    use sluice_common::keys::MasterKey;

    use super::*;

    fn master(keys: &[u8]) -> MasterKeys {
        let keys = keys.iter().map(|&byte| MasterKey::new(&Secret::new([byte; 32]), 0));
        MasterKeys::new(keys.collect()).unwrap()
    }

    fn with(master_keys: &[u8], wallet_key: u8) -> Vec<KeyUse> {
        configured(&master(master_keys), &Secret::new([wallet_key; 32]))
    }

    #[tokio::test]
    async fn no_start_without_a_key_that_was_used_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
        db.check_keys(&with(&[1], 9)).await.unwrap();
        db.check_keys(&with(&[1], 9)).await.unwrap();
        db.check_keys(&with(&[1, 2], 9)).await.unwrap();
        for (configured, name) in [(with(&[2], 9), "SLUICE_MASTER_KEYS"), (with(&[1, 2], 8), "wallet_key")] {
            let Err(KeyUseError::Missing(missing)) = db.check_keys(&configured).await else { panic!("{name}") };
            assert_eq!(missing.name, name);
        }
        assert_eq!(db.keys_in_use().await.unwrap().len(), 3, "a start that is refused notes nothing");

        let first = with(&[1], 9).remove(0);
        assert!(db.forget_key(&first).await.unwrap());
        assert!(!db.forget_key(&first).await.unwrap());
        db.check_keys(&with(&[2], 9)).await.unwrap();
    }
}
