//! `/file`: uploads that cost nothing, and downloads by media token or by an owner.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use http::request::Parts;
use sluice_common::media_token::MediaToken;
use time::OffsetDateTime;

use super::{
    AppState, MediaJson, PathText, UploadForm, VariantParams, VariantQuery, content_type, declared_len, live, owned,
};
use crate::{
    auth::{self, Caller},
    cache::CachePolicy,
    db::{Media, Owner},
    download,
    error::{ApiError, check_declared_len},
    openapi::{Download, DownloadErrors, LoginErrors, MediaTokenErrors, ServerErrors, UploadErrors},
    state::App,
    upload::UploadOrder,
};

/// The uploads that cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeUpload {
    /// For who is given a media token.
    File,
    /// For everybody.
    Public,
    /// A picture for everybody who is logged in to write on.
    Template,
}

/// The file that a media token or, for who owns it, a muid names.
#[utoipa::path(
    get,
    path = "/file/{name}",
    params(("name" = String, Path, description = "A media token, or a muid"), VariantParams),
    responses(DownloadErrors, LoginErrors, MediaTokenErrors, ServerErrors, Download),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []), ("l402" = []))
)]
pub async fn get(
    State(app): AppState,
    PathText(name): PathText,
    VariantQuery(variant): VariantQuery,
    parts: Parts,
) -> Result<Response, ApiError> {
    let caller = Caller::of(&app, &parts).await?;
    let media = match name.contains('.') {
        true => by_media_token(&app, &name, &caller).await?,
        false => owned(&app, name.parse().map_err(|_| ApiError::NoSuchFile)?, &caller).await?,
    };
    download::respond(&app, &media, variant, CachePolicy::Private, &parts.method, &parts.headers).await
}

/// Stores a file for who is logged in.
#[utoipa::path(
    post,
    path = "/file",
    request_body(content = inline(UploadForm), content_type = "multipart/form-data"),
    responses((status = 200, body = MediaJson), UploadErrors, ServerErrors),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []))
)]
pub async fn post(State(app): AppState, request: Request) -> Result<Json<MediaJson>, ApiError> {
    store_free(&app, request, FreeUpload::File).await
}

/// The same, by another name.
#[utoipa::path(
    post,
    path = "/upload",
    request_body(content = inline(UploadForm), content_type = "multipart/form-data"),
    responses((status = 200, body = MediaJson), UploadErrors, ServerErrors),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []))
)]
pub async fn upload(app: AppState, request: Request) -> Result<Json<MediaJson>, ApiError> {
    post(app, request).await
}

/// Stores a file for who is logged in, within the limits of uploads that cost nothing.
pub async fn store_free(app: &Arc<App>, request: Request, kind: FreeUpload) -> Result<Json<MediaJson>, ApiError> {
    let (parts, body) = request.into_parts();
    let user = auth::writer(app, &parts)?.ok_or(ApiError::LoginRequired)?;
    if kind == FreeUpload::Template && app.template_uploaders.as_ref().is_some_and(|nodes| !nodes.contains(&user.key)) {
        return Err(ApiError::TemplatesNotAllowed);
    }
    let max_upload_bytes = app.free_uploads.max_upload_bytes();
    check_declared_len(declared_len(&parts.headers), max_upload_bytes)?;
    let order = UploadOrder {
        owner: Owner::node(&user.key),
        max_upload_bytes,
        paid: None,
        public: kind == FreeUpload::Public,
        template: kind == FreeUpload::Template,
    };
    let committed = app.uploads.receive(order, content_type(&parts.headers), body).await?;
    Ok(Json(committed.media.into()))
}

/// The checks of protocols.md §4, in their order.
async fn by_media_token(app: &App, text: &str, caller: &Caller) -> Result<Media, ApiError> {
    let user = caller.logged_in()?;
    let token = MediaToken::parse(text)?;
    if token.host() != app.host {
        return Err(ApiError::WrongHost);
    }
    let now = OffsetDateTime::now_utc();
    if token.is_expired_at(now.unix_timestamp()) {
        return Err(ApiError::MediaTokenExpired);
    }
    // The row is the signer's, else the caller's own.
    let signers = token.signers().into_iter().flatten().map(|key| Owner::node(&key));
    let may_give: Vec<Owner> = signers.chain(caller.owners()).collect();
    let media = app.db.media(token.muid(), &may_give, now).await?.ok_or(ApiError::NoSuchFile)?;
    if token.buyer().is_some_and(|buyer| buyer != user.key) {
        return Err(ApiError::WrongBuyer);
    }
    if may_give.contains(&media.owner) { live(media, now) } else { Err(ApiError::NotSignedByOwner) }
}
