//! All routes.

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::get,
};
use http::header::CACHE_CONTROL;
use sluice_common::request_id::RequestId;
use tracing::Instrument;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    cache::CachePolicy,
    config::BackendConfig,
    error::ApiError,
    openapi::ApiDocument,
    routes::{
        ask, file, largefile, media, mymedia,
        openapi::{self, Document},
        ping, podcast, public, purchase, search, template, verify,
    },
    state::{App, drains},
    upload::drain::drain_unread,
};

/// The largest form that is no upload, in bytes.
const MAX_FORM_BYTES: usize = 16 * 1_024;

/// All routes, and the OpenAPI document of them. HEAD works wherever GET does.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(ask::get))
        .routes(routes!(verify::post))
        .routes(routes!(search::none))
        .routes(routes!(search::get))
        .routes(routes!(file::post))
        .routes(routes!(file::upload))
        .routes(routes!(file::get))
        .routes(routes!(public::post))
        .routes(routes!(public::get))
        .routes(routes!(template::post))
        .routes(routes!(template::get))
        .routes(routes!(template::list))
        .routes(routes!(largefile::get, largefile::post))
        .routes(routes!(media::get))
        .routes(routes!(mymedia::list))
        .routes(routes!(mymedia::get, mymedia::put, mymedia::delete))
        .routes(routes!(purchase::put))
        .routes(routes!(podcast::get))
        .routes(routes!(ping::get))
        .routes(routes!(openapi::get))
}

/// The whole server.
pub fn router(app: Arc<App>) -> Router {
    let drains = app.drains.clone();
    let (routes, mut document) = routes().split_for_parts();
    document.paths.paths = document.paths.paths.into_iter().map(|(path, item)| (as_described(&path), item)).collect();
    routes
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        // Of extractors that collect a body; uploads are streamed and counted.
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(Extension(Document::new(&document)))
        .layer(from_fn_with_state(drains, drain_unread))
        .layer(from_fn(finish))
        .with_state(app)
}

/// A path as OpenAPI has it: it knows no parameter of several segments. A term may hold slashes, which a proxy may have
/// decoded.
fn as_described(path: &str) -> String {
    path.replace("{*", "{")
}

/// What answers while the database was not reached yet.
pub fn waiting(config: &BackendConfig) -> Router {
    Router::new()
        .route("/ping", get(ping::get))
        .fallback(async || ApiError::Waiting)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(from_fn_with_state(drains(&config.terms, config.free_uploads), drain_unread))
        .layer(from_fn(finish))
}

/// Logs the request by its route alone, with its id: paths hold media tokens, queries logins. What says nothing of caches is kept by
/// none: answers are for their caller.
async fn finish(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let request_id = RequestId::from_headers(request.headers()).unwrap_or_else(RequestId::random);
    let started = Instant::now();
    // In all lines of what serves it.
    let span = tracing::info_span!("request", %request_id);
    let mut response = next.run(request).instrument(span.clone()).await;
    let _entered = span.entered();
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
