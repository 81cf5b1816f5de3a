//! Which keys the rows depend on. Started without one of them, the server would serve nothing of what was stored, or
//! refuse what was sold; so it does not start, and says which.

use ring::hmac;
use sluice_common::secret::Secret;

use crate::{
    auth::JwtKey,
    config::{BackendConfig, StoreConfig},
    db::{Database, DbError, KeyUse},
    upload::SealingKey,
};

/// Why the keys are not those that the rows depend on.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A key that rows depend on is not among those configured.
    #[error(
        "{name} is not the key that the database was used with (its fingerprint there: {fingerprint}); start with that \
         key, or, to give up all that depends on it, delete its row in the table `key_use`"
    )]
    Missing {
        /// What configuration calls it.
        name: String,
        /// Of the key that is missing.
        fingerprint: String,
    },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Refuses to go on without a key that rows depend on, then notes that all of the configured keys are in use.
pub async fn check(db: &dyn Database, config: &BackendConfig) -> Result<(), KeysError> {
    let configured = configured(config);
    for key in db.keys_in_use().await? {
        if !configured.contains(&key) {
            return Err(KeysError::Missing { name: key.name, fingerprint: key.fingerprint });
        }
    }
    for key in &configured {
        db.note_key(key).await?;
    }
    Ok(())
}

/// The key that copies are sealed under, with its fingerprint.
pub fn sealing_key(master: &Secret<[u8; 32]>) -> SealingKey {
    SealingKey {
        master: master.clone(),
        fingerprint: fingerprint(master.expose(), b"sluice v1 sealing key fingerprint"),
    }
}

fn configured(config: &BackendConfig) -> Vec<KeyUse> {
    let StoreConfig::Local { encryption_key, .. } = &config.store;
    let jwt = jwt_fingerprint(&config.jwt_key);
    let keys = config.master_keys.fingerprints().map(|fingerprint| ("SLUICE_MASTER_KEYS", fingerprint));
    let keys = keys.chain([("JWT_KEY", jwt)]);
    let keys = keys.chain(encryption_key.iter().map(|key| ("LOCAL_ENCRYPTION_KEY", sealing_key(key).fingerprint)));
    keys.map(|(name, fingerprint)| KeyUse { name: name.to_owned(), fingerprint }).collect()
}

fn jwt_fingerprint(key: &JwtKey) -> String {
    fingerprint(key.expose(), b"sluice v1 JWT key fingerprint")
}

/// 16 hexadecimal digits that tell keys apart.
fn fingerprint(key: &[u8], label: &[u8]) -> String {
    hex::encode(&hmac_sha256(key, label)[..8])
}

/// HMAC-SHA256: what is derived from a key under one label says nothing of the key, nor of what another label gives.
pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref());
    out
}
