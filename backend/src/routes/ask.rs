//! `GET /ask`: a challenge to sign.

use axum::{Json, extract::State};
use time::OffsetDateTime;

use super::AppState;
use crate::{login::Challenge, openapi::ServerErrors};

/// A new challenge, which may be answered within 10 seconds.
#[utoipa::path(get, path = "/ask", responses((status = 200, body = Challenge), ServerErrors))]
pub async fn get(State(app): AppState) -> Json<Challenge> {
    Json(app.challenges.ask(OffsetDateTime::now_utc()))
}
