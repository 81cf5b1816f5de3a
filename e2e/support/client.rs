//! What clients ask of a Sluice.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use reqwest::{RequestBuilder, Response, StatusCode};
use secp256k1::SecretKey;
use serde_json::{Value, json};
use sluice_common::{
    l402::{Challenge, Credential},
    lightning_message::{self, NodeKey},
};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

use super::{Sluice, authorized, challenge, form};

impl Sluice {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin)
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    /// Asks for the price, pays, and gives the credential.
    pub async fn buy(&self) -> Credential {
        let reply = self.get("/largefile").send().await.unwrap();
        assert_eq!(reply.status(), StatusCode::PAYMENT_REQUIRED);
        self.pay(&challenge(&reply)).await
    }

    /// Pays with the embedded wallet.
    pub async fn pay(&self, challenge: &Challenge) -> Credential {
        let body = json!({ "invoice": challenge.invoice });
        let reply = self.client.post(self.admin_url("/wallet/pay")).json(&body).send().await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        let answer: Value = reply.json().await.unwrap();
        let preimage = answer["preimage"].as_str().unwrap();
        self.is_secret(preimage);
        let credential = Credential::new(challenge.macaroon.clone(), preimage.parse().unwrap());
        self.is_secret(&credential.macaroon().to_base64());
        credential
    }

    /// The same credential with more caveats.
    pub fn restricted(&self, credential: &Credential, caveats: &[&str]) -> Credential {
        let caveats: Vec<String> = caveats.iter().map(|&caveat| caveat.to_owned()).collect();
        let restricted =
            Credential::new(credential.macaroon().attenuate(&caveats).unwrap(), credential.preimage().clone());
        self.is_secret(&restricted.macaroon().to_base64());
        restricted
    }

    /// How many payments the embedded wallet recorded.
    pub async fn payments_made(&self) -> i64 {
        let options = SqliteConnectOptions::new().filename(self.data().join("gateway.db")).read_only(true);
        let mut db = options.connect().await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM test_wallet_payments").fetch_one(&mut db).await.unwrap()
    }

    /// What the media server says of a token.
    pub async fn token_state(&self, credential: &Credential) -> Value {
        let reply = authorized(self.get("/largefile"), credential).send().await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        reply.json().await.unwrap()
    }

    /// Uploads to the paid route.
    pub async fn upload(&self, credential: &Credential, file: &[u8]) -> Response {
        let (content_type, body) = form::with_file(file);
        authorized(self.post("/largefile"), credential)
            .header("content-type", content_type)
            .body(body)
            .send()
            .await
            .unwrap()
    }

    /// Logs in as the node of this key and gives the JWT.
    pub async fn log_in(&self, secret_key: &SecretKey) -> String {
        let asked: Value = self.get("/ask").send().await.unwrap().json().await.unwrap();
        let challenge = URL_SAFE.decode(asked["challenge"].as_str().unwrap()).unwrap();
        let signature = URL_SAFE.encode(lightning_message::sign(&challenge, secret_key));
        let pubkey = NodeKey::of(secret_key).to_hex();
        let form = [("id", asked["id"].as_str().unwrap()), ("sig", &signature), ("pubkey", &pubkey)];
        let reply = self.post("/verify").form(&form).send().await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        let answer: Value = reply.json().await.unwrap();
        let token = answer["token"].as_str().unwrap().to_owned();
        self.is_secret(&token);
        token
    }
}
