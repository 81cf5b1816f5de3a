//! `GET /mymedia`: what the caller has stored.

use axum::{
    Json,
    extract::{Path, State},
};
use http::request::Parts;
use time::OffsetDateTime;

use super::{AppState, MediaJson, muid};
use crate::{auth::Caller, db::Page, error::ApiError};

/// All files of the caller, newest first.
pub async fn list(State(app): AppState, parts: Parts) -> Result<Json<Vec<MediaJson>>, ApiError> {
    let owners = Caller::of(&app, &parts)?.owners();
    let listing = app.db.owned(&owners, &Page::default(), OffsetDateTime::now_utc()).await?;
    Ok(Json(listing.media.into_iter().map(MediaJson::from).collect()))
}

/// One file of the caller, with what it earned.
pub async fn get(State(app): AppState, Path(path): Path<String>, parts: Parts) -> Result<Json<MediaJson>, ApiError> {
    let owners = Caller::of(&app, &parts)?.owners();
    let media = app.db.media(muid(&path)?, &owners, OffsetDateTime::now_utc()).await?;
    let media = media.filter(|media| owners.contains(&media.owner)).ok_or(ApiError::NoSuchFile)?;
    Ok(Json(media.into()))
}
