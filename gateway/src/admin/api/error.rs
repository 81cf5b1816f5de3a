//! What goes wrong in the admin API, and the one place that makes an answer of it.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use sluice_common::problem::{self, Problem};
use utoipa::{
    IntoResponses, Modify, ToSchema,
    openapi::{
        ContentBuilder, Ref, RefOr, Response as Described, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::ledger::LedgerError;

/// Whatever goes wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// No admin token, or another one.
    #[error(
        "send the admin token as `Authorization: Bearer TOKEN`; it is in the file admin.token of the gateway's data folder"
    )]
    Unauthorized,
    /// The gateway has not started yet.
    #[error("not every part has started yet")]
    NotReady,
    /// A parameter.
    #[error("{0}")]
    InvalidQuery(String),
    /// A body that is not what it should be.
    #[error("{0}")]
    InvalidBody(String),
    /// A body that can be read and makes no sense.
    #[error("{0}")]
    Unprocessable(&'static str),
    /// The ledger has nothing of this token.
    #[error(
        "the ledger has no payment with this hash, and nothing of it is revoked: tokens that were not paid are written nowhere"
    )]
    UnknownToken,
    /// There is nothing to undo.
    #[error("no such revocation is in effect")]
    NotRevoked,
    /// The path names neither.
    #[error(
        "the path has neither a payment hash of 64 hexadecimal digits nor, where one is taken, a time as 2026-01-31T12:00:00Z"
    )]
    InvalidPath,
    /// The route does not know the method.
    #[error("the route does not know this method")]
    MethodNotAllowed,
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "admin_token_required"),
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Self::InvalidQuery(_) => (StatusCode::BAD_REQUEST, "invalid_query"),
            Self::InvalidBody(_) => (StatusCode::BAD_REQUEST, "invalid_body"),
            Self::Unprocessable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_revocation"),
            Self::UnknownToken => (StatusCode::NOT_FOUND, "unknown_token"),
            Self::NotRevoked => (StatusCode::NOT_FOUND, "not_revoked"),
            Self::InvalidPath => (StatusCode::BAD_REQUEST, "invalid_path"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Ledger(_) => (StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable"),
        };
        let problem = Problem::new(status, code);
        let problem = match &self {
            Self::Ledger(cause) => {
                tracing::error!(%cause, "the admin API cannot ask the ledger");
                problem.detail("the ledger's database cannot be asked now; the log says why")
            }
            error => problem.detail(error.to_string()),
        };
        let mut response = (status, problem.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        match self {
            Self::Unauthorized => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Self::NotReady | Self::Ledger(_) => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("5"))),
            _ => {}
        }
        response
    }
}

/// An error: RFC 9457, as `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemJson {
    /// `about:blank`.
    #[serde(rename = "type")]
    kind: String,
    /// What the status means.
    title: String,
    /// The status.
    status: u16,
    /// Stable, for programs.
    code: String,
    /// For people.
    detail: String,
}

/// What every route may answer.
pub(super) struct Common;

impl IntoResponses for Common {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        [
            ("401", "`admin_token_required`"),
            ("503", "`not_ready`, `ledger_unavailable`: come again after as many seconds as `Retry-After` says"),
        ]
        .map(described)
        .into()
    }
}

/// What a route with parameters may answer.
pub(super) struct BadQuery;

impl IntoResponses for BadQuery {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        [("400", "`invalid_query`, `invalid_body`, `invalid_path`: `detail` says what is wrong")].map(described).into()
    }
}

fn described((status, text): (&str, &str)) -> (String, RefOr<Described>) {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description(text).content(problem::CONTENT_TYPE, content).build();
    (status.to_owned(), response.into())
}

/// How the token is sent, for the document.
pub(super) struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let bearer = bearer.description(Some("the file admin.token in the gateway's data folder"));
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    }
}
