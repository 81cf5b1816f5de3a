//! What every route has at hand.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_common::{keys::MasterKeys, lightning_message::NodeKey, limits::FreeUploads, muid::Muid, network::Network};

use crate::{
    auth::Logins,
    config::{BackendConfig, DatabaseConfig, MediaTerms},
    db::{Content, Database},
    disk::DiskGuard,
    keys,
    ledger::Ledger,
    legacy::{self, LegacyError},
    login::Challenges,
    pictures::Pictures,
    podcast::PodcastIndex,
    store::BlobStore,
    upload::{
        SealingKey, Uploads,
        drain::{DrainLimits, Drains},
    },
};

/// What credentials are checked against. A reload changes it.
pub struct Accepted {
    /// What they may allow.
    pub terms: MediaTerms,
    /// What they were minted under.
    pub master_keys: MasterKeys,
}

impl Accepted {
    /// What a server with this configuration accepts.
    pub fn new(config: &BackendConfig) -> Self {
        Self { terms: config.terms.clone(), master_keys: config.master_keys.clone() }
    }
}

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
    /// What credentials are checked against, now.
    pub accepted: Arc<ArcSwap<Accepted>>,
    /// The bounds on reading what is left of a body that was answered early.
    pub drains: Drains,
    /// The network that credentials were paid on.
    pub network: Network,
    /// Says which of them are revoked.
    pub ledger: Ledger,
    /// The nodes that may add templates; none: any that is logged in and may write.
    pub template_uploaders: Option<Vec<NodeKey>>,
    /// Makes thumbnails.
    pub pictures: Pictures,
    /// Looks up podcasts.
    pub podcasts: PodcastIndex,
    /// Whether a file is public of which sphinx-meme did not know. Only said here: the database knows it too.
    pub legacy_public: bool,
}

impl App {
    /// What the routes of a server with this configuration work on. Must be called in a tokio runtime.
    pub fn new(config: &BackendConfig, db: Arc<dyn Database>, store: Arc<dyn BlobStore>) -> Self {
        let sealing_key = config.store.encryption_key().map(keys::sealing_key);
        let seals_with = sealing_key.clone().filter(|_| config.store.seals());
        let uploads = Uploads::new(Arc::clone(&db), Arc::clone(&store), seals_with);
        let disk = DiskGuard::new(config.store.dir(), config.database.dir(), config.min_free_disk_bytes);
        Self {
            uploads: Arc::new(uploads.with_quota(config.quota).with_disk(disk)),
            db,
            store,
            sealing_key,
            logins: Logins::new(&config.jwt_key),
            challenges: Challenges::new(&config.jwt_key),
            host: config.host.clone(),
            free_uploads: config.free_uploads,
            accepted: Arc::new(ArcSwap::from_pointee(Accepted::new(config))),
            drains: drains(&config.terms, config.free_uploads),
            network: config.network,
            ledger: Ledger::follow(&config.ledger),
            template_uploaders: config.template_uploaders.clone(),
            pictures: Pictures::default(),
            podcasts: PodcastIndex::new(config.podcast_index.clone()),
            legacy_public: match &config.database {
                DatabaseConfig::Sqlite { .. } => false,
                DatabaseConfig::Postgres(postgres) => postgres.legacy_public,
            },
        }
    }

    /// The stored copy of a content.
    pub async fn content(&self, muid: Muid) -> Result<Option<Content>, LegacyError> {
        legacy::content(&*self.db, &*self.store, self.sealing_key.as_ref(), muid).await
    }

    /// Takes credentials by this from now on.
    pub fn accept(&self, accepted: Accepted) {
        self.drains.configure(largest_upload(&accepted.terms, self.free_uploads));
        self.accepted.store(Arc::new(accepted));
    }
}

/// The bounds on reading what is left of a body, where uploads have these limits.
pub(crate) fn drains(terms: &MediaTerms, free_uploads: FreeUploads) -> Drains {
    Drains::new(DrainLimits::for_uploads_of(largest_upload(terms, free_uploads)))
}

/// In bytes.
fn largest_upload(terms: &MediaTerms, free_uploads: FreeUploads) -> u64 {
    terms.max_upload_bytes().max(free_uploads.max_upload_bytes())
}
