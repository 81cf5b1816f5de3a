//! `GET /ping`: whether the server answers.

use axum::Json;

use crate::openapi::ServerErrors;

/// `"pong"`.
#[utoipa::path(get, path = "/ping", responses((status = 200, body = String, content_type = "application/json"), ServerErrors))]
pub async fn get() -> Json<&'static str> {
    Json("pong")
}
