//! Who is calling: a login (JWT), a paid credential, both or neither.

use http::{HeaderMap, request::Parts};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sluice_common::{
    clock::unix_now,
    l402::{self, Credential, Token},
    lightning_message::NodeKey,
    login::find_jwt,
    permit::{FreePermit, PermittedRequest},
    secret::Secret,
};
use time::{Duration, OffsetDateTime};

use crate::{db::Owner, error::ApiError, state::App};

/// How long a login lasts.
const LOGIN_LASTS: Duration = Duration::days(7);

/// `JWT_KEY`: a text that is not empty. Prints as `[redacted]`.
#[derive(Debug, Clone)]
pub struct JwtKey(Secret<String>);

/// `JWT_KEY` is empty: anybody could sign a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("JWT_KEY is empty")]
pub struct EmptyJwtKey;

impl JwtKey {
    /// The key whose bytes are the UTF-8 of `key`, as it stands.
    pub fn new(key: Secret<String>) -> Result<Self, EmptyJwtKey> {
        if key.expose().is_empty() { Err(EmptyJwtKey) } else { Ok(Self(key)) }
    }

    /// The key's bytes.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

/// Whom a login names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The node whose signature proved it.
    pub key: NodeKey,
    /// Whether it may only read.
    pub readonly: bool,
}

/// Makes and reads logins: JWTs, HS256.
pub struct Logins {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// A text is not a login of this server, or one that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the login (JWT) is not valid, or no longer")]
pub struct InvalidLogin;

#[derive(Serialize, Deserialize)]
struct Claims {
    key: NodeKey,
    exp: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    readonly: bool,
}

impl Logins {
    /// Logins under `key`.
    pub fn new(key: &JwtKey) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        Self {
            encoding: EncodingKey::from_secret(key.expose()),
            decoding: DecodingKey::from_secret(key.expose()),
            validation,
        }
    }

    /// A login of `user` that begins at `now` and lasts 7 days.
    pub fn issue(&self, user: User, now: OffsetDateTime) -> Result<String, jsonwebtoken::errors::Error> {
        let exp = (now + LOGIN_LASTS).unix_timestamp();
        let claims = Claims { key: user.key, exp, readonly: user.readonly };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    /// Whom a login names.
    pub fn read(&self, jwt: &str) -> Result<User, InvalidLogin> {
        let token = jsonwebtoken::decode::<Claims>(jwt, &self.decoding, &self.validation).map_err(|_| InvalidLogin)?;
        Ok(User { key: token.claims.key, readonly: token.claims.readonly })
    }
}

/// Who is calling: somebody who is logged in, or has a genuine credential, or both.
#[derive(Debug, Clone)]
pub struct Caller {
    user: Option<User>,
    token: Option<Token>,
}

impl Caller {
    /// Whoever sent this request; somebody. A login or credential that is not good is an error also beside a good one.
    pub async fn of(app: &App, parts: &Parts) -> Result<Self, ApiError> {
        let caller = Self { user: user(app, parts)?, token: token(app, &parts.headers).await? };
        if caller.user.is_none() && caller.token.is_none() { Err(ApiError::LoginRequired) } else { Ok(caller) }
    }

    /// The same, who must not have a login that may only read.
    pub async fn writing(app: &App, parts: &Parts) -> Result<Self, ApiError> {
        let caller = Self::of(app, parts).await?;
        if caller.user.is_some_and(|user| user.readonly) { Err(ApiError::ReadonlyLogin) } else { Ok(caller) }
    }

    /// As whom the caller owns files: the login's node first, then the credential.
    pub fn owners(&self) -> Vec<Owner> {
        let user = self.user.map(|user| Owner::node(&user.key));
        let token = self.token.as_ref().map(|token| Owner::credential(&token.credential_hash()));
        user.into_iter().chain(token).collect()
    }

