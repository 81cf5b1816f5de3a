//! `PUT /purchase/{muid}`: an owner's node notes that somebody bought a file.

use axum::{Json, extract::State};
use http::request::Parts;
use serde::Serialize;
use sluice_common::muid::Muid;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{AppState, PathMuid, owned};
use crate::{
    auth::Caller,
    error::ApiError,
    openapi::{FileErrors, LoginErrors, ServerErrors},
};

/// What was sold.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sale {
    #[schema(value_type = String)]
    muid: Muid,
    /// In satoshi.
    price: i64,
    /// In seconds: how long the buyer's media token is to last.
    ttl: i64,
}

/// Counts one more buyer, who paid the price.
#[utoipa::path(
    put,
    path = "/purchase/{muid}",
    params(("muid" = String, Path)),
    responses((status = 200, body = Sale), FileErrors, LoginErrors, ServerErrors),
    security(("jwt" = []), ("jwt_query" = []), ("jwt_cookie" = []), ("l402" = []))
)]
pub async fn put(State(app): AppState, PathMuid(muid): PathMuid, parts: Parts) -> Result<Json<Sale>, ApiError> {
    let caller = Caller::writing(&app, &parts).await?;
    let owner = owned(&app, muid, &caller).await?.owner;
    let sold = app.db.purchase(muid, &owner, OffsetDateTime::now_utc()).await?.ok_or(ApiError::NoSuchFile)?;
    Ok(Json(Sale { muid: sold.muid, price: sold.price_sat, ttl: sold.ttl_secs }))
}
