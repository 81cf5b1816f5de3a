//! An upload whose answer was lost, sent again with a token that is used up, or over.

use std::{convert::Infallible, io, sync::Arc};

use axum::body::{Body, HttpBody};
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{UploadError, UploadOrder, Uploads, body::BodyBytes, form, pipeline::Pipeline};
use crate::{
    db::{Committed, Media, PaidUse, RetryId, Variant},
    store::StoreError,
};

impl Uploads {
    /// Receives an upload with a token that stores nothing more, for its time is over. It may be one that it stored: then it
    /// is answered as that was, else with [`UploadError::UsedUp`].
    pub async fn receive_again(
        self: &Arc<Self>,
        order: UploadOrder,
        paid: PaidUse,
        content_type: Option<&str>,
        body: Body,
    ) -> Result<Committed, UploadError> {
        let boundary = form::boundary(content_type)?;
        let uploads = Arc::clone(self);
        // In a task of its own, so that who hangs up leaves no lease.
        let comparing = async move { uploads.compare(&order, &paid, boundary, body).await }.in_current_span();
        let media = self.running.spawn(comparing).await.unwrap_or(Err(UploadError::Interrupted))?;
        Ok(Committed { media, stored_before: true })
    }

    /// Reads an upload whose token is used up, and stores nothing: the same content as the token stored is answered with
    /// what is stored, if that is still there.
    pub(super) async fn compare(
        &self,
        order: &UploadOrder,
        paid: &PaidUse,
        boundary: String,
        body: Body,
    ) -> Result<Media, UploadError> {
        let now = OffsetDateTime::now_utc();
        let retry = self.db.begin_retry(paid, body.size_hint().exact(), now + self.lease, now).await?;
        // A lease that is lost does no harm: nothing is stored.
        let body = BodyBytes::new(body, CancellationToken::new());
        let compared = tokio::select! {
            compared = self.find_stored(order, paid, boundary, body) => compared,
            never = self.keep_retry(retry) => match never {},
        };
        if let Err(error) = self.db.end_retry(retry).await {
            tracing::warn!(%error, "the end of a retry could not be noted");
        }
        compared
    }

    async fn find_stored(
        &self,
        order: &UploadOrder,
        paid: &PaidUse,
        boundary: String,
        body: BodyBytes,
    ) -> Result<Media, UploadError> {
        let mut pipeline = Pipeline::only_hashing();
        form::read(body, boundary, order.max_upload_bytes, 0, &mut pipeline).await?;
        let muid = pipeline.finish().await?.muid;
        if !self.db.has_stored(paid, muid, &order.owner).await? {
            return Err(UploadError::UsedUp);
        }
        let now = OffsetDateTime::now_utc();
        let media = self.db.media(muid, std::slice::from_ref(&order.owner), now).await?;
        let media = media.filter(|media| media.owner == order.owner && !media.is_expired(now));
        let (Some(media), Some(content)) = (media, self.db.content(muid, Variant::File).await?) else {
            return Err(UploadError::UsedUp);
        };
        if content.store != self.store.kind() {
            // The operator's mistake, as with a download: nobody pays for that.
            return Err(
                StoreError::from(io::Error::other("the file is in another store than the configured one")).into()
            );
        }
        match self.store.len(&content.store_key).await? {
            Some(len) if len == content.stored_len() => Ok(media),
            _ => Err(UploadError::UsedUp),
        }
    }

    /// Renews its lease for ever, so that no other begins meanwhile.
    async fn keep_retry(&self, retry: RetryId) -> Infallible {
        loop {
            sleep(self.lease / 3).await;
            let renewing = self.db.renew_retry(retry, OffsetDateTime::now_utc() + self.lease);
            if !matches!(timeout(self.lease / 3, renewing).await, Ok(Ok(()))) {
                tracing::warn!("the lease of a retry could not be renewed");
            }
        }
    }
}
