//! `/public`: files that anybody may download.

use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, Method};
use time::OffsetDateTime;

use super::{
    AppState, MediaJson, PathMuid, UploadForm, VariantParams, VariantQuery,
    file::{FreeUpload, store_free},
    live,
};
use crate::{
    cache::CachePolicy,
    download,
    error::ApiError,
    openapi::{Download, DownloadErrors, ServerErrors, UploadErrors},
};

/// The file, if somebody has made it public. Of a private one it says what it says of none.
#[utoipa::path(
    get,
    path = "/public/{muid}",
    params(("muid" = String, Path), VariantParams),
    responses(Download, DownloadErrors, ServerErrors)
)]
pub async fn get(
    State(app): AppState,
    PathMuid(muid): PathMuid,
    VariantQuery(variant): VariantQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let now = OffsetDateTime::now_utc();
    let media = app.db.media(muid, &[], now).await?.filter(|media| media.public).ok_or(ApiError::NoSuchFile)?;
    let media = live(media, now)?;
    let cache = CachePolicy::public(media.expiry, now);
    download::respond(&app, &media, variant, cache, &method, &headers).await
}

/// Stores a file that anybody may download.
#[utoipa::path(
    post,
    path = "/public",
    request_body(content = inline(UploadForm), content_type = "multipart/form-data"),
    responses((status = 200, body = MediaJson), UploadErrors, ServerErrors),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []))
)]
pub async fn post(State(app): AppState, request: Request) -> Result<Json<MediaJson>, ApiError> {
    store_free(&app, request, FreeUpload::Public).await
}
