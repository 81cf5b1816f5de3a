//! The server's HTTP interface, one method for each request. Nothing here tries twice: see `retry`.

mod error;
mod model;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::Engine;
use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::{
    Body, Client, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, IF_RANGE, RANGE, WWW_AUTHENTICATE},
    redirect::Policy,
};
use secp256k1::SecretKey;
use serde::de::DeserializeOwned;
use sluice_common::{
    l402::{Challenge, Credential},
    lightning_message::{self, NodeKey},
    muid::{BASE64URL, Muid},
    secret::Secret,
};

pub use self::{
    error::{ApiError, InvalidServer, Refusal, Role, Trouble},
    model::{Media, Price, TokenStatus},
};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer, or the next piece of it, may take; uploads have no such limit.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// No answer that is read whole is longer.
const MAX_ANSWER_LEN: usize = 4 * 1_048_576;

/// A server, and the connections to it.
#[derive(Debug, Clone)]
pub struct Api {
    base: Url,
    role: Role,
    has_answered: Arc<AtomicBool>,
    http: Client,
    uploads: Client,
}

/// Who asks.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// From [`Api::login`].
    pub jwt: Option<Secret<String>>,
    /// A token that was paid for.
    pub credential: Option<Credential>,
}

/// A request body of known length: `content_type` is that of a form.
pub struct UploadBody {
    /// With the form's boundary.
    pub content_type: String,
    /// Bytes in all.
    pub len: u64,
    /// The bytes.
    pub body: Body,
}

impl Api {
    /// The gateway at `url`, http or https; a path in it comes before every route.
    pub fn new(url: &str) -> Result<Self, ApiError> {
        Self::of(url, Role::Gateway)
    }

    /// The admin interface of a gateway.
    pub fn admin(url: &str) -> Result<Self, ApiError> {
        Self::of(url, Role::Admin)
    }

    fn of(url: &str, role: Role) -> Result<Self, ApiError> {
        let without_scheme = || {
            let with = format!("http://{url}");
            let named = with.parse().is_ok_and(|with: Url| with.host_str().is_some() && with.username().is_empty());
            // The name of a host is taken for a scheme, if a port follows.
            if named && !url.contains("://") { InvalidServer::NoScheme(url.to_owned()) } else { InvalidServer::NotAUrl }
        };
        let mut base: Url = url.parse().map_err(|_| without_scheme())?;
        if base.cannot_be_a_base() {
            return Err(without_scheme().into());
        }
        if !matches!(base.scheme(), "http" | "https") {
            return Err(InvalidServer::Scheme.into());
        }
        if base.query().is_some() || base.fragment().is_some() || !base.username().is_empty() {
            return Err(InvalidServer::More.into());
        }
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        let builder = || {
            let mut builder = Client::builder()
                .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                // A redirect would take the credential, or a body that cannot be sent twice, somewhere else.
                .redirect(Policy::none());
            if is_loopback(&base) {
                builder = builder.no_proxy();
            }
            builder
        };
        let http = builder().read_timeout(READ_TIMEOUT).build().map_err(ApiError::client)?;
        let uploads = builder().build().map_err(ApiError::client)?;
        Ok(Self { base, role, has_answered: Arc::default(), http, uploads })
    }

