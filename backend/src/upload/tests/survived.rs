//! What hangs up, stalls or gets lost, and what is stored then.

use std::net::SocketAddr;

use async_trait::async_trait;
use axum::{Router, body::Bytes, extract::Request, middleware, response::IntoResponse, routing::post};
use http::{StatusCode, header::CONTENT_TYPE as CONTENT_TYPE_HEADER};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::{
    super::{
        drain::{DrainLimits, Drains, drain_unread},
        *,
    },
    rig::{self, CONTENT_TYPE, PATIENCE, Rig, eventually, file_form},
};
use crate::{
    db::{BeginError, Content, DbError, DiscardedCopy, KeyUse, SqliteDatabase, TokenUse},
    store::{BlobStream, BlobWriter, LocalStore, StoreError, StoreKind, contract::bytes},
};

fn paid_order() -> UploadOrder {
    UploadOrder { paid: Some(rig::paid(1)), ..rig::order() }
}

/// A real server with one route, which uploads on a single-use token.
async fn serve(uploads: Arc<Uploads>) -> SocketAddr {
    let route = async move |request: Request| {
        let content_type =
            request.headers().get(CONTENT_TYPE_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match uploads.receive(paid_order(), content_type.as_deref(), request.into_body()).await {
            Ok(media) => (StatusCode::OK, media.muid.to_string()).into_response(),
            Err(error) => (error.to_problem().status(), error.to_problem().to_json()).into_response(),
        }
    };
    let drains = Drains::new(DrainLimits::for_uploads_of(1 << 30));
    let app = Router::new().route("/", post(route)).layer(middleware::from_fn_with_state(drains, drain_unread));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

async fn connect(addr: SocketAddr, declared: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head =
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {declared}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, async {
        while !answer.ends_with(b"}") {
            answer.push(stream.read_u8().await.unwrap());
        }
    })
    .await
    .unwrap();
    String::from_utf8(answer).unwrap()
}

async fn is_under_way(rig: &Rig) {
    eventually("an upload under way", async || {
        rig.count("SELECT count(*) FROM content WHERE state = 'pending'").await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_midway_leaves_nothing_and_pays_nothing() {
    let rig = Rig::new().await;
    let addr = serve(Arc::clone(&rig.uploads)).await;
    let body = file_form(&bytes(2_000_000));
    for sent in [0, 100, 700_000, body.len() - 1] {
        let mut stream = connect(addr, body.len()).await;
        stream.write_all(&body[..sent]).await.unwrap();
        is_under_way(&rig).await;
        if sent == 700_000 {
            eventually("bytes in the store", async || rig::some_file(&rig.store_dir())).await;
        }
        drop(stream);
        rig.has_only(0).await;
    }
    // The use is there again.
    rig.upload(paid_order(), body).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_declared_byte_is_awaited() {
    let rig = Rig::new().await;
    let addr = serve(Arc::clone(&rig.uploads)).await;
    let body = file_form(&bytes(300_000));
    // The form is whole, but the body is one byte longer.
    let mut stream = connect(addr, body.len() + 1).await;
    stream.write_all(&body).await.unwrap();
    eventually("the first batch in the store", async || rig::some_file(&rig.store_dir())).await;
    assert!(timeout(Duration::from_millis(100), rig.uploads.wait()).await.is_err(), "it waits");
    assert_eq!(rig.count("SELECT count(*) FROM content WHERE state = 'stored'").await, 0);
    drop(stream);
    rig.has_only(0).await;

    let mut stream = connect(addr, body.len() + 1).await;
    stream.write_all(&body).await.unwrap();
    stream.write_all(b"\n").await.unwrap();
    rig::eventually("it is stored", async || rig.count("SELECT count(*) FROM media").await == 1).await;
    rig.has_only(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_after_the_last_byte_is_stored() {
    let rig = Rig::new().await;
    let addr = serve(Arc::clone(&rig.uploads)).await;
    let body = file_form(&bytes(1_000_000));
    let mut stream = connect(addr, body.len()).await;
    stream.write_all(&body).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    eventually("it is stored", async || rig.count("SELECT count(*) FROM media").await == 1).await;
    rig.has_only(1).await;
}

/// Holds every upload at its very end.
struct Gate {
    inner: Arc<LocalStore>,
    open: Arc<Semaphore>,
}

struct GateWriter {
    inner: Box<dyn BlobWriter>,
    open: Arc<Semaphore>,
}

#[async_trait]
impl BlobStore for Gate {
    fn kind(&self) -> StoreKind {
        self.inner.kind()
    }

    async fn create(&self, key: &StoreKey) -> Result<Box<dyn BlobWriter>, StoreError> {
        Ok(Box::new(GateWriter { inner: self.inner.create(key).await?, open: Arc::clone(&self.open) }))
    }

    async fn len(&self, key: &StoreKey) -> Result<Option<u64>, StoreError> {
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
impl BlobWriter for GateWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<(), StoreError> {
        self.open.acquire().await.unwrap().forget();
        self.inner.finish().await
    }
}

#[tokio::test]
async fn no_hang_up_cancels_what_came_whole() {
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let rig = Rig::build(|db, inner| Uploads::new(db, Arc::new(Gate { inner, open: gate }), None)).await;
    // Dropped by the server while the store is at it.
    let dropped = timeout(Duration::from_millis(100), rig.upload(paid_order(), file_form(b"x"))).await;
    assert!(dropped.is_err());
    is_under_way(&rig).await;
    assert!(matches!(rig.upload(paid_order(), file_form(b"y")).await, Err(UploadError::UploadInProgress)));
    open.add_permits(1);
    rig.has_only(1).await;
    assert!(matches!(rig.upload(paid_order(), file_form(b"y")).await, Err(UploadError::UsedUp)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_who_is_still_sending() {
    let rig = Rig::new().await;
    let addr = serve(Arc::clone(&rig.uploads)).await;
    let mut body = rig::form(&[("name=\"price\"", b"junk")]);
    body.resize(24 << 20, 0);
    let mut stream = connect(addr, body.len()).await;
    for piece in body.chunks(100_000) {
        stream.write_all(piece).await.unwrap();
    }
    let answer = answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("\"field\":\"price\""), "{answer}");
    rig.has_only(0).await;
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_upload_lives() {
    let rig = Rig::build(|db, store| {
        let mut uploads = Uploads::new(db, store, None);
        uploads.lease = Duration::from_secs(3);
        uploads
    })
    .await;
    let (sender, body) = rig::slow_body();
    let upload = tokio::spawn({
        let uploads = Arc::clone(&rig.uploads);
        async move { uploads.receive(paid_order(), Some(CONTENT_TYPE), body).await }
    });
    is_under_way(&rig).await;
    let first = rig.count("SELECT lease_until FROM content").await;
    eventually("renewed", async || rig.count("SELECT lease_until FROM content").await > first).await;
    sender.send(Ok(file_form(b"x").into())).await.unwrap();
    drop(sender);
    upload.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_upload_without_its_lease_ends() {
    let rig = Rig::build(|db, store| {
        let mut uploads = Uploads::new(db, store, None);
        uploads.lease = Duration::from_millis(300);
        uploads
    })
    .await;
    let (sender, body) = rig::slow_body();
    let upload = tokio::spawn({
        let uploads = Arc::clone(&rig.uploads);
        async move { uploads.receive(paid_order(), Some(CONTENT_TYPE), body).await }
    });
    let mut begin = file_form(&bytes(600_000));
    begin.truncate(500_000);
    sender.send(Ok(begin.into())).await.unwrap();
    eventually("bytes in the store", async || rig::some_file(&rig.store_dir())).await;
    // Another server believes it dead.
    let later = OffsetDateTime::now_utc() + Duration::from_secs(3_600);
    assert_eq!(sweeper::sweep_once(&*rig.db, &LocalStore::open(&rig.store_dir()).unwrap(), later).await.unwrap(), 1);
    // The client only waits, and is told.
    let error = timeout(PATIENCE, upload).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (error.to_problem().status(), error.to_problem().code()),
        (StatusCode::SERVICE_UNAVAILABLE, "upload_interrupted")
    );
    assert!(sender.is_closed());
    rig.has_only(0).await;
    rig.upload(paid_order(), file_form(b"x")).await.unwrap();
}

#[tokio::test]
async fn a_lease_lost_at_the_very_end_stores_nothing() {
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let rig = Rig::build(|db, inner| Uploads::new(db, Arc::new(Gate { inner, open: gate }), None)).await;
    let upload = tokio::spawn({
        let uploads = Arc::clone(&rig.uploads);
        async move { uploads.receive(paid_order(), Some(CONTENT_TYPE), Body::from(file_form(b"x"))).await }
    });
    eventually("a file", async || rig::some_file(&rig.store_dir())).await;
    let later = OffsetDateTime::now_utc() + Duration::from_secs(3_600);
    sweeper::sweep_once(&*rig.db, &LocalStore::open(&rig.store_dir()).unwrap(), later).await.unwrap();
    open.add_permits(1);
    assert!(matches!(upload.await.unwrap(), Err(UploadError::Interrupted)));
    rig.has_only(0).await;
}

/// A database that commits and then cannot say so.
struct LostAnswer(Arc<SqliteDatabase>);

#[async_trait]
impl Database for LostAnswer {
    async fn commit_upload(
        &self,
        upload: &FinishedUpload,
        store: &dyn BlobStore,
        now: OffsetDateTime,
    ) -> Result<Media, CommitError> {
        self.0.commit_upload(upload, store, now).await?;
        Err(CommitError::Db(DbError::Row("the connection was lost")))
    }

    async fn ping(&self) -> Result<(), DbError> {
        self.0.ping().await
    }

    async fn keys_in_use(&self) -> Result<Vec<KeyUse>, DbError> {
        self.0.keys_in_use().await
    }

    async fn note_key(&self, key: &KeyUse) -> Result<(), DbError> {
        self.0.note_key(key).await
    }

    async fn forget_key(&self, key: &KeyUse) -> Result<bool, DbError> {
        self.0.forget_key(key).await
    }

    async fn begin_upload(&self, upload: &NewUpload, now: OffsetDateTime) -> Result<ContentId, BeginError> {
        self.0.begin_upload(upload, now).await
    }

    async fn renew_lease(&self, content: ContentId, until: OffsetDateTime) -> Result<bool, DbError> {
        self.0.renew_lease(content, until).await
    }

    async fn abandon_upload(&self, content: ContentId) -> Result<(), DbError> {
        self.0.abandon_upload(content).await
    }

    async fn discarded(&self, limit: u32, now: OffsetDateTime) -> Result<Vec<DiscardedCopy>, DbError> {
        self.0.discarded(limit, now).await
    }

    async fn forget(&self, content: ContentId) -> Result<(), DbError> {
        self.0.forget(content).await
    }

    async fn content(&self, muid: sluice_common::muid::Muid) -> Result<Option<Content>, DbError> {
        self.0.content(muid).await
    }

    async fn media(&self, muid: sluice_common::muid::Muid, preferred: &[Owner]) -> Result<Option<Media>, DbError> {
        self.0.media(muid, preferred).await
    }

    async fn owned(&self, muid: sluice_common::muid::Muid, owner: &Owner) -> Result<Option<Media>, DbError> {
        self.0.owned(muid, owner).await
    }

    async fn all_owned(&self, owners: &[Owner]) -> Result<Vec<Media>, DbError> {
        self.0.all_owned(owners).await
    }

    async fn token_use(&self, paid: &PaidUse, now: OffsetDateTime) -> Result<TokenUse, DbError> {
        self.0.token_use(paid, now).await
    }
}

#[tokio::test]
async fn what_may_be_stored_is_not_removed() {
    let rig = Rig::build(|db, store| Uploads::new(Arc::new(LostAnswer(db)), store, None)).await;
    let problem = rig.upload(paid_order(), file_form(b"x")).await.unwrap_err().to_problem();
    assert_eq!((problem.status(), problem.code()), (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"));
    rig.has_only(1).await;
}

#[tokio::test]
async fn a_broken_body_is_told_so() {
    let rig = Rig::new().await;
    let (sender, body) = rig::slow_body();
    let sending = async {
        sender.send(Ok(Bytes::from_static(b"--"))).await.unwrap();
        sender.send(rig::hang_up()).await.unwrap();
    };
    let (result, ()) = tokio::join!(rig.uploads.receive(paid_order(), Some(CONTENT_TYPE), body), sending);
    assert!(matches!(result, Err(UploadError::IncompleteBody)), "{result:?}");
    rig.has_only(0).await;
}
