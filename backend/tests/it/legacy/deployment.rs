//! The deployment, and who its owners are to it.

use std::{fs, path::PathBuf, sync::LazyLock};

use serde_json::{Value, json};
use sluice_backend::{
    auth::JwtKey,
    config::{BackendConfig, DatabaseConfig, StoreConfig},
    db::PostgresConfig,
};
use sluice_common::{clock::unix_now, secret::Secret};
use sluice_testing::postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::support::Server;

const DEPLOYMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/sphinx-meme");

pub(super) static EXPECTED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&fs::read(format!("{DEPLOYMENT}/expected.json")).unwrap()).unwrap());

pub(super) fn expected(member: &str) -> String {
    EXPECTED[member].as_str().unwrap().to_owned()
}

/// What the real program said of each file.
pub(super) fn all_media() -> impl Iterator<Item = &'static Value> {
    EXPECTED["media"].as_array().unwrap().iter()
}

pub(super) fn muid(media: &Value) -> String {
    media["response"]["muid"].as_str().unwrap().to_owned()
}

/// The deployment, before anybody serves it.
pub(super) struct Deployment {
    url: String,
    pub(super) folder: TempDir,
}

impl Deployment {
    pub(super) async fn new() -> Self {
        let deployment = Self { url: postgres::database(), folder: TempDir::new().unwrap() };
        fs::create_dir(deployment.files()).unwrap();
        for file in fs::read_dir(format!("{DEPLOYMENT}/files")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), deployment.files().join(file.file_name())).unwrap();
        }
        deployment.run(&fs::read_to_string(format!("{DEPLOYMENT}/media.sql")).unwrap()).await;
        deployment
    }

    pub(super) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    pub(super) fn file_names(&self) -> Vec<String> {
        let names = fs::read_dir(self.files()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    pub(super) async fn run(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(super) fn postgres(&self) -> PostgresConfig {
        PostgresConfig::new(Secret::new(self.url.clone()))
    }

    pub(super) fn configure(&self, config: &mut BackendConfig) {
        config.host = expected("host");
        config.jwt_key = JwtKey::new(Secret::new(expected("jwt_key"))).unwrap();
        config.database = DatabaseConfig::Postgres(self.postgres());
        let key = <[u8; 32]>::try_from(hex::decode(expected("local_encryption_key")).unwrap()).unwrap();
        config.store = StoreConfig::Local { dir: self.files(), encryption_key: Some(Secret::new(key)) };
    }

    pub(super) async fn serve(&self) -> Server {
        self.serve_with(|_| {}).await
    }

    pub(super) async fn serve_with(&self, change: impl FnOnce(&mut BackendConfig)) -> Server {
        Server::with(|config| {
            self.configure(config);
            change(config);
        })
        .await
    }
}

/// The JWT of an owner as sphinx-meme made it, but for its end, which has passed.
pub(super) fn jwt(owner: &str) -> String {
    let old = EXPECTED["owners"][owner]["jwt"].as_str().unwrap();
    let claims = old.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    let mut claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["exp"] = json!(unix_now() + 7 * 86_400);
    let key = jsonwebtoken::EncodingKey::from_secret(expected("jwt_key").as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

impl Deployment {
    /// The plain bytes of a file, from another copy of this deployment.
    pub(super) async fn serve_plain(&self, media: &Value) -> Vec<u8> {
        let other = Deployment::new().await;
        other.serve().await.get(&format!("/public/{}", muid(media))).await.bytes().to_vec()
    }
}
