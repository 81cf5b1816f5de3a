//! A database, a store and the uploads into them.

use std::path::{Path, PathBuf};

use axum::body::Bytes;
use sluice_common::l402::Preimage;
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};

use super::super::*;
use crate::{
    db::{Media, SqliteDatabase, UseCounter},
    store::LocalStore,
};

pub(super) const BOUNDARY: &str = "sluice-test-boundary";
pub(super) const CONTENT_TYPE: &str = "multipart/form-data; boundary=sluice-test-boundary";
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Rig {
    pub(super) folder: TempDir,
    pub(super) db: Arc<SqliteDatabase>,
    pub(super) uploads: Arc<Uploads>,
}

impl Rig {
    /// Seals what it stores.
    pub(super) async fn new() -> Self {
        Self::with(Some(sealing_key())).await
    }

    pub(super) async fn with(sealing_key: Option<SealingKey>) -> Self {
        Self::build(|db, store| Uploads::new(db, store, sealing_key)).await
    }

    pub(super) async fn build(uploads: impl FnOnce(Arc<SqliteDatabase>, Arc<LocalStore>) -> Uploads) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Arc::new(SqliteDatabase::open(&folder.path().join("rows.db")).await.unwrap());
        let store = Arc::new(LocalStore::open(&folder.path().join("files")).unwrap());
        let uploads = Arc::new(uploads(Arc::clone(&db), store));
        Self { folder, db, uploads }
    }

    pub(super) async fn upload(&self, order: UploadOrder, form: Vec<u8>) -> Result<Media, UploadError> {
        self.uploads.receive(order, Some(CONTENT_TYPE), Body::from(form)).await.map(|committed| committed.media)
    }

    /// Begins an upload on a token for one, and is not held up by it.
    pub(super) fn begin(&self, body: Body) -> JoinHandle<Result<Committed, UploadError>> {
        let uploads = Arc::clone(&self.uploads);
        tokio::spawn(async move { uploads.receive(paid_order(), Some(CONTENT_TYPE), body).await })
    }

    pub(super) fn store_dir(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// What lies in the store.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.store_dir()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Once no upload is under way, there are `stored` files and rows, and nothing else of any upload.
    pub(super) async fn has_only(&self, stored: i64) {
        tokio::time::timeout(PATIENCE, self.uploads.wait()).await.expect("uploads end");
        assert_eq!(self.files().len() as i64, stored, "files");
        assert_eq!(self.count("SELECT count(*) FROM content WHERE state = 'stored'").await, stored, "stored rows");
        assert_eq!(self.count("SELECT count(*) FROM content").await, stored, "rows");
        assert_eq!(self.count("SELECT count(*) FROM paid_upload WHERE stored_at IS NULL").await, 0, "held uses");
    }

    /// Waits until an upload is under way, one.
    pub(super) async fn is_under_way(&self) {
        let pending = "SELECT count(*) FROM content WHERE state = 'pending'";
        eventually("an upload under way", async || self.count(pending).await == 1).await;
    }

    /// Waits until the lease of the one upload is renewed, once more.
    pub(super) async fn has_its_lease_renewed(&self) {
        let lease = "SELECT lease_until FROM content WHERE state = 'pending'";
        let before = self.count(lease).await;
        eventually("renewed", async || self.count(lease).await > before).await;
    }

    /// One number that `sql` gives.
    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        let path = self.folder.path().join("rows.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true);
        let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    }
}

pub(super) fn sealing_key() -> SealingKey {
    SealingKey { master: Secret::new([7; 32]), fingerprint: "seven".to_owned() }
}

pub(super) fn owner(number: u8) -> Owner {
    Owner::credential(&[number; 32])
}

/// A free upload of at most 32 MiB.
pub(super) fn order() -> UploadOrder {
    UploadOrder { owner: owner(1), max_upload_bytes: 32 << 20, paid: None, public: false, template: false }
}

/// The same, on a token for one.
pub(super) fn paid_order() -> UploadOrder {
    UploadOrder { paid: Some(paid(1)), ..order() }
}

/// A token for `max_uses` uploads.
pub(super) fn paid(max_uses: u64) -> PaidUse {
    PaidUse {
        payment_hash: Preimage::from_bytes([9; 32]).payment_hash(),
        credential_hash: [1; 32],
        counters: vec![UseCounter { id: [2; 32], max_uses }],
    }
}

/// A form of parts: what follows `Content-Disposition: form-data; ` and the value.
pub(super) fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (disposition, value) in parts {
        form.extend_from_slice(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").as_bytes(),
        );
        form.extend_from_slice(value);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    form
}

pub(super) fn file_form(content: &[u8]) -> Vec<u8> {
    form(&[("name=\"file\"; filename=\"f.bin\"", content)])
}

/// A body that comes as it is sent, and the end to send it. An error breaks it off, dropping ends it.
pub(super) fn slow_body() -> (mpsc::Sender<Result<Bytes, std::io::Error>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    (sender, Body::from_stream(pieces))
}

pub(super) fn hang_up() -> Result<Bytes, std::io::Error> {
    Err(std::io::ErrorKind::ConnectionReset.into())
}

/// Waits until `done`, in bounds.
pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !done().await {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a file of this length is in the folder.
pub(super) fn some_file(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().count() > 0
}
