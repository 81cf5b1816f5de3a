//! Which keys the rows depend on. Started without one of them, the server would serve nothing of what was stored, or
//! refuse what was sold; so it does not start, and says which.

use sluice_common::{
    keys::{KeyMissing, KeyUse, check_in_use, fingerprint},
    secret::Secret,
};

use crate::{
    config::BackendConfig,
    db::{Database, DbError},
    upload::SealingKey,
};

/// Why the keys are not those that the rows depend on.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// One is missing.
    #[error(transparent)]
    Missing(#[from] KeyMissing),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Refuses to go on without a key that rows depend on, then notes that the configured keys are in use: all but one for
/// sealing that seals nothing.
pub async fn check(db: &dyn Database, config: &BackendConfig) -> Result<(), KeysError> {
    let configured = configured(config);
    check_in_use(db.keys_in_use().await?, &configured)?;
    let in_use = configured.iter().filter(|key| config.store.seals() || key.name != SEALING_KEY);
    for key in in_use {
        db.note_key(key).await?;
    }
    Ok(())
}

/// The keys of a media server.
pub fn configured(config: &BackendConfig) -> Vec<KeyUse> {
    let jwt = KeyUse::of("JWT_KEY", config.jwt_key.expose(), "sluice v1 JWT key fingerprint");
    let encryption = config.store.encryption_key().into_iter();
    let encryption = encryption.map(|key| KeyUse::of(SEALING_KEY, key.expose(), SEALING_KEY_FINGERPRINT));
    KeyUse::of_master_keys(&config.master_keys).chain([jwt]).chain(encryption).collect()
}

const SEALING_KEY: &str = "LOCAL_ENCRYPTION_KEY";

const SEALING_KEY_FINGERPRINT: &str = "sluice v1 sealing key fingerprint";

/// The key that copies are sealed under, with its fingerprint.
pub fn sealing_key(master: &Secret<[u8; 32]>) -> SealingKey {
    SealingKey { master: master.clone(), fingerprint: fingerprint(master.expose(), SEALING_KEY_FINGERPRINT) }
}
