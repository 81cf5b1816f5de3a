//! What can go wrong between client and server.

use std::{error::Error, fmt, time::Duration};

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
    #[error("cannot reach {server}: {}", innermost(cause))]
    Unreachable {
        /// Which.
        server: String,
        /// What happened.
        cause: reqwest::Error,
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

/// Why a URL names no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    /// Not a URL.
    #[error("expected http://HOST:PORT or https://HOST")]
    NotAUrl,
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

/// What began it all: reqwest's own message says little.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
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
