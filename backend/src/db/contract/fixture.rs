//! Uploads, payments and a store to test databases with.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use sluice_common::{dare, l402::PaymentHash, muid::Muid};
use time::{Duration, OffsetDateTime, macros::datetime};
use tokio::sync::RwLock;

use crate::{
    db::{
        BeginError, CommitError, ContentId, Database, FinishedUpload, Media, NewMedia, NewUpload, Owner, Page, PaidUse,
        Quota, Sealing, UseCounter, Variant,
    },
    store::{BlobStore, BlobStream, BlobWriter, StoreError, StoreKey, StoreKind},
};

/// The length of every file.
pub(crate) const SIZE: u64 = 100_000;

/// How long every lease lasts, from the begin of its upload.
pub(crate) const LEASE_SECS: i64 = 60;

/// `secs` after the tests' first moment, which has as many digits as rows keep.
pub(crate) fn at(secs: i64) -> OffsetDateTime {
    datetime!(2026-01-02 03:04:05.678901 UTC) + Duration::seconds(secs)
}

/// One of many contents.
pub(crate) fn muid(n: u8) -> Muid {
    Muid::from_bytes([n; 32])
}

/// One of many owners.
pub(crate) fn owner(n: u8) -> Owner {
    Owner::credential(&[n; 32])
}

/// The token of payment `n`, with a counter for each of `max_uses`; tokens of one payment share the first ones.
pub(crate) fn token(n: u8, max_uses: &[u64]) -> PaidUse {
    let counters = (1..).zip(max_uses).map(|(id, &max_uses)| UseCounter { id: [id; 32], max_uses }).collect();
    PaidUse { payment_hash: PaymentHash::from_bytes([n; 32]), credential_hash: [max_uses.len() as u8; 32], counters }
}

/// A sealed upload into [`FakeStore`], begun at `now`.
pub(crate) fn upload(now: OffsetDateTime, paid: Option<&PaidUse>) -> NewUpload {
    NewUpload {
        store: StoreKind::Local,
        store_key: StoreKey::random(),
        sealing: Some(Sealing { nonce: [0xfe; 32], key_fingerprint: "0123abcd".to_owned() }),
        lease_until: now + Duration::seconds(LEASE_SECS),
        paid: paid.cloned(),
    }
}

/// The end of upload `content` of file `muid`.
pub(crate) fn finished(content: ContentId, muid: Muid, owner: Owner) -> FinishedUpload {
    let media = NewMedia {
        owner,
        name: "Ein Name, \"so\" 🎈".to_owned(),
        description: "'); DROP TABLE media; --".to_owned(),
        price_sat: 21,
        tags: vec!["one".to_owned(), "two, \"three\"".to_owned()],
        ttl_secs: 3_600,
        filename: "file.bin".to_owned(),
        mime: "application/octet-stream".to_owned(),
        expiry: None,
        public: false,
        template: false,
        dimensions: None,
    };
    FinishedUpload { content, muid, size: SIZE, body_size: SIZE + 500, media, quota: Quota::default() }
}

/// A store that knows lengths only.
#[derive(Default)]
pub(crate) struct FakeStore {
    lens: Mutex<HashMap<StoreKey, u64>>,
    fails: AtomicBool,
    /// How often it was asked for a length.
    pub(crate) looks: AtomicUsize,
    /// Who has it written to holds up the answers about lengths.
    pub(crate) answers: RwLock<()>,
}

impl FakeStore {
    /// Puts a copy of `len` bytes there, as a finished upload did.
    pub(crate) fn put(&self, key: &StoreKey, len: u64) {
        self.lens.lock().unwrap().insert(key.clone(), len);
    }

    /// From now on nothing can be asked of it, or again.
    pub(crate) fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }
}

#[async_trait]
impl BlobStore for FakeStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Local
    }

    async fn create(&self, _: &StoreKey, _: u64) -> Result<Box<dyn BlobWriter>, StoreError> {
        Err(StoreError::Missing)
    }

    async fn len(&self, key: &StoreKey) -> Result<Option<u64>, StoreError> {
        // Whoever else wants to act meanwhile may.
        tokio::task::yield_now().await;
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Io(std::io::ErrorKind::PermissionDenied.into()));
        }
        let len = self.lens.lock().unwrap().get(key).copied();
        self.looks.fetch_add(1, Ordering::SeqCst);
        let _may_answer = self.answers.read().await;
        Ok(len)
    }

    async fn read(&self, _: &StoreKey, _: Range<u64>) -> Result<BlobStream, StoreError> {
        Err(StoreError::Missing)
    }

    async fn delete(&self, key: &StoreKey) -> Result<(), StoreError> {
        self.lens.lock().unwrap().remove(key);
        Ok(())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A database and its store.
pub(crate) struct Server<'a> {
    pub(crate) db: &'a dyn Database,
    pub(crate) store: FakeStore,
}

impl<'a> Server<'a> {
    pub(crate) fn new(db: &'a dyn Database) -> Self {
        Self { db, store: FakeStore::default() }
    }

    /// Begins an upload and puts its copy into the store.
    pub(crate) async fn begin(&self, paid: Option<&PaidUse>, secs: i64) -> Result<(ContentId, StoreKey), BeginError> {
        let new = upload(at(secs), paid);
        let content = self.db.begin_upload(&new, at(secs)).await?;
        self.store.put(&new.store_key, dare::sealed_len(SIZE));
        Ok((content, new.store_key))
    }

    pub(crate) async fn commit(&self, upload: &FinishedUpload, secs: i64) -> Result<Media, CommitError> {
        self.db.commit_upload(upload, &self.store, at(secs)).await.map(|committed| committed.media)
    }

    /// Uploads file `n` for owner `who`; the key of its copy.
    pub(crate) async fn upload(&self, n: u8, who: u8, paid: Option<&PaidUse>, secs: i64) -> StoreKey {
        let (content, key) = self.begin(paid, secs).await.unwrap();
        self.commit(&finished(content, muid(n), owner(who)), secs).await.unwrap();
        key
    }

    /// Uses of a token's counters: spent and held.
    pub(crate) async fn uses(&self, paid: &PaidUse, secs: i64) -> Vec<(u64, u64)> {
        let token_use = self.db.token_use(paid, at(secs)).await.unwrap();
        token_use.counters.iter().map(|counter| (counter.spent, counter.held)).collect()
    }

    /// Removes every copy that may be removed, as the sweeper does; their keys.
    pub(crate) async fn sweep(&self, secs: i64) -> Vec<StoreKey> {
        let copies = self.db.discarded(StoreKind::Local, None, 100, at(secs)).await.unwrap();
        for copy in &copies {
            self.store.delete(&copy.store_key).await.unwrap();
            self.db.forget(copy.id).await.unwrap();
        }
        copies.into_iter().map(|copy| copy.store_key).collect()
    }

    /// What owner `who` has of file `n`.
    pub(crate) async fn owned(&self, n: u8, who: u8) -> Option<Media> {
        let owned = self.db.owned(&[owner(who)], &Page::default(), at(0)).await.unwrap();
        owned.media.into_iter().find(|media| media.muid == muid(n))
    }

    /// The key of the stored copy of file `n`.
    pub(crate) async fn stored_key(&self, n: u8) -> Option<StoreKey> {
        self.db.content(muid(n), Variant::File).await.unwrap().map(|content| content.store_key)
    }
}
