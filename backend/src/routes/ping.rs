//! `GET /ping`: whether the server answers.

use axum::Json;

/// `"pong"`.
pub async fn get() -> Json<&'static str> {
    Json("pong")
}
