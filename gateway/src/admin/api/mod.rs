//! The admin API, `/v1/…` on the admin address: what is sold, what was paid, what is revoked. For programs and for
//! `sluice admin`. Everything in it needs the admin token.

mod error;
mod info;
mod params;
mod payments;
mod revocations;
mod stats;
mod token;
mod tokens;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use sluice_common::{clock::unix_now, network::Network};
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::error::{ApiError, Bearer};
pub use self::{
    error::ProblemJson,
    info::{Info, KeyInfo, NodeInfo, ServiceInfo, Services},
    payments::{BoughtJson, PaymentJson, PaymentPage},
    revocations::{RevocationJson, RevocationPage, RevokeBody},
    stats::{DayJson, Stats, SumJson},
    token::AdminToken,
    tokens::TokenInfo,
};
use crate::{config::GatewayConfig, ledger::LedgerDb, lightning::NodeHealth};

/// The largest request body.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// What the admin API speaks of.
pub struct Api {
    token: AdminToken,
    ledger: Arc<dyn LedgerDb>,
    node: watch::Receiver<NodeHealth>,
    has_wallet: bool,
    network: Network,
    started: Instant,
    started_at: u64,
    /// None before it is known.
    selling: RwLock<Option<Arc<Selling>>>,
}

/// What a configuration sells.
struct Selling {
    services: Vec<ServiceInfo>,
    keys: Vec<(String, u64, bool)>,
}

impl Api {
    /// An API for who has `token`.
    pub fn new(
        token: AdminToken,
        ledger: Arc<dyn LedgerDb>,
        node: watch::Receiver<NodeHealth>,
        has_wallet: bool,
        network: Network,
    ) -> Self {
        let (started, started_at) = (Instant::now(), unix_now());
        Self { token, ledger, node, has_wallet, network, started, started_at, selling: RwLock::default() }
    }

    /// From now on the gateway has this configuration.
    pub fn configured(&self, config: &GatewayConfig) {
        let keys = config.master_keys.iter().map(|key| (key.fingerprint(), key.mints_from(), key.is_retired()));
        let selling = Selling { services: config.services.iter().map(ServiceInfo::of).collect(), keys: keys.collect() };
        *self.selling.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(selling));
    }

    fn selling(&self) -> Result<Arc<Selling>, ApiError> {
        let selling = self.selling.read().unwrap_or_else(PoisonError::into_inner);
        selling.clone().ok_or(ApiError::NotReady)
    }
}

/// What stands in the OpenAPI document beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(title = "Sluice gateway: admin API", description = "What is sold, what was paid and what is revoked (docs/API.md)."),
    components(schemas(ProblemJson)),
    modifiers(&Bearer)
)]
struct ApiDocument;

/// The document, as it is sent.
#[derive(Clone)]
struct Document(Bytes);

fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(info::info))
        .routes(routes!(info::services))
        .routes(routes!(payments::list))
        .routes(routes!(tokens::get))
        .routes(routes!(revocations::list, revocations::revoke))
        .routes(routes!(revocations::undo))
        .routes(routes!(stats::get))
        .routes(routes!(document))
}

/// All routes, for who has the token.
pub(super) fn router(api: Arc<Api>) -> Router {
    let (routes, document) = routes().split_for_parts();
    // Texts and lists always serialise.
    let document = Document(document.to_json().unwrap_or_default().into());
    routes
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(Extension(document))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&api), authorize))
        .with_state(api)
}

async fn authorize(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match bearer {
        Some(token) if api.token.is(token) => next.run(request).await,
        _ => ApiError::Unauthorized.into_response(),
    }
}

/// This very document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, body = Object), error::Common), security(("token" = [])))]
async fn document(Extension(Document(document)): Extension<Document>) -> Response {
    ([(CONTENT_TYPE, "application/json")], document).into_response()
}

#[cfg(test)]
mod tests;
