//! `GET /media/{muid}`: what a file is.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use time::OffsetDateTime;

use super::{AppState, MediaJson, StrangersMediaJson, muid};
use crate::{auth::Caller, error::ApiError};

/// All of a file but its stats; of somebody else's private file only what a download needs.
pub async fn get(State(app): AppState, Path(path): Path<String>, parts: Parts) -> Result<Response, ApiError> {
    let owners = Caller::of(&app, &parts)?.owners();
    let media = app.db.media(muid(&path)?, &owners, OffsetDateTime::now_utc()).await?.ok_or(ApiError::NoSuchFile)?;
    if media.public || owners.contains(&media.owner) {
        Ok(Json(MediaJson::from(media).without_stats()).into_response())
    } else {
        Ok(Json(StrangersMediaJson::from(media)).into_response())
    }
}
