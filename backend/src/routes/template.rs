//! `/templates` and `/template`: pictures for everybody who is logged in to write on.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use http::request::Parts;
use time::OffsetDateTime;

use super::{
    AppState, MediaJson, PageParams, PageQuery, PathMuid, UploadForm, VariantParams, VariantQuery,
    file::{FreeUpload, store_free},
    live,
};
use crate::{
    auth::Caller,
    cache::CachePolicy,
    download,
    error::ApiError,
    openapi::{Download, DownloadErrors, LoginErrors, Problem, ServerErrors, UploadErrors},
};

/// All templates, newest first.
#[utoipa::path(
    get,
    path = "/templates",
    params(PageParams),
    responses(
        (status = 200, body = Vec<MediaJson>, headers(("Link" = String, description = "`rel=\"next\"`: more of it"))),
        LoginErrors,
        ServerErrors,
    ),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []), ("l402" = []))
)]
pub async fn list(State(app): AppState, query: PageQuery, parts: Parts) -> Result<Response, ApiError> {
    Caller::of(&app, &parts).await?;
    let now = OffsetDateTime::now_utc();
    let read = move |page| {
        let db = Arc::clone(&app.db);
        async move { db.templates(&page, now).await }
    };
    query.list(read, |media| MediaJson::from(media).without_stats()).await
}

/// The file of a template.
#[utoipa::path(
    get,
    path = "/template/{muid}",
    params(("muid" = String, Path), VariantParams),
    responses(DownloadErrors, LoginErrors, ServerErrors, Download),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []), ("l402" = []))
)]
pub async fn get(
    State(app): AppState,
    PathMuid(muid): PathMuid,
    VariantQuery(variant): VariantQuery,
    parts: Parts,
) -> Result<Response, ApiError> {
    Caller::of(&app, &parts).await?;
    let now = OffsetDateTime::now_utc();
    let media = live(app.db.template(muid, now).await?.ok_or(ApiError::NoSuchFile)?, now)?;
    download::respond(&app, &media, variant, CachePolicy::Private, &parts.method, &parts.headers).await
}

/// Stores a template: a picture, which is measured.
#[utoipa::path(
    post,
    path = "/template",
    request_body(content = inline(UploadForm), content_type = "multipart/form-data"),
    responses(
        (status = 200, body = MediaJson),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "`templates_not_allowed`"),
        UploadErrors,
        ServerErrors,
    ),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []))
)]
pub async fn post(State(app): AppState, request: Request) -> Result<Json<MediaJson>, ApiError> {
    store_free(&app, request, FreeUpload::Template).await
}
