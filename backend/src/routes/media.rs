//! `GET /media/{muid}`: what a file is.

use axum::{Json, extract::State};
use http::request::Parts;
use time::OffsetDateTime;

use super::{AppState, KnownMediaJson, MediaJson, PathMuid, live};
use crate::{
    auth::Caller,
    error::ApiError,
    openapi::{FileErrors, LoginErrors, ServerErrors},
};

/// All of a file but its stats; of somebody else's private file only what a download needs.
#[utoipa::path(
    get,
    path = "/media/{muid}",
    params(("muid" = String, Path)),
    responses((status = 200, body = KnownMediaJson), FileErrors, LoginErrors, ServerErrors),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []), ("l402" = []))
)]
pub async fn get(
    State(app): AppState,
    PathMuid(muid): PathMuid,
    parts: Parts,
) -> Result<Json<KnownMediaJson>, ApiError> {
    let (owners, now) = (Caller::of(&app, &parts).await?.owners(), OffsetDateTime::now_utc());
    let media = live(app.db.media(muid, &owners, now).await?.ok_or(ApiError::NoSuchFile)?, now)?;
    let may_know_all = media.public || owners.contains(&media.owner);
    Ok(Json(match may_know_all {
        true => KnownMediaJson::All(MediaJson::from(media).without_stats()),
        false => KnownMediaJson::Strangers(media.into()),
    }))
}
