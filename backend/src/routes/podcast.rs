//! `GET /podcast`: the latest episode of a podcast.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::Deserialize;

use super::AppState;
use crate::{
    error::ApiError,
    podcast::{Episode, PodcastError},
};

/// Which feed.
#[derive(Debug, Deserialize)]
pub struct Feed {
    url: String,
}

/// What the Podcast Index knows of the feed's latest episode.
pub async fn get(State(app): AppState, feed: Result<Query<Feed>, QueryRejection>) -> Result<Json<Episode>, ApiError> {
    let Query(Feed { url }) = feed.map_err(|_| PodcastError::InvalidUrl)?;
    Ok(Json(app.podcasts.latest_episode(&url).await?))
}
