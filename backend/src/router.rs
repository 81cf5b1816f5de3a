//! All routes.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{get, post},
};
use http::header::CACHE_CONTROL;

use crate::{
    cache::CachePolicy,
    error::ApiError,
    routes::{ask, file, largefile, media, mymedia, ping, podcast, public, verify},
    state::App,
    upload::drain::drain_unread,
};

/// The largest form that is no upload, in bytes.
const MAX_FORM_BYTES: usize = 16 * 1_024;

/// All routes. HEAD works wherever GET does.
pub fn router(app: Arc<App>) -> Router {
    let drains = app.drains();
    Router::new()
        .route("/ask", get(ask::get))
        .route("/verify", post(verify::post))
        .route("/file", post(file::post))
        .route("/upload", post(file::post))
        .route("/file/{name}", get(file::get))
        .route("/public", post(public::post))
        .route("/public/{muid}", get(public::get))
        .route("/largefile", get(largefile::get).post(largefile::post))
        .route("/media/{muid}", get(media::get))
        .route("/mymedia", get(mymedia::list))
        .route("/mymedia/{muid}", get(mymedia::get))
        .route("/ping", get(ping::get))
        .route("/podcast", get(podcast::get))
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        // Of extractors that collect a body; uploads are streamed and counted.
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(from_fn_with_state(drains, drain_unread))
        .layer(from_fn(finish))
        .with_state(app)
}

/// Logs the request by its route alone: paths hold media tokens, queries logins. What says nothing of caches is kept by
/// none: answers are for their caller.
async fn finish(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let started = Instant::now();
    let mut response = next.run(request).await;
    response.headers_mut().entry(CACHE_CONTROL).or_insert_with(|| CachePolicy::Private.header());
    tracing::debug!(
        %method,
        route = route.as_ref().map_or("none", MatchedPath::as_str),
        status = response.status().as_u16(),
        elapsed_ms = started.elapsed().as_millis(),
        "answered"
    );
    response
}
