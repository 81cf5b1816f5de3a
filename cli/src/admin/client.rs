//! The way to a gateway's admin API.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sluice_common::secret::Secret;

use crate::keys::{KeyError, admin_token};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// No answer is longer.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Which gateway, and who asks.
#[derive(Debug, Clone, Default, Args)]
pub struct GatewayArgs {
    /// The gateway's admin address [default: http://127.0.0.1:8082, or what the configuration says]
    #[arg(long, value_name = "URL", env = "SLUICE_ADMIN", global = true)]
    pub admin: Option<String>,
    /// The file with its admin token [default: admin.token in its data folder]
    #[arg(long, value_name = "FILE", env = "SLUICE_ADMIN_TOKEN_FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Its admin token itself, in the environment alone: others see the arguments of a command
    #[arg(skip)]
    pub token: Option<Secret<String>>,
    /// Its configuration file, which names its data folder and its admin address
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Its data folder [default: sluice-data]
    #[arg(long, value_name = "DIR", global = true)]
    pub data: Option<PathBuf>,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address.
    #[error("--admin (SLUICE_ADMIN): not a URL as http://127.0.0.1:8082")]
    Address,
    /// The file of the token cannot be read.
    #[error("{0}")]
    Token(KeyError),
    /// There is none. A new one would be of no use: the gateway has its own.
    #[error(
        "there is no admin token {}, where the gateway that runs would have put it: say --data, --token-file or \
         SLUICE_ADMIN_TOKEN", .0.display()
    )]
    NoToken(PathBuf),
    /// Not a header.
    #[error("SLUICE_ADMIN_TOKEN: not visible ASCII")]
    TokenText,
    /// It cannot be reached.
    #[error("cannot reach {server}: {source}")]
    Unreachable {
        /// Which.
        server: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// It says no.
    #[error("{code}: {detail}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The machine code.
        code: String,
        /// For people.
        detail: String,
    },
    /// It says something else.
    #[error("the answer is none of a gateway's admin API: is this its admin address?")]
    NotUnderstood,
    /// Asked for what only the ledger gives.
    #[error("--sum is for `sluice payments`; `sluice admin stats` has the sums of days")]
    Sums,
    /// Standard output.
    #[error("standard output: {0}")]
    Io(#[from] io::Error),
}

impl From<KeyError> for AdminError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Missing { path, .. } => Self::NoToken(path),
            error => Self::Token(error),
        }
    }
}

impl AdminError {
    /// What the command ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Address | Self::Token(_) | Self::NoToken(_) | Self::TokenText | Self::Sums => 2,
            Self::Unreachable { .. } | Self::NotUnderstood => 3,
            Self::Refused { status, .. } if status.is_server_error() => 3,
            Self::Refused { .. } | Self::Io(_) => 1,
        }
    }
}

/// A gateway, as its admin API shows it.
#[derive(Debug)]
pub struct Gateway {
    base: Url,
    token: Secret<String>,
    http: Client,
}

impl Gateway {
    /// The gateway that `args` name; else the one of the data folder `data_dir`, which listens for admins on `listen`.
    pub fn new(args: &GatewayArgs, data_dir: &Path, listen: SocketAddr) -> Result<Self, AdminError> {
        let address = args.admin.clone().unwrap_or_else(|| format!("http://{listen}"));
        let base: Url = address.parse().map_err(|_| AdminError::Address)?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(AdminError::Address);
        }
        let token = match (&args.token, &args.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => admin_token::read_text(file)?,
            (None, None) => admin_token::read_text(&admin_token::path(data_dir))?,
        };
        if !token.expose().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(AdminError::TokenText);
        }
        let http = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let http = if is_loopback(&base) { http.no_proxy() } else { http };
        let http = http.build().map_err(|source| AdminError::Unreachable { server: base.to_string(), source })?;
        Ok(Self { base, token, http })
    }

    /// `GET /v1/PATH`
    pub async fn get(&self, path: &str, query: &[(&str, Option<String>)]) -> Result<Value, AdminError> {
        let said: Vec<_> = query.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).collect();
        self.send(self.request(Method::GET, path)?.query(&said)).await
    }

    /// `POST /v1/PATH`
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, AdminError> {
        self.send(self.request(Method::POST, path)?.json(body)).await
    }

    /// `DELETE /v1/PATH`
    pub async fn delete(&self, path: &str) -> Result<Value, AdminError> {
        self.send(self.request(Method::DELETE, path)?).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, AdminError> {
        let url = format!("{}/v1/{path}", self.base.as_str().trim_end_matches('/'));
        let url: Url = url.parse().map_err(|_| AdminError::Address)?;
        Ok(self.http.request(method, url).bearer_auth(self.token.expose()))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, AdminError> {
        let unreachable = |source: reqwest::Error| AdminError::Unreachable {
            server: self.base.as_str().trim_end_matches('/').to_owned(),
            source: source.without_url(),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(AdminError::NotUnderstood);
            }
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| AdminError::NotUnderstood)?;
        if status.is_success() {
            return Ok(answer);
        }
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let code = text("code").ok_or(AdminError::NotUnderstood)?;
        Err(AdminError::Refused { status, code, detail: text("detail").unwrap_or_default() })
    }
}

/// An answer, as what it must be.
pub(super) fn read<T: DeserializeOwned>(said: Value) -> Result<T, AdminError> {
    serde_json::from_value(said).map_err(|_| AdminError::NotUnderstood)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
