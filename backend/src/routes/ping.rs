//! `GET /ping`: whether the server answers.

use axum::Json;

/// `"pong"`.
#[utoipa::path(get, path = "/ping", responses((status = 200, body = String, content_type = "application/json")))]
pub async fn get() -> Json<&'static str> {
    Json("pong")
}
