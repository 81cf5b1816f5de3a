//! The multipart uploads that this process began and neither completed nor aborted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::store::StoreKey;

/// All of them, by their keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Begun(Arc<Mutex<HashMap<StoreKey, BegunUpload>>>);

/// One of them. Clones are of the same one.
#[derive(Debug, Clone)]
pub(super) struct BegunUpload {
    pub(super) id: String,
    /// Read by each part that is on its way.
    parts: Arc<RwLock<()>>,
}

impl Begun {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<StoreKey, BegunUpload>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn begin(&self, key: &StoreKey, id: String) -> BegunUpload {
        let upload = BegunUpload { id, parts: Arc::default() };
        self.with(|begun| begun.insert(key.clone(), upload.clone()));
        upload
    }

    pub(super) fn get(&self, key: &StoreKey) -> Option<BegunUpload> {
        self.with(|begun| begun.get(key).cloned())
    }

    pub(super) fn end(&self, key: &StoreKey, upload: &BegunUpload) {
        self.with(|begun| begun.get(key).is_some_and(|begun| begun.id == upload.id).then(|| begun.remove(key)));
    }
}

impl BegunUpload {
    /// What a part has that is on its way, as long as the server may be at it.
    pub(super) async fn sending(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.parts).read_owned().await
    }

    /// Waits until no part is on its way, and keeps others from setting out: one that is while the upload is aborted may
    /// come after that, and stay (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html>).
    pub(super) async fn quiet(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.parts).write_owned().await
    }
}