    /// Whom the login names.
    pub fn logged_in(&self) -> Result<User, ApiError> {
        self.user.ok_or(ApiError::LoginRequired)
    }
}

/// Whom the request's login names; none if it has none.
pub fn user(app: &App, parts: &Parts) -> Result<Option<User>, ApiError> {
    let Some(jwt) = find_jwt(&parts.headers, parts.uri.query()) else { return Ok(None) };
    Ok(Some(app.logins.read(&jwt)?))
}

/// Whom the request's login names, if it may write; none if it has none.
pub fn writer(app: &App, parts: &Parts) -> Result<Option<User>, ApiError> {
    match user(app, parts)? {
        Some(User { readonly: true, .. }) => Err(ApiError::ReadonlyLogin),
        user => Ok(user),
    }
}

/// The request's genuine token, perhaps expired, but not revoked; none if it has no credential.
pub async fn token(app: &App, headers: &HeaderMap) -> Result<Option<Token>, ApiError> {
    let Some(credential) = Credential::from_headers(headers)? else { return Ok(None) };
    let accepted = app.accepted.load_full();
    let check = |terms| (l402::verify(&credential, &accepted.master_keys, app.network, terms), terms);
    let mut checked: Vec<_> = accepted.terms.of(credential.macaroon()).into_iter().map(check).collect();
    // Ours name one service. Of several that another program sold together, the first for which it is good.
    let now = unix_now();
    let good = checked.iter().position(|(token, _)| token.as_ref().is_ok_and(|token| token.permit(now).is_ok()));
    let (token, terms) = checked.swap_remove(good.unwrap_or_default());
    let token = token?;
    let is_retired = accepted.master_keys.is_retired(&token.token_id());
    app.ledger.take(&token, is_retired, &terms.name, app.network).await?;
    Ok(Some(token))
}

/// What the gateway lets through without a token; none: it said nothing of this request that can be believed.
pub fn free_permit(app: &App, parts: &Parts) -> Option<FreePermit> {
    let target = parts.uri.path_and_query()?.as_str();
    let request = PermittedRequest { method: &parts.method, target, headers: &parts.headers };
    FreePermit::of(&request, &app.accepted.load().master_keys, unix_now())
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;

    /// A node's key in hex.
    const ALICE: &str = "03ce90e4efa658177e45ed1ca48e5c2d1986d76a83043c6dae5bcbe99e08638d97";

    fn key() -> JwtKey {
        JwtKey::new(Secret::new("421275ff4f62d0bf855133f8c4ba53e4".to_owned())).unwrap()
    }

    fn alice() -> NodeKey {
        NodeKey::from_hex(ALICE).unwrap()
    }

    fn signed(header: Header, claims: &serde_json::Value, key: &JwtKey) -> String {
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(key.expose())).unwrap()
    }

    #[test]
    fn reads_what_it_issues() {
        let logins = Logins::new(&key());
        for readonly in [true, false] {
            let user = User { key: alice(), readonly };
            let jwt = logins.issue(user, OffsetDateTime::now_utc()).unwrap();
            assert_eq!(logins.read(&jwt), Ok(user));
            let payload = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(claims["key"], alice().to_string());
            assert_eq!(claims.get("readonly").is_some(), readonly);
        }
    }

    #[test]
    fn reads_the_old_servers_claims_padded_or_not() {
        let logins = Logins::new(&key());
        let exp = OffsetDateTime::now_utc().unix_timestamp() + 60;
        // The key of one node has no padding, of another it would have: both spellings are read.
        for key_text in [alice().to_string(), alice().to_string().trim_end_matches('=').to_owned()] {
            let jwt = signed(Header::default(), &json!({ "exp": exp, "key": key_text }), &key());
            assert_eq!(logins.read(&jwt), Ok(User { key: alice(), readonly: false }));
        }
    }

    #[test]
    fn refuses_everything_else() {
        let logins = Logins::new(&key());
        let now = OffsetDateTime::now_utc();
        let good = json!({ "exp": now.unix_timestamp() + 60, "key": alice() });
        let good_jwt = signed(Header::default(), &good, &key());
        assert!(logins.read(&good_jwt).is_ok());

        let other = JwtKey::new(Secret::new("another".to_owned())).unwrap();
        let unsigned =
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), good_jwt.split('.').nth(1).unwrap());
        for (why, jwt) in [
            ("another key", signed(Header::default(), &good, &other)),
            ("another algorithm", signed(Header::new(Algorithm::HS512), &good, &key())),
            ("no algorithm", unsigned),
            ("over", signed(Header::default(), &json!({ "exp": now.unix_timestamp() - 2, "key": alice() }), &key())),
            ("for ever", signed(Header::default(), &json!({ "key": alice() }), &key())),
            ("nobody", signed(Header::default(), &json!({ "exp": now.unix_timestamp() + 60 }), &key())),
            ("no key", signed(Header::default(), &json!({ "exp": now.unix_timestamp() + 60, "key": "AAAA" }), &key())),
            ("cut", good_jwt[..good_jwt.len() - 1].to_owned()),
            ("junk", "a.b.c".to_owned()),
            ("empty", String::new()),
        ] {
            assert_eq!(logins.read(&jwt), Err(InvalidLogin), "{why}");
        }
        assert_eq!(JwtKey::new(Secret::new(String::new())).unwrap_err(), EmptyJwtKey);
        assert!(!format!("{:?}", key()).contains("4212"));
    }
}
