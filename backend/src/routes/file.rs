//! `/file`: uploads that cost nothing, and downloads by media token or by an owner.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State},
    response::Response,
};
use http::request::Parts;
use sluice_common::media_token::MediaToken;
use time::OffsetDateTime;

use super::{AppState, MediaJson, content_type, declared_len, muid};
use crate::{
    auth::{self, Caller},
    cache::CachePolicy,
    db::{Media, Owner},
    download,
    error::{ApiError, check_declared_len},
    state::App,
    upload::UploadOrder,
};

/// The file that a media token or, for who owns it, a muid names.
pub async fn get(State(app): AppState, Path(name): Path<String>, parts: Parts) -> Result<Response, ApiError> {
    let caller = Caller::of(&app, &parts)?;
    let media = match name.contains('.') {
        true => by_media_token(&app, &name, &caller).await?,
        false => owned(&app, &name, &caller).await?,
    };
    download::respond(&app, &media, CachePolicy::Private, &parts.method, &parts.headers).await
}

/// Stores a file for who is logged in.
pub async fn post(State(app): AppState, request: Request) -> Result<Json<MediaJson>, ApiError> {
    store_free(&app, request, false).await
}

/// Stores a file for who is logged in, within the limits of uploads that cost nothing.
pub async fn store_free(app: &Arc<App>, request: Request, public: bool) -> Result<Json<MediaJson>, ApiError> {
    let (parts, body) = request.into_parts();
    let user = auth::writer(app, &parts)?.ok_or(ApiError::LoginRequired)?;
    let max_upload_bytes = app.free_uploads.max_upload_bytes();
    check_declared_len(declared_len(&parts.headers), max_upload_bytes)?;
    let order = UploadOrder { owner: Owner::node(&user.key), max_upload_bytes, paid: None, public };
    let media = app.uploads.receive(order, content_type(&parts.headers), body).await?;
    Ok(Json(media.into()))
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
    if may_give.contains(&media.owner) { Ok(media) } else { Err(ApiError::NotSignedByOwner) }
}

async fn owned(app: &App, path: &str, caller: &Caller) -> Result<Media, ApiError> {
    let owners = caller.owners();
    let media = app.db.media(muid(path)?, &owners, OffsetDateTime::now_utc()).await?;
    media.filter(|media| owners.contains(&media.owner)).ok_or(ApiError::NoSuchFile)
}
