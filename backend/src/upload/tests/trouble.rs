//! A store and a database with which an upload does not end as it should.

use std::{
    io,
    ops::RangeInclusive,
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use axum::body::Bytes;
use sluice_common::muid::Muid;
use tokio::sync::Semaphore;

use super::super::*;
use crate::{
    db::{
        BeginError, Content, DbError, DiscardedCopy, FinishedVariant, KeyUse, Listing, Media, MediaChange, Page,
        RetryError, RetryId, SqliteDatabase, TokenUse, Usage, Variant,
    },
    store::{BlobStream, BlobWriter, LocalStore, StoreError, StoreKind},
};

/// Where a store has come to with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Of at most so many bytes.
    Create(u64),
    Len,
    Written,
    Finish,
    Finished,
}

/// A store that asks at each step whether, and when, to go on.
pub(super) struct Stepped<F> {
    pub(super) inner: Arc<LocalStore>,
    pub(super) ask: F,
}

struct SteppedWriter<F> {
    inner: Box<dyn BlobWriter>,
    ask: F,
}

/// Holds every upload at its very end, until it is let through.
pub(super) fn gate(inner: Arc<LocalStore>, open: &Arc<Semaphore>) -> Arc<dyn BlobStore> {
    let open = Arc::clone(open);
    let ask = move |step| {
        let open = Arc::clone(&open);
        async move {
            if step == Step::Finish {
                open.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    };
    Arc::new(Stepped { inner, ask })
}

#[async_trait]
impl<F, A> BlobStore for Stepped<F>
where
    F: Fn(Step) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = io::Result<()>> + Send + 'static,
{
    fn kind(&self) -> StoreKind {
        self.inner.kind()
    }

    async fn create(&self, key: &StoreKey, longest: u64) -> Result<Box<dyn BlobWriter>, StoreError> {
        (self.ask)(Step::Create(longest)).await?;
        Ok(Box::new(SteppedWriter { inner: self.inner.create(key, longest).await?, ask: self.ask.clone() }))
    }

    async fn len(&self, key: &StoreKey) -> Result<Option<u64>, StoreError> {
        (self.ask)(Step::Len).await?;
        self.inner.len(key).await
    }

    async fn read(&self, key: &StoreKey, range: std::ops::Range<u64>) -> Result<BlobStream, StoreError> {
        self.inner.read(key, range).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }
}

#[async_trait]
impl<F, A> BlobWriter for SteppedWriter<F>
where
    F: Fn(Step) -> A + Send + Sync + 'static,
    A: Future<Output = io::Result<()>> + Send + 'static,
{
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.write(bytes).await?;
        Ok((self.ask)(Step::Written).await?)
    }

    async fn finish(self: Box<Self>) -> Result<(), StoreError> {
        (self.ask)(Step::Finish).await?;
        self.inner.finish().await?;
        Ok((self.ask)(Step::Finished).await?)
    }
}

/// A database that does not always do as it is told at once.
pub(super) struct Troubled {
    pub(super) inner: Arc<SqliteDatabase>,
    /// It commits and then cannot say so.
    pub(super) loses_answers: bool,
    /// Every commit waits for one of these.
    pub(super) commits: Arc<Semaphore>,
    /// So many renewals get no answer.
    pub(super) lost_renewals: AtomicUsize,
}

impl Troubled {
    /// Without any trouble yet.
    pub(super) fn new(inner: Arc<SqliteDatabase>) -> Self {
        let commits = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self { inner, loses_answers: false, commits, lost_renewals: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl Database for Troubled {
    async fn close(&self) {
        self.inner.close().await;
    }

    async fn commit_upload(
        &self,
        upload: &FinishedUpload,
        store: &dyn BlobStore,
        now: OffsetDateTime,
    ) -> Result<Committed, CommitError> {
        self.commits.acquire().await.unwrap().forget();
        let committed = self.inner.commit_upload(upload, store, now).await;
        if self.loses_answers { Err(DbError::Row("the connection was lost").into()) } else { committed }
    }

    async fn keys_in_use(&self) -> Result<Vec<KeyUse>, DbError> {
        self.inner.keys_in_use().await
    }

    async fn note_key(&self, key: &KeyUse) -> Result<(), DbError> {
        self.inner.note_key(key).await
    }

    async fn forget_key(&self, key: &KeyUse) -> Result<bool, DbError> {
        self.inner.forget_key(key).await
    }

    async fn begin_upload(&self, upload: &NewUpload, now: OffsetDateTime) -> Result<ContentId, BeginError> {
        self.inner.begin_upload(upload, now).await
    }

    async fn renew_lease(&self, content: ContentId, until: OffsetDateTime) -> Result<bool, DbError> {
        let lost = self.lost_renewals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if lost.is_ok() {
            std::future::pending::<()>().await;
        }
        self.inner.renew_lease(content, until).await
    }

    async fn begin_retry(
        &self,
        paid: &PaidUse,
        declared: Option<u64>,
        lease_until: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<RetryId, RetryError> {
        self.inner.begin_retry(paid, declared, lease_until, now).await
    }

    async fn renew_retry(&self, retry: RetryId, until: OffsetDateTime) -> Result<(), DbError> {
        self.inner.renew_retry(retry, until).await
    }

    async fn end_retry(&self, retry: RetryId) -> Result<(), DbError> {
        self.inner.end_retry(retry).await
    }

    async fn has_stored(&self, paid: &PaidUse, muid: Muid, owner: &Owner) -> Result<bool, DbError> {
        self.inner.has_stored(paid, muid, owner).await
    }

    async fn abandon_upload(&self, content: ContentId) -> Result<(), DbError> {
        self.inner.abandon_upload(content).await
    }

    async fn discarded(
        &self,
        store: StoreKind,
        after: Option<ContentId>,
        limit: u32,
        now: OffsetDateTime,
    ) -> Result<Vec<DiscardedCopy>, DbError> {
        self.inner.discarded(store, after, limit, now).await
    }

    async fn forget(&self, content: ContentId) -> Result<(), DbError> {
        self.inner.forget(content).await
    }

    async fn commit_variant(&self, variant: &FinishedVariant, store: &dyn BlobStore) -> Result<Content, CommitError> {
        self.inner.commit_variant(variant, store).await
    }

    async fn content(&self, muid: Muid, variant: Variant) -> Result<Option<Content>, DbError> {
        self.inner.content(muid, variant).await
    }

    async fn media(&self, muid: Muid, preferred: &[Owner], now: OffsetDateTime) -> Result<Option<Media>, DbError> {
        self.inner.media(muid, preferred, now).await
    }

    async fn owned(&self, owners: &[Owner], page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
        self.inner.owned(owners, page, now).await
    }

    async fn template(&self, muid: Muid, now: OffsetDateTime) -> Result<Option<Media>, DbError> {
        self.inner.template(muid, now).await
    }

    async fn templates(&self, page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
        self.inner.templates(page, now).await
    }

    async fn search(&self, term: &str, page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
        self.inner.search(term, page, now).await
    }

    async fn purchase(&self, muid: Muid, owner: &Owner, now: OffsetDateTime) -> Result<Option<Media>, DbError> {
        self.inner.purchase(muid, owner, now).await
    }

    async fn change_media(
        &self,
        muid: Muid,
        owner: &Owner,
        change: &MediaChange,
        now: OffsetDateTime,
    ) -> Result<Option<Media>, DbError> {
        self.inner.change_media(muid, owner, change, now).await
    }

    async fn delete_media(&self, muid: Muid, owner: &Owner) -> Result<bool, DbError> {
        self.inner.delete_media(muid, owner).await
    }

    async fn expire(&self, now: OffsetDateTime, limit: u32) -> Result<u64, DbError> {
        self.inner.expire(now, limit).await
    }

    async fn usage(&self, owner: &Owner) -> Result<Usage, DbError> {
        self.inner.usage(owner).await
    }

    async fn owns_of_size(&self, owner: &Owner, sizes: RangeInclusive<u64>) -> Result<bool, DbError> {
        self.inner.owns_of_size(owner, sizes).await
    }

    async fn token_use(&self, paid: &PaidUse, now: OffsetDateTime) -> Result<TokenUse, DbError> {
        self.inner.token_use(paid, now).await
    }
}
