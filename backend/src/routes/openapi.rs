//! `GET /openapi.json`: all routes, for programs.

use axum::{
    Extension,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use utoipa::openapi::OpenApi;

use crate::openapi::ServerErrors;

/// The document, as it is sent.
#[derive(Debug, Clone)]
pub struct Document(Bytes);

impl Document {
    /// That of a router.
    pub fn new(document: &OpenApi) -> Self {
        // Texts and lists always serialise.
        Self(document.to_json().unwrap_or_default().into())
    }
}

/// This very document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object), ServerErrors))]
pub async fn get(Extension(Document(document)): Extension<Document>) -> Response {
    ([(CONTENT_TYPE, "application/json")], document).into_response()
}
