//! What can go wrong between client and server.

use std::{error::Error, fmt, io, time::Duration};

use reqwest::StatusCode;
use serde::Deserialize;

use crate::client::{console::harmless, progress::Stalled};

/// Why a request has no good answer. Never holds a token or a query.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server's URL.
    #[error("the server's URL: {0}")]
    InvalidServer(#[from] InvalidServer),
    /// TLS or the like cannot be set up.
    #[error("cannot make connections: {}", innermost(.0))]
    Client(reqwest::Error),
    /// No connection, or it broke before there was an answer.
    #[error("cannot reach {server}: {trouble}")]
    Unreachable {
        /// Which.
        server: String,
        /// What happened.
        trouble: Trouble,
        /// Whether this run has had no answer of it yet, so that it may be the wrong address.
        is_first: bool,
    },
    /// It is another kind of server.
    #[error("{url} {said}: is {server} the address of {role}?")]
    OtherServer {
        /// What was asked.
        url: String,
        /// What it answered.
        said: String,
        /// Which.
        server: String,
        /// What was looked for.
        role: Role,
    },
    /// The connection broke within the answer.
    #[error("the server's answer was cut off: {}", innermost(.0))]
    AnswerCutOff(reqwest::Error),
    /// Nothing moves.
    #[error(transparent)]
    Stalled(#[from] Stalled),
    /// It answers with an error.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It wants money and does not say how: nothing in front of it takes payments.
    #[error("{server} asks for payment but sells nothing: say the gateway's address, not the media server's")]
    NothingSold {
        /// Which.
        server: String,
    },
    /// It answers something else than this client knows.
    #[error("the server does not speak as expected: {0}")]
    NotUnderstood(&'static str),
}

/// What happened on the way to a server.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no host of that name, as far as can be told now.
    #[error("no such host ({0})")]
    NoHost(String),
    /// https where there is none.
    #[error("it does not speak TLS; try http://")]
    NoTls,
    /// A certificate that is not good, or the like.
    #[error("TLS: {0}")]
    Tls(String),
    /// Something else than HTTP; on a port of https, for instance.
    #[error("it does not speak HTTP; try https://")]
    NotHttp,
    /// It refuses, does not answer, or breaks off.
    #[error("{0}")]
    Broken(String),
}

impl Trouble {
    pub(super) fn of(error: &reqwest::Error, is_https: bool) -> Self {
        let said = innermost(error);
        for cause in causes(error) {
            let io = cause.downcast_ref::<io::Error>();
            match of_tls(cause) {
                Some(rustls::Error::InvalidMessage(_)) => return Self::NoTls,
                Some(error) => return Self::Tls(error.to_string()),
                None => {}
            }
            // Some servers hang up on a greeting that is none of HTTP.
            if is_https && error.is_connect() && io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof) {
                return Self::NoTls;
            }
            // Who speaks first, before there is a request: hyper has no other way to tell.
            let is_early = |error: &hyper::Error| error.to_string() == "received unexpected message from connection";
            if cause.downcast_ref().is_some_and(|error: &hyper::Error| error.is_parse() || is_early(error)) {
                return Self::NotHttp;
            }
            // hyper-util keeps the type for itself.
            if cause.to_string() == "dns error" {
                return Self::NoHost(said);
            }
        }
        Self::Broken(said)
    }

    /// Whether it may well pass by itself.
    pub(in crate::client) fn may_pass(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}

/// What a client looks for at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Where files are uploaded and downloaded.
    Gateway,
    /// Where the embedded wallet pays.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "the gateway (--server, SLUICE_SERVER)",
            Self::Admin => "a gateway's admin interface, with the embedded wallet",
        })
    }
}

/// Why a URL names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    /// Not a URL.
    #[error("expected http://HOST:PORT or https://HOST")]
    NotAUrl,
    /// The scheme was left out.
    #[error("did you mean http://{0}?")]
    NoScheme(String),
    /// Another scheme.
    #[error("expected http or https")]
    Scheme,
    /// A user, query or fragment.
    #[error("it may hold no user, query or fragment")]
    More,
}

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The stable machine code, if it is problem+json.
    pub code: String,
    /// For people.
    pub detail: String,
    /// When to try again, if the server says so.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn client(cause: reqwest::Error) -> Self {
        Self::Client(cause.without_url())
    }
}

impl Refusal {
    pub(super) fn of(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Problem {
            code: String,
            detail: String,
        }
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        Self { status, code: harmless(&problem.code), detail: harmless(&problem.detail), retry_after }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answers {}", self.status)?;
        match (self.detail.as_str(), self.code.as_str()) {
            ("", "") => Ok(()),
            ("", code) => write!(f, ": {code}"),
            (detail, _) => write!(f, ": {detail}"),
        }
    }
}

impl Error for Refusal {}

/// The error of TLS that `cause` is or holds: an I/O error does not name what it holds as its source.
fn of_tls<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    match cause.downcast_ref::<io::Error>() {
        Some(io) => of_tls(io.get_ref()?),
        None => cause.downcast_ref(),
    }
}

/// `error` and what caused it, outermost first.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |&cause| cause.source())
}

/// What began it all: reqwest's own message says little.
fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line() {
        let of = |body: &str| Refusal::of(StatusCode::CONFLICT, None, body.as_bytes()).to_string();
        assert_eq!(of(r#"{"code":"c","detail":"why\nnot"}"#), "the server answers 409 Conflict: why not");
        assert_eq!(of(r#"{"code":"c"}"#), "the server answers 409 Conflict: c");
        for junk in ["", "<html>", "[]", r#"{"code":1}"#] {
            assert_eq!(of(junk), "the server answers 409 Conflict", "{junk}");
        }
    }
}
