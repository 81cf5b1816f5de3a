//! Receiving uploads.
//!
//! An upload is a task of its own from its first byte on, so that a client who hangs up cancels nothing: if the body
//! had come whole it is stored all the same, and if not, the body's failure ends the upload and everything of it is
//! removed. It is stored exactly when `commit_upload` made it so; the answer only reports that.

mod body;
pub mod drain;
mod error;
mod fields;
mod form;
mod pipeline;
mod retry;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::{Body, Bytes, HttpBody};
use sluice_common::{
    dare::DataKey,
    limits::{MAX_FORM_OVERHEAD_BYTES, body_too_large},
    muid::Muid,
    secret::Secret,
};
use time::OffsetDateTime;
use tokio::{
    sync::{Mutex, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use self::{body::BodyBytes, pipeline::Pipeline};
pub use self::{error::UploadError, fields::read_change};
use crate::{
    db::{
        BeginError, CommitError, Committed, ContentId, Database, FinishedUpload, FinishedVariant, NewMedia, NewUpload,
        Owner, PaidUse, Quota, Sealing, Variant,
    },
    disk::{DiskGuard, Room},
    legacy, pictures,
    store::{BlobStore, StoreKey},
    sweeper,
};

/// How long nobody may sweep an upload that has not been heard of. It is renewed when a third of it is over.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// In which part of a picture its width and height are looked for.
const PICTURE_HEAD_LEN: usize = 1024 * 1024;

/// The key that copies are sealed under.
#[derive(Debug, Clone)]
pub struct SealingKey {
    /// What the key of each copy is derived from.
    pub master: Secret<[u8; 32]>,
    /// Tells sealing keys apart and says nothing of them.
    pub fingerprint: String,
}

/// What may be uploaded, and for whom.
#[derive(Debug, Clone)]
pub struct UploadOrder {
    /// Whose the file will be.
    pub owner: Owner,
    /// The most bytes of the file.
    pub max_upload_bytes: u64,
    /// What it is paid with, on the paid route.
    pub paid: Option<PaidUse>,
    /// Whether the file is public where the form does not say.
    pub public: bool,
    /// Whether it is to be a template: a picture, which is measured.
    pub template: bool,
}

/// Receives uploads into one store.
pub struct Uploads {
    db: Arc<dyn Database>,
    store: Arc<dyn BlobStore>,
    sealing_key: Option<SealingKey>,
    quota: Quota,
    disk: Arc<DiskGuard>,
    lease: Duration,
    running: TaskTracker,
    /// One at a time: many that look for the same rows would only do the same work.
    sweeping: Mutex<()>,
}

impl Uploads {
    /// Receives uploads into `store`, sealed if there is a key.
    pub fn new(db: Arc<dyn Database>, store: Arc<dyn BlobStore>, sealing_key: Option<SealingKey>) -> Self {
        let running = TaskTracker::new();
        Self {
            db,
            store,
            sealing_key,
            quota: Quota::default(),
            disk: Arc::new(DiskGuard::none()),
            lease: LEASE,
            running,
            sweeping: Mutex::new(()),
        }
    }

    /// The same, where no owner may have more than `quota`.
    #[must_use]
    pub fn with_quota(self, quota: Quota) -> Self {
        Self { quota, ..self }
    }

    /// The same, where `disk` keeps room.
    #[must_use]
    pub fn with_disk(self, disk: DiskGuard) -> Self {
        Self { disk: Arc::new(disk), ..self }
    }

    /// Receives one upload: `body` is a form with this content type. When it returns `Ok` the file is stored, durably;
    /// when it returns an error nothing is, and a use that was held is given back. Dropping the future cancels nothing.
    ///
    /// What is left of the body after an error is dropped: see [`drain::drain_unread`].
    pub async fn receive(
        self: &Arc<Self>,
        order: UploadOrder,
        content_type: Option<&str>,
        body: Body,
    ) -> Result<Committed, UploadError> {
        let boundary = form::boundary(content_type)?;
        if body.size_hint().exact().is_some_and(|declared| body_too_large(declared, order.max_upload_bytes)) {
            return Err(UploadError::TooLarge { limit_bytes: order.max_upload_bytes });
        }
        self.check_quota(&order.owner, body.size_hint().exact()).await?;
        let room = self.disk.room(body.size_hint().exact()).await?;
        let (answer, answered) = oneshot::channel();
        let uploads = Arc::clone(self);
        // With the id of its request in what it logs.
        self.running.spawn(async move { uploads.run(order, boundary, body, room, answer).await }.in_current_span());
        answered.await.unwrap_or(Err(UploadError::Interrupted))
    }

    /// Refuses what its owner will surely have no room for, before it is sent. It may be a file that the owner has
    /// already, which counts once: then it has the length of one of them.
    async fn check_quota(&self, owner: &Owner, declared: Option<u64>) -> Result<(), UploadError> {
        let Some(longest) = declared.filter(|_| self.quota.is_limited()) else { return Ok(()) };
        let shortest = longest.saturating_sub(MAX_FORM_OVERHEAD_BYTES).max(1);
        let checked = self.quota.check(self.db.usage(owner).await?, shortest);
        if checked.is_err() && self.db.owns_of_size(owner, shortest..=longest).await? {
            return Ok(());
        }
        Ok(checked?)
    }

    /// Stores a picture that was made of the file `muid`, in a task of its own. What fails is logged: it can be made again.
    pub fn store_variant(self: &Arc<Self>, muid: Muid, variant: Variant, picture: Bytes) {
        let uploads = Arc::clone(self);
        self.running.spawn(async move {
            if let Err(error) = uploads.try_store_variant(muid, variant, &picture).await {
                tracing::warn!(%error, "a thumbnail could not be kept");
            }
            uploads.sweep().await;
        });
    }

    async fn try_store_variant(&self, muid: Muid, variant: Variant, picture: &[u8]) -> Result<(), UploadError> {
        let upload = self.new_upload(None);
        let content = self.db.begin_upload(&upload, OffsetDateTime::now_utc()).await?;
        let storing = async {
            let mut pipeline = self.pipeline(&upload, picture.len() as u64);
            pipeline.write(picture).await?;
            let finished = FinishedVariant { content, muid, variant, size: pipeline.finish().await?.size };
            match self.db.commit_variant(&finished, &*self.store).await {
                // The file was deleted meanwhile.
                Err(CommitError::NoFile) => self.db.abandon_upload(content).await.map_err(UploadError::from),
                committed => Ok(committed.map(drop)?),
            }
        };
        let stored = storing.await;
        if stored.is_err() {
            self.give_up(content).await;
        }
        stored
    }

    /// Removes what was just deleted, in a task of its own.
    pub fn sweep_soon(self: &Arc<Self>) {
        let uploads = Arc::clone(self);
        self.running.spawn(async move { uploads.sweep().await });
    }

    /// Waits until no upload is under way and nothing is left to clean up after one.
    pub async fn wait(&self) {
        self.running.close();
        self.running.wait().await;
        self.running.reopen();
    }

    async fn run(
        &self,
        order: UploadOrder,
        boundary: String,
        body: Body,
        room: Room,
        answer: oneshot::Sender<Result<Committed, UploadError>>,
    ) {
        let answer = |result: Result<Committed, UploadError>| {
            if let Err(error) = result.as_ref()
                && error.is_internal()
            {
                tracing::error!(%error, "an upload failed");
            }
            // Whoever hung up is not told.
            let _ = answer.send(result);
        };
        let upload = self.new_upload(order.paid.clone());
        let content = match self.db.begin_upload(&upload, OffsetDateTime::now_utc()).await {
            Ok(content) => content,
            Err(BeginError::UsedUp) if let Some(paid) = &order.paid => {
                drop(room);
                let compared = self.compare(&order, paid, boundary, body).await;
                return answer(compared.map(|media| Committed { media, stored_before: true }));
            }
            Err(error) => return answer(Err(error.into())),
        };
        let lease_lost = CancellationToken::new();
        let committing = async {
            let body = BodyBytes::new(body, lease_lost.clone());
            let finished = self.store_copy(content, &upload, order, boundary, body, room).await?;
            // A copy that sphinx-meme left stays, if it is good.
            let key = self.sealing_key.as_ref();
            if let Err(error) = legacy::adopt_copy_of(&*self.db, &*self.store, key, finished.muid).await {
                tracing::warn!(%error, "an upload takes the place of a copy that was left by sphinx-meme");
            }
            Ok(self.db.commit_upload(&finished, &*self.store, OffsetDateTime::now_utc()).await)
        };
        // The keeper never ends the upload itself: a store's call that is cut off could still make its file later. And
        // it goes on to the end, for a commit may have to wait for others.
        let committed = tokio::select! {
            committed = committing => committed,
            never = self.keep_lease(content, &lease_lost) => match never {},
        };
        match committed {
            Ok(Ok(committed)) => answer(Ok(committed)),
            Err(error) => {
                self.give_up(content).await;
                answer(Err(error));
                return self.remove(content, &upload.store_key).await;
            }
            Ok(Err(error @ CommitError::LeaseLost)) => {
                answer(Err(error.into()));
                return self.remove(content, &upload.store_key).await;
            }
            // It may have been stored all the same, so nothing is removed but what the rows give up.
            Ok(Err(error)) => {
                self.give_up(content).await;
                answer(Err(error.into()));
            }
        }
        self.sweep().await;
    }

    fn new_upload(&self, paid: Option<PaidUse>) -> NewUpload {
        let sealing = self
            .sealing_key
            .as_ref()
            .map(|key| Sealing { nonce: rand::random(), key_fingerprint: key.fingerprint.clone() });
        NewUpload {
            store: self.store.kind(),
            store_key: StoreKey::random(),
            sealing,
            lease_until: OffsetDateTime::now_utc() + self.lease,
            paid,
        }
    }

    fn pipeline(&self, upload: &NewUpload, longest: u64) -> Pipeline {
        let data_key = match (&self.sealing_key, &upload.sealing) {
            (Some(key), Some(sealing)) => Some(DataKey::derive(key.master.expose(), &sealing.nonce)),
            _ => None,
        };
        Pipeline::new(Arc::clone(&self.store), upload.store_key.clone(), data_key, longest)
    }

    /// Reads the form and stores its file.
    async fn store_copy(
        &self,
        content: ContentId,
        upload: &NewUpload,
        order: UploadOrder,
        boundary: String,
        body: BodyBytes,
        room: Room,
    ) -> Result<FinishedUpload, UploadError> {
        let head_len = if order.template { PICTURE_HEAD_LEN } else { 0 };
        let longest = body.declared().unwrap_or(u64::MAX).min(order.max_upload_bytes);
        let mut pipeline = self.pipeline(upload, longest).within(room);
        let form = form::read(body, boundary, order.max_upload_bytes, head_len, &mut pipeline).await?;
        let dimensions = if order.template { Some(pictures::dimensions(&form.head)?) } else { None };
        let stored = pipeline.finish().await?;
        let fields = form.fields;
        Ok(FinishedUpload {
            content,
            muid: stored.muid,
            size: stored.size,
            body_size: form.body_size,
            media: NewMedia {
                owner: order.owner,
                name: fields.name(),
                description: fields.description(),
                price_sat: fields.price_sat(),
                tags: fields.tags(),
                ttl_secs: fields.ttl_secs(),
                filename: form.filename,
                mime: form.mime,
                expiry: fields.expiry(),
                public: fields.public().unwrap_or(order.public),
                template: order.template,
                dimensions,
            },
            quota: self.quota,
        })
    }

    /// Renews the lease for ever; when it is lost says so, once.
    ///
    /// A try takes a third of the lease at most, so another one begins before it is over, whatever became of the first.
    async fn keep_lease(&self, content: ContentId, lost: &CancellationToken) -> Infallible {
        let mut pause = self.lease / 3;
        loop {
            sleep(pause).await;
            let renewing = self.db.renew_lease(content, OffsetDateTime::now_utc() + self.lease);
            match timeout(self.lease / 3, renewing).await {
                Ok(Ok(true)) => {
                    pause = self.lease / 3;
                    continue;
                }
                Ok(Ok(false)) => break,
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the lease of an upload"),
                Err(_) => tracing::warn!("the lease of an upload could not be renewed in time"),
            }
            pause = self.lease / 15;
        }
        lost.cancel();
        std::future::pending().await
    }

    /// Gives back the use that a failed upload holds. If that fails, the end of its lease does it.
    async fn give_up(&self, content: ContentId) {
        if let Err(error) = self.db.abandon_upload(content).await {
            tracing::error!(%error, "cannot give up an upload");
        }
    }

    /// Removes the copy of an upload that surely was not stored, and its row. If that fails, the sweeper does it.
    async fn remove(&self, content: ContentId, key: &StoreKey) {
        if let Err(error) = self.store.delete(key).await {
            return tracing::error!(%error, "cannot remove the copy of a failed upload");
        }
        if let Err(error) = self.db.forget(content).await {
            tracing::error!(%error, "cannot forget a failed upload");
        }
    }

    /// Removes what the last commit discarded.
    async fn sweep(&self) {
        let _turn = self.sweeping.lock().await;
        if let Err(error) = sweeper::sweep_once(&*self.db, &*self.store, OffsetDateTime::now_utc()).await {
            tracing::error!(%error, "cannot sweep after an upload");
        }
    }
}
