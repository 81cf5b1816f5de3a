//! `/mymedia`: what the caller has stored, to look at, change and delete.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use http::{StatusCode, request::Parts};
use time::OffsetDateTime;

use super::{AppState, ChangeForm, MediaJson, PageParams, PageQuery, PathMuid, change, owned};
use crate::{
    auth::Caller,
    error::ApiError,
    openapi::{FileErrors, LoginErrors, Problem, ServerErrors},
};

/// All files of the caller, newest first.
#[utoipa::path(
    get,
    path = "/mymedia",
    params(PageParams),
    responses(
        (status = 200, body = Vec<MediaJson>, headers(("Link" = String, description = "`rel=\"next\"`: more of it"))),
        LoginErrors,
        ServerErrors,
    ),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []), ("l402" = []))
)]
pub async fn list(State(app): AppState, query: PageQuery, parts: Parts) -> Result<Response, ApiError> {
    let owners = Caller::of(&app, &parts).await?.owners();
    let now = OffsetDateTime::now_utc();
    let read = move |page| {
        let (db, owners) = (Arc::clone(&app.db), owners.clone());
        async move { db.owned(&owners, &page, now).await }
    };
    query.list(read, MediaJson::from).await
}

/// One file of the caller, with what it earned.
#[utoipa::path(
    get,
    path = "/mymedia/{muid}",
    params(("muid" = String, Path)),
    responses((status = 200, body = MediaJson), FileErrors, LoginErrors, ServerErrors),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []), ("l402" = []))
)]
pub async fn get(State(app): AppState, PathMuid(muid): PathMuid, parts: Parts) -> Result<Json<MediaJson>, ApiError> {
    let caller = Caller::of(&app, &parts).await?;
    Ok(Json(owned(&app, muid, &caller).await?.into()))
}

/// Changes what the caller says of a file; what is not named stays.
#[utoipa::path(
    put,
    path = "/mymedia/{muid}",
    params(("muid" = String, Path)),
    request_body(content(
        (change::ChangeJson = "application/json"),
        (inline(ChangeForm) = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, body = MediaJson),
        (status = 413, body = Problem, content_type = "application/problem+json", description = "`body_too_large`"),
        (status = 415, body = Problem, content_type = "application/problem+json", description = "`unsupported_media_type`"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "`invalid_field`, `malformed_change`"),
        FileErrors,
        LoginErrors,
        ServerErrors,
    ),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []), ("l402" = []))
)]
pub async fn put(
    State(app): AppState,
    PathMuid(muid): PathMuid,
    request: Request,
) -> Result<Json<MediaJson>, ApiError> {
    let (parts, body) = request.into_parts();
    let caller = Caller::writing(&app, &parts).await?;
    let owner = owned(&app, muid, &caller).await?.owner;
    let change = change::read(&parts.headers, body).await?;
    let changed = app.db.change_media(muid, &owner, &change, OffsetDateTime::now_utc()).await?;
    Ok(Json(changed.ok_or(ApiError::NoSuchFile)?.into()))
}

/// Deletes a file of the caller. Its bytes go with the last owner's.
#[utoipa::path(
    delete,
    path = "/mymedia/{muid}",
    params(("muid" = String, Path)),
    responses((status = 204), FileErrors, LoginErrors, ServerErrors),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []), ("l402" = []))
)]
pub async fn delete(State(app): AppState, PathMuid(muid): PathMuid, parts: Parts) -> Result<StatusCode, ApiError> {
    let caller = Caller::writing(&app, &parts).await?;
    let owner = owned(&app, muid, &caller).await?.owner;
    if !app.db.delete_media(muid, &owner).await? {
        return Err(ApiError::NoSuchFile);
    }
    app.uploads.sweep_soon();
    Ok(StatusCode::NO_CONTENT)
}
