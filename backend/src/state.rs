//! What every route has at hand.

use std::sync::Arc;

use sluice_common::{keys::MasterKeys, l402::ServiceTerms, limits::FreeUploads, network::Network};

use crate::{
    auth::Logins,
    config::BackendConfig,
    db::Database,
    keys,
    login::Challenges,
    store::BlobStore,
    upload::{
        SealingKey, Uploads,
        drain::{DrainLimits, Drains},
    },
};

/// What every route has at hand.
pub struct App {
    /// The rows.
    pub db: Arc<dyn Database>,
    /// The bytes.
    pub store: Arc<dyn BlobStore>,
    /// Takes uploads.
    pub uploads: Arc<Uploads>,
    /// Opens what was sealed.
    pub sealing_key: Option<SealingKey>,
    /// Makes and reads logins.
    pub logins: Logins,
    /// Makes and checks what a node signs to log in.
    pub challenges: Challenges,
    /// The server's name in media tokens.
    pub host: String,
    /// The limits of the upload routes that cost nothing.
    pub free_uploads: FreeUploads,
    /// What credentials are checked against.
    pub terms: ServiceTerms,
    /// What credentials were minted under.
    pub master_keys: MasterKeys,
    /// The network that credentials were paid on.
    pub network: Network,
}

impl App {
    /// What the routes of a server with this configuration work on.
    pub fn new(config: &BackendConfig, db: Arc<dyn Database>, store: Arc<dyn BlobStore>) -> Self {
        let sealing_key = config.store.encryption_key().map(keys::sealing_key);
        let seals_with = sealing_key.clone().filter(|_| config.store.seals());
        Self {
            uploads: Arc::new(Uploads::new(Arc::clone(&db), Arc::clone(&store), seals_with)),
            db,
            store,
            sealing_key,
            logins: Logins::new(&config.jwt_key),
            challenges: Challenges::new(&config.jwt_key),
            host: config.host.clone(),
            free_uploads: config.free_uploads,
            terms: config.terms.clone(),
            master_keys: config.master_keys.clone(),
            network: config.network,
        }
    }

    /// The bounds on reading what is left of a body that was answered early.
    pub fn drains(&self) -> Drains {
        let paid = self.terms.max_upload_mb.saturating_mul(sluice_common::limits::BYTES_PER_MB);
        Drains::new(DrainLimits::for_uploads_of(paid.max(self.free_uploads.max_upload_bytes())))
    }
}
