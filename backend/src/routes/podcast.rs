//! `GET /podcast`: the latest episode of a podcast.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::AppState;
use crate::{
    error::ApiError,
    openapi::{Problem, ServerErrors},
    podcast::{Episode, PodcastError},
};

/// Which feed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Feed {
    /// Its address.
    #[param(max_length = 2048, pattern = "^https?://")]
    url: String,
}

/// What the Podcast Index knows of the feed's latest episode.
#[utoipa::path(
    get,
    path = "/podcast",
    params(Feed),
    responses(
        (status = 200, body = Object, description = "the episode as the Podcast Index has it"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_query`"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "`no_such_episode`, `podcasts_not_configured`"),
        (status = 502, body = Problem, content_type = "application/problem+json", description = "`podcast_index_unavailable`"),
        ServerErrors,
    )
)]
pub async fn get(State(app): AppState, feed: Result<Query<Feed>, QueryRejection>) -> Result<Json<Episode>, ApiError> {
    let Query(Feed { url }) = feed.map_err(|_| PodcastError::InvalidUrl)?;
    Ok(Json(app.podcasts.latest_episode(&url).await?))
}
