//! A server in a folder of its own, and the requests that tests send.

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use http::{
    HeaderMap, HeaderName, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE},
    request,
};
use http_body_util::BodyExt;
use secp256k1::SecretKey;
use serde_json::Value;
use sluice_backend::{
    auth::{JwtKey, User},
    config::{BackendConfig, DatabaseConfig, StoreConfig, Timeouts},
    db::{self, PostgresConfig},
    ledger::LedgerConfig,
    router::router,
    state::App,
    store::{BlobStore, LocalStore, S3Store},
};
use sluice_common::{
    clock::unix_now,
    keys::{MasterKey, MasterKeys},
    l402::{self, Credential, Preimage, ServiceTerms},
    lightning_message::NodeKey,
    limits::FreeUploads,
    network::Network,
    secret::Secret,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tower::ServiceExt;

use crate::document;

pub const HOST: &str = "media.example:8081";
pub const BOUNDARY: &str = "X-BOUNDARY";
pub const MB: usize = 1_048_576;

/// What a server needs, in `dir`.
pub fn config(dir: &TempDir) -> BackendConfig {
    BackendConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        host: HOST.to_owned(),
        jwt_key: JwtKey::new(Secret::new("test".to_owned())).unwrap(),
        database: DatabaseConfig::Sqlite { path: dir.path().join("backend.sqlite") },
        ledger: LedgerConfig::Sqlite { path: dir.path().join("gateway.db") },
        store: StoreConfig::Local { dir: dir.path().join("files"), encryption_key: Some(Secret::new([5; 32])) },
        free_uploads: FreeUploads::default(),
        quota: db::Quota::default(),
        min_free_disk_bytes: 0,
        terms: terms().into(),
        master_keys: MasterKeys::new(vec![MasterKey::new(&Secret::new([6; 32]), 0)]).unwrap(),
        network: Network::TestWallet,
        template_uploaders: None,
        podcast_index: None,
        timeouts: Timeouts::default(),
    }
}

pub fn terms() -> ServiceTerms {
    ServiceTerms { max_upload_mb: 2, max_uses: Some(1), valid_for_secs: Some(3_600), ..ServiceTerms::named("media") }
}

/// A server without a port. Clones are the same one.
#[derive(Clone)]
pub struct Server {
    pub app: Arc<App>,
    pub config: BackendConfig,
    router: Router,
    _dir: Arc<TempDir>,
}

impl Server {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One on SQLite, one on PostgreSQL.
    pub async fn on_each_database() -> [Self; 2] {
        let postgres = PostgresConfig::new(Secret::new(sluice_testing::postgres::database()));
        [Self::new().await, Self::with(|config| config.database = DatabaseConfig::Postgres(postgres)).await]
    }

    pub async fn with(change: impl FnOnce(&mut BackendConfig)) -> Self {
        let dir = TempDir::new().unwrap();
        let mut config = config(&dir);
        change(&mut config);
        let (app, router) = open(&config).await;
        Self { app, config, router, _dir: Arc::new(dir) }
    }

    /// The same data, served with another configuration.
    pub async fn reopened_with(mut self, change: impl FnOnce(&mut BackendConfig)) -> Self {
        change(&mut self.config);
        (self.app, self.router) = open(&self.config).await;
        self
    }

    /// The same data, with another store.
    pub fn with_store(mut self, store: Arc<dyn BlobStore>) -> Self {
        self.app = Arc::new(App::new(&self.config, Arc::clone(&self.app.db), store));
        self.router = router(Arc::clone(&self.app));
        self
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        // A body that breaks off has no end.
        let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        document::check(&method, &path, &answer);
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(get(path).empty()).await
    }

    /// A login of the node `secret`.
    pub fn login(&self, node: u8) -> String {
        self.login_from(node, false, OffsetDateTime::now_utc())
    }

    pub fn login_from(&self, node: u8, readonly: bool, now: OffsetDateTime) -> String {
        self.app.logins.issue(User { key: node_key(node), readonly }, now).unwrap()
    }

