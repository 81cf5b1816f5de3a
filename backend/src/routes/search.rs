//! `GET /search/{term}`: what is public, or for sale.

use axum::{Json, extract::State, response::Response};
use time::OffsetDateTime;

use super::{AppState, MediaJson, PageParams, PageQuery, PathText};
use crate::{
    error::ApiError,
    openapi::{Problem, ServerErrors},
};

/// How many are found where the query does not say.
const LIMIT: u32 = 12;

/// A search for nothing: `[]`.
#[utoipa::path(
    get,
    path = "/search/",
    responses((status = 200, body = Vec<MediaJson>))
)]
pub async fn none() -> Json<[MediaJson; 0]> {
    Json([])
}

/// Public media and media for sale that the term finds, best first, without what they earned.
#[utoipa::path(
    get,
    path = "/search/{*term}",
    params(("term" = String, Path, description = "Any text: words, `\"words in quotes\"`, `-word`, `or`"), PageParams),
    responses(
        (status = 200, body = Vec<MediaJson>, headers(("Link" = String, description = "`rel=\"next\"`: more of it"))),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_query`, `invalid_path`"),
        ServerErrors,
    )
)]
pub async fn get(State(app): AppState, PathText(term): PathText, query: PageQuery) -> Result<Response, ApiError> {
    let query = query.or_limit(LIMIT);
    let listing = app.db.search(&term, &query.page, OffsetDateTime::now_utc()).await?;
    Ok(query.answer(listing, |media| MediaJson::from(media).without_stats()))
}
