//! `/public`: files that anybody may download.

use axum::{
    Json,
    extract::{Path, Request, State},
    response::Response,
};
use http::{HeaderMap, Method};
use time::OffsetDateTime;

use super::{AppState, MediaJson, file, muid};
use crate::{cache::CachePolicy, download, error::ApiError};

/// The file, if somebody has made it public. Of a private one it says what it says of none.
pub async fn get(
    State(app): AppState,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let now = OffsetDateTime::now_utc();
    let media = app.db.media(muid(&path)?, &[], now).await?.filter(|media| media.public).ok_or(ApiError::NoSuchFile)?;
    let cache = CachePolicy::public(media.expiry, now);
    download::respond(&app, &media, cache, &method, &headers).await
}

/// Stores a file that anybody may download.
pub async fn post(State(app): AppState, request: Request) -> Result<Json<MediaJson>, ApiError> {
    file::store_free(&app, request, true).await
}
