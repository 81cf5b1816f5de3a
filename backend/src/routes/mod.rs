//! The handlers, a file each, and the JSON that they answer.

pub mod ask;
mod change;
pub mod file;
pub mod largefile;
pub mod media;
pub mod mymedia;
pub mod openapi;
pub mod ping;
pub mod podcast;
pub mod public;
pub mod purchase;
pub mod search;
pub mod template;
pub mod verify;

mod forms;
mod listing;
mod media_json;
mod params;

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderMap, header::CONTENT_LENGTH, header::CONTENT_TYPE};
use sluice_common::muid::Muid;
use time::OffsetDateTime;

pub use self::media_json::{KnownMediaJson, MediaJson, StrangersMediaJson};
use self::{
    forms::{ChangeForm, UploadForm},
    params::{PageParams, PageQuery, PathMuid, PathText, VariantParams, VariantQuery},
};
use crate::{auth::Caller, db::Media, error::ApiError, state::App};

/// How handlers get at the [`App`].
type AppState = State<Arc<App>>;

/// The caller's own row of a file, if that is not over.
async fn owned(app: &App, muid: Muid, caller: &Caller) -> Result<Media, ApiError> {
    let (owners, now) = (caller.owners(), OffsetDateTime::now_utc());
    let media = app.db.media(muid, &owners, now).await?.filter(|media| owners.contains(&media.owner));
    live(media.ok_or(ApiError::NoSuchFile)?, now)
}

/// The row, unless it is over.
fn live(media: Media, now: OffsetDateTime) -> Result<Media, ApiError> {
    if media.is_expired(now) { Err(ApiError::FileExpired) } else { Ok(media) }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

/// The length that the headers declare for the body.
fn declared_len(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