    /// The server's URL without a slash at its end: what tokens are saved under.
    pub fn server(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Where the file is downloaded.
    pub fn link(&self, muid: Muid, public: bool) -> String {
        format!("{}/{}/{muid}", self.server(), if public { "public" } else { "file" })
    }

    /// Logs in: signs the server's challenge as a node does. Answers the JWT.
    pub async fn login(&self, key: &SecretKey) -> Result<Secret<String>, ApiError> {
        #[derive(serde::Deserialize)]
        struct Ask {
            id: String,
            challenge: String,
        }
        #[derive(serde::Deserialize)]
        struct Verified {
            token: Secret<String>,
        }
        let ask = self.url(&["ask"]);
        let answer = async { json(self.send(self.http.get(ask.clone())).await?).await };
        let ask: Ask = answer.await.map_err(|error| self.perhaps_another(&ask, error))?;
        let challenge =
            BASE64URL.decode(&ask.challenge).map_err(|_| ApiError::NotUnderstood("the login's challenge"))?;
        let signature = BASE64URL.encode(lightning_message::sign(&challenge, key));
        let form = [("id", ask.id), ("sig", signature), ("pubkey", NodeKey::of(key).to_hex())];
        let verified: Verified = json(self.send(self.http.post(self.url(&["verify"])).form(&form)).await?).await?;
        Ok(verified.token)
    }

    /// What the server sells an upload of `size` bytes for: its challenge, and the price as it says it. None: it costs
    /// nothing.
    pub async fn challenge(&self, size: u64) -> Result<Option<(Challenge, Price)>, ApiError> {
        let url = self.url(&["largefile"]);
        let response = self.ask(self.http.get(url.clone()).query(&[("size", size)])).await?;
        if response.status() != StatusCode::PAYMENT_REQUIRED {
            let response = self.check(response).await.map_err(|error| self.perhaps_another(&url, error))?;
            return match serde_json::from_slice(&read_whole(response).await?) {
                Ok(Price { price_sat: Some(0) }) => Ok(None),
                _ => Err(ApiError::NotUnderstood("what it asks for an upload")),
            };
        }
        let values = response.headers().get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
        let challenge = Challenge::parse(values);
        let body = read_whole(response).await?;
        match challenge {
            Some(challenge) => Ok(Some((challenge, serde_json::from_slice(&body).unwrap_or_default()))),
            None => Err(ApiError::NothingSold { server: self.server().to_owned() }),
        }
    }

    /// What is left of a token.
    pub async fn token_status(&self, caller: &Caller) -> Result<TokenStatus, ApiError> {
        json(self.send(caller.identify(self.http.get(self.url(&["largefile"])))).await?).await
    }

    /// The caller's own file; none when it has no such one.
    pub async fn my_media(&self, caller: &Caller, muid: Muid) -> Result<Option<Media>, ApiError> {
        let request = self.http.get(self.url(&["mymedia", &muid.to_string()]));
        match self.send(caller.identify(request)).await {
            Ok(response) => Ok(Some(json(response).await?)),
            Err(ApiError::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes what is said of the caller's own file: the members of `change`, and no others.
    pub async fn change(&self, caller: &Caller, muid: Muid, change: &serde_json::Value) -> Result<Media, ApiError> {
        let request = self.http.put(self.url(&["mymedia", &muid.to_string()])).json(change);
        json(self.send(caller.identify(request)).await?).await
    }

    /// Uploads a form to `route`.
    pub async fn upload(&self, route: &str, caller: &Caller, form: UploadBody) -> Result<Media, ApiError> {
        let request = self
            .uploads
            .post(self.url(&[route]))
            .header(CONTENT_TYPE, form.content_type)
            .header(CONTENT_LENGTH, form.len)
            .body(form.body);
        json(self.send(caller.identify(request)).await?).await
    }

    /// Begins a download at `offset`, if the server's copy is still that of `etag`, else at its begin.
    pub async fn download(
        &self,
        segments: &[&str],
        caller: &Caller,
        offset: u64,
        etag: &str,
    ) -> Result<Response, ApiError> {
        let mut request = caller.identify(self.http.get(self.url(segments)));
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-")).header(IF_RANGE, etag);
        }
        self.send(request).await
    }

    /// Posts JSON, and reads the answer as JSON.
    pub async fn post_json<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &serde_json::Value,
    ) -> Result<T, ApiError> {
        let url = self.url(segments);
        let answer = async { json(self.send(self.http.post(url.clone()).json(body)).await?).await };
        answer.await.map_err(|error| self.perhaps_another(&url, error))
    }

    /// What went wrong on the way to this server.
    fn unreachable(&self, cause: &reqwest::Error) -> ApiError {
        ApiError::Unreachable {
            server: self.server().to_owned(),
            trouble: Trouble::of(cause, self.base.scheme() == "https"),
            is_first: !self.has_answered.load(Ordering::Relaxed),
        }
    }

    /// What `error` says of who answers at `url`, which every server of this kind has.
    fn perhaps_another(&self, url: &Url, error: ApiError) -> ApiError {
        let said = match &error {
            ApiError::NotUnderstood(_) => "is not answered as Sluice does".to_owned(),
            ApiError::Refused(refusal)
                if refusal.status == StatusCode::NOT_FOUND || refusal.status.is_redirection() =>
            {
                format!("answers {}", refusal.status)
            }
            _ => return error,
        };
        let server = self.server().to_owned();
        ApiError::OtherServer { url: url.to_string(), said, server, role: self.role }
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Fails only for URLs that cannot be a base, and http's can.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        self.check(self.ask(request).await?).await
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let response = request.send().await.map_err(|cause| self.unreachable(&cause))?;
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// Anything but success becomes an error.
    async fn check(&self, response: Response) -> Result<Response, ApiError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        // The status alone says enough when the body is lost.
        let body = read_whole(response).await.unwrap_or_default();
        Err(ApiError::Refused(Refusal::of(status, retry_after.map(Duration::from_secs), &body)))
    }
}

impl Caller {
    /// One `Authorization` line for each proof of who asks.
    fn identify(&self, mut request: RequestBuilder) -> RequestBuilder {
        let credential = self.credential.as_ref().map(Credential::authorization);
        let bearer = self.jwt.as_ref().map(|jwt| Secret::new(format!("Bearer {}", jwt.expose())));
        for secret in [credential, bearer].into_iter().flatten() {
            // Neither base64 nor hex holds what a header may not.
            if let Ok(mut value) = HeaderValue::from_str(secret.expose()) {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
        }
        request
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

async fn json<T: DeserializeOwned>(response: Response) -> Result<T, ApiError> {
    let body = read_whole(response).await?;
    serde_json::from_slice(&body).map_err(|_| ApiError::NotUnderstood("its answer"))
}

async fn read_whole(response: Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece: Bytes = piece.map_err(|cause| ApiError::AnswerCutOff(cause.without_url()))?;
        if body.len() + piece.len() > MAX_ANSWER_LEN {
            return Err(ApiError::NotUnderstood("its answer"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_name() {
        for url in ["http://127.0.0.1:8081", "http://127.0.0.1:8081/", "HTTP://127.0.0.1:8081//"] {
            assert_eq!(Api::new(url).unwrap().server(), "http://127.0.0.1:8081", "{url}");
        }
        assert_eq!(Api::new("https://Example.com:443/a/").unwrap().server(), "https://example.com/a");
    }

    #[test]
    fn refuses_what_is_no_server() {
        for (url, error) in [
            ("127.0.0.1:8081", InvalidServer::NoScheme("127.0.0.1:8081".to_owned())),
            ("localhost:8081", InvalidServer::NoScheme("localhost:8081".to_owned())),
            ("files.example.org", InvalidServer::NoScheme("files.example.org".to_owned())),
            ("", InvalidServer::NotAUrl),
            ("a b", InvalidServer::NotAUrl),
            ("http://", InvalidServer::NotAUrl),
            ("mailto:a@b", InvalidServer::NotAUrl),
            ("ftp://a", InvalidServer::Scheme),
            ("http://a/?b", InvalidServer::More),
            ("http://user@a", InvalidServer::More),
        ] {
            let refused = Api::new(url).err();
            assert!(matches!(&refused, Some(ApiError::InvalidServer(is)) if *is == error), "{url}: {refused:?}");
        }
    }

    #[test]
    fn routes_stand_behind_the_path_of_the_server() {
        let muid = Muid::from_bytes([0xfb; 32]);
        let api = Api::new("http://a/b").unwrap();
        assert_eq!(api.url(&["mymedia", "a/b?c"]).as_str(), "http://a/b/mymedia/a%2Fb%3Fc");
        assert_eq!(api.url(&["file", &muid.to_string()]).as_str(), api.link(muid, false));
        assert_eq!(api.link(muid, true), format!("http://a/b/public/{muid}"));
        assert_eq!(Api::new("http://a").unwrap().url(&["ask"]).as_str(), "http://a/ask");
    }

    #[test]
    fn no_proxy_stands_before_this_machine() {
        for (url, is) in
            [("http://localhost:1", true), ("http://127.9.0.1", true), ("http://[::1]:8", true), ("http://a", false)]
        {
            assert_eq!(is_loopback(&url.parse().unwrap()), is, "{url}");
        }
    }
}
