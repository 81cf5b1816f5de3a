//! Downloads of files that end, or change their copy, between the look at their row and the look at their copy.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt};
use http::StatusCode;
use image::ImageFormat;
use sluice_backend::{
    db::{Media, Variant},
    state::App,
    store::{BlobStore, BlobStream, BlobWriter, StoreError, StoreKey, StoreKind},
    sweeper,
};
use time::OffsetDateTime;

use crate::{
    support::{Server, assert_problem},
    thumbnails::{picture, upload},
};

/// A store in which something happens when it is first asked how long a copy is.
struct Trap {
    inner: Arc<dyn BlobStore>,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

#[async_trait]
impl BlobStore for Trap {
    fn kind(&self) -> StoreKind {
        self.inner.kind()
    }

    async fn create(&self, key: &StoreKey, longest: u64) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.inner.create(key, longest).await
    }

    async fn len(&self, key: &StoreKey) -> Result<Option<u64>, StoreError> {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        self.inner.len(key).await
    }

    async fn read(&self, key: &StoreKey, range: Range<u64>) -> Result<BlobStream, StoreError> {
        self.inner.read(key, range).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }
}

/// The same server, in which something happens to the file while it is downloaded.
fn with_trap(server: Server, meanwhile: BoxFuture<'static, ()>) -> Server {
    let store = Trap { inner: Arc::clone(&server.app.store), meanwhile: Mutex::new(Some(meanwhile)) };
    server.with_store(Arc::new(store))
}

async fn delete(app: Arc<App>, media: Media) {
    assert!(app.db.delete_media(media.muid, &media.owner).await.unwrap());
    sweeper::sweep_once(&*app.db, &*app.store, OffsetDateTime::now_utc()).await.unwrap();
}

async fn expire(app: Arc<App>, media: Media) {
    while !media.is_expired(OffsetDateTime::now_utc()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The server's own sweeper would do so.
    sweeper::expire_all(&*app.db, OffsetDateTime::now_utc()).await.unwrap();
    sweeper::sweep_once(&*app.db, &*app.store, OffsetDateTime::now_utc()).await.unwrap();
}

async fn row(server: &Server, muid: &str) -> Media {
    server.app.db.media(muid.parse().unwrap(), &[], OffsetDateTime::now_utc()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_file_that_is_deleted_meanwhile_is_none() {
    for query in ["", "?thumb=true"] {
        for server in Server::on_each_database().await {
            let muid = upload(&server, "/public", "cat.png", "image/png", &picture(90, 90, ImageFormat::Png)).await;
            let meanwhile = delete(Arc::clone(&server.app), row(&server, &muid).await).boxed();
            let server = with_trap(server, meanwhile);
            assert_problem(&server.get(&format!("/public/{muid}{query}")).await, 404, "no_such_file");
        }
    }
}

#[tokio::test]
async fn a_file_that_expires_meanwhile_is_gone() {
    for server in Server::on_each_database().await {
        let expiry = (OffsetDateTime::now_utc().unix_timestamp() + 2).to_string();
        let muid = server.store("/public", 1, &[("expiry", &expiry)], b"soon gone").await;
        let meanwhile = expire(Arc::clone(&server.app), row(&server, &muid).await).boxed();
        let server = with_trap(server, meanwhile);
        assert_problem(&server.get(&format!("/public/{muid}")).await, 410, "file_expired");
    }
}

#[tokio::test]
async fn another_copy_is_read_where_it_takes_the_place_of_the_first() {
    for query in ["", "?medium=true"] {
        for server in Server::on_each_database().await {
            let file = picture(90, 90, ImageFormat::Png);
            let muid = upload(&server, "/public", "cat.png", "image/png", &file).await;
            let content = server.app.db.content(muid.parse().unwrap(), Variant::File).await.unwrap().unwrap();
            let first = server.stored_files().await.remove(0);
            assert!(first.ends_with(content.store_key.as_str()));
            let other = server.clone();
            let again = file.clone();
            let meanwhile = async move {
                std::fs::remove_file(first).unwrap();
                upload(&other, "/public", "cat.png", "image/png", &again).await;
            };
            let server = with_trap(server, meanwhile.boxed());
            let answer = server.get(&format!("/public/{muid}{query}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            assert!(!query.is_empty() || answer.bytes() == file);
        }
    }
}