    /// A file of the node `secret`, and its muid.
    pub async fn store(&self, path: &str, node: u8, fields: &[(&str, &str)], file: &[u8]) -> String {
        let answer = self.send(post(path).bearer(&self.login(node)).form(fields, file)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()["muid"].as_str().unwrap().to_owned()
    }

    /// A paid token with these caveats appended.
    pub fn credential(&self, caveats: &[&str]) -> Credential {
        self.credential_minted_at(unix_now(), caveats)
    }

    pub fn credential_minted_at(&self, minted_at: u64, caveats: &[&str]) -> Credential {
        self.credential_of(&terms(), minted_at, caveats)
    }

    pub fn credential_of(&self, terms: &ServiceTerms, minted_at: u64, caveats: &[&str]) -> Credential {
        let preimage = Preimage::from_bytes(rand::random());
        let token_id = self.config.master_keys.minting(minted_at).unwrap().new_token_id(minted_at);
        let (keys, network) = (&self.config.master_keys, self.config.network);
        let macaroon = l402::mint(keys, network, terms, token_id, preimage.payment_hash()).unwrap();
        let caveats: Vec<String> = caveats.iter().map(|&caveat| caveat.to_owned()).collect();
        Credential::new(macaroon.attenuate(&caveats).unwrap(), preimage)
    }

    /// The files in the store, once the uploads have cleaned up.
    pub async fn stored_files(&self) -> Vec<PathBuf> {
        self.app.uploads.wait().await;
        let StoreConfig::Local { dir, .. } = &self.config.store else { panic!("not a folder") };
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

async fn open(config: &BackendConfig) -> (Arc<App>, Router) {
    let store: Arc<dyn BlobStore> = match &config.store {
        StoreConfig::Local { dir, .. } => Arc::new(LocalStore::open(dir).unwrap()),
        StoreConfig::S3 { s3, .. } => Arc::new(S3Store::new(s3)),
    };
    let db = db::open(&config.database).await.unwrap();
    let app = Arc::new(App::new(config, db, store));
    (Arc::clone(&app), router(app))
}

pub fn secret_key(node: u8) -> SecretKey {
    SecretKey::from_slice(&[node; 32]).unwrap()
}

pub fn node_key(node: u8) -> NodeKey {
    NodeKey::of(&secret_key(node))
}

/// A request that is being put together.
pub struct Builder(request::Builder);

pub fn get(path: &str) -> Builder {
    Builder(Request::get(path))
}

pub fn head(path: &str) -> Builder {
    Builder(Request::head(path))
}

pub fn post(path: &str) -> Builder {
    Builder(Request::post(path))
}

pub fn put(path: &str) -> Builder {
    Builder(Request::put(path))
}

pub fn delete(path: &str) -> Builder {
    Builder(Request::delete(path))
}

impl Builder {
    pub fn header(self, name: impl TryInto<HeaderName, Error: Into<http::Error>>, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub fn bearer(self, jwt: &str) -> Self {
        self.header(AUTHORIZATION, &format!("Bearer {jwt}"))
    }

    pub fn credential(self, credential: &Credential) -> Self {
        self.header(AUTHORIZATION, credential.authorization().expose())
    }

    pub fn empty(self) -> Request<Body> {
        self.0.body(Body::empty()).unwrap()
    }

    /// An urlencoded form.
    pub fn fields(self, fields: &[(&str, &str)]) -> Request<Body> {
        let body: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", value.replace('=', "%3D"))).collect();
        self.header(CONTENT_TYPE, "application/x-www-form-urlencoded").0.body(body.join("&").into()).unwrap()
    }

    /// An upload of `file`, which is called `note.txt`.
    pub fn form(self, fields: &[(&str, &str)], file: &[u8]) -> Request<Body> {
        let body = form(fields, file);
        self.multipart().header(CONTENT_LENGTH, &body.len().to_string()).0.body(body.into()).unwrap()
    }

    /// An upload of a picture.
    pub fn picture(self, fields: &[(&str, &str)], filename: &str, mime: &str, file: &[u8]) -> Request<Body> {
        let body = form_of(fields, filename, mime, file);
        self.multipart().header(CONTENT_LENGTH, &body.len().to_string()).0.body(body.into()).unwrap()
    }

    /// A JSON body.
    pub fn json(self, json: &Value) -> Request<Body> {
        self.header(CONTENT_TYPE, "application/json").0.body(json.to_string().into()).unwrap()
    }

    pub fn multipart(self) -> Self {
        self.header(CONTENT_TYPE, &format!("multipart/form-data; boundary={BOUNDARY}"))
    }

    pub fn body(self, body: Body) -> Request<Body> {
        self.0.body(body).unwrap()
    }
}

/// The body of an upload of `file`, which is called `note.txt`.
pub fn form(fields: &[(&str, &str)], file: &[u8]) -> Vec<u8> {
    form_of(fields, "note.txt", "text/plain", file)
}

fn form_of(fields: &[(&str, &str)], filename: &str, mime: &str, file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
         Content-Type: {mime}\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// None: it broke off.
    pub body: Option<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_deref().map(|body| String::from_utf8_lossy(&body[..body.len().min(1_000)]));
        write!(f, "{} {:?} {body:?}", self.status, self.headers)
    }
}

impl Answer {
    pub fn header(&self, name: impl AsRef<str>) -> &str {
        self.headers.get(name.as_ref()).map_or("", |value| value.to_str().unwrap())
    }

    pub fn bytes(&self) -> &[u8] {
        self.body.as_deref().expect("a body that did not break off")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(self.bytes()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and machine code of a problem.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert!(self.headers.get("www-authenticate").is_none(), "the gateway makes the challenge");
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16());
        (self.status.as_u16(), json["code"].as_str().unwrap().to_owned())
    }
}

/// Asserts what a problem is.
#[track_caller]
pub fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.problem(), (status, code.to_owned()), "{answer:?}");
}

/// Waits until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "it never came to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Bytes of which no two packages are alike.
pub fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}
