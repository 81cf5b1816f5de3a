//! The admin address: health, metrics, the embedded wallet's purse, and the admin API. It is not for the public: it listens
//! on loopback by default, and no web page may use it (no CORS, and see `refuse_web_pages`; the API needs a token).

pub mod api;

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Request, State, rejection::JsonRejection},
    middleware::{Next, from_fn, map_response},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HOST},
    uri::Authority,
};
use serde::{Deserialize, Serialize};
use sluice_common::problem::{self, Problem};
use tokio::sync::watch;

use self::api::Api;
use crate::{
    lightning::{NodeHealth, PayError, TestWallet},
    metrics::{self, Metrics},
};

/// The largest request body. An invoice has at most 7,089 characters.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What the admin address speaks of.
#[derive(Clone)]
pub struct Admin {
    /// Whether everything that was to be started serves; false until then.
    pub ready: watch::Receiver<bool>,
    /// How the Lightning node is.
    pub node: watch::Receiver<NodeHealth>,
    /// The embedded wallet, where that is what takes payment.
    pub wallet: Option<Arc<TestWallet>>,
    /// What the gateway counts.
    pub metrics: Arc<Metrics>,
    /// The admin API; none: there is none.
    pub api: Option<Arc<Api>>,
}

/// All routes of the admin address. Errors are problem+json, and nothing is to be cached.
///
/// - `GET /healthz`: 200 `{"status":"ok"}` when ready, 503 before; 200 `{"status":"degraded","reason":"…"}` when new
///   tokens cannot be sold, or might not be, for the Lightning node is not well. Paid tokens go on working then, so no
///   load balancer is to send requests elsewhere.
/// - `GET /metrics`: 200 with what the gateway counted since it started, in the text form of OpenMetrics.
/// - `POST /wallet/pay` `{"invoice":"lnbcrt…"}`: 200 `{"preimage":"<hex>"}`; 422 with a code that says why it is not
///   paid; 404 without an embedded wallet.
/// - `/v1/…`: the admin API, for who has its token.
pub fn router(admin: Admin) -> Router {
    let pay = post(pay).layer::<_, Infallible>(from_fn(refuse_web_pages));
    let api = admin.api.clone().map_or_else(Router::new, api::router);
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/wallet/pay", pay)
        .fallback(async || respond(&Problem::new(StatusCode::NOT_FOUND, "not_found")))
        .method_not_allowed_fallback(async || {
            respond(&Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"))
        })
        .with_state(admin)
        .merge(api)
        .layer(from_fn(read_first))
        .layer(map_response(forbid_caching))
}

async fn healthz(State(admin): State<Admin>) -> Response {
    if *admin.ready.borrow() {
        let health = match &*admin.node.borrow() {
            NodeHealth::Ok => Health { status: "ok", reason: None },
            NodeHealth::Degraded(reason) => Health { status: "degraded", reason: Some(reason.clone()) },
        };
        return Json(health).into_response();
    }
    respond(
        &Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready").detail("not every part runs: it starts or stops"),
    )
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

async fn metrics(State(admin): State<Admin>) -> Response {
    admin.metrics.node(*admin.node.borrow() == NodeHealth::Ok);
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], admin.metrics.render()).into_response()
}

async fn pay(State(admin): State<Admin>, order: Result<Json<PayOrder>, JsonRejection>) -> Response {
    let Some(wallet) = admin.wallet else {
        return respond(
            &Problem::new(StatusCode::NOT_FOUND, "no_wallet")
                .detail("payment is taken by a real Lightning node: pay with a wallet of your own"),
        );
    };
    let order = match order {
        Ok(Json(order)) => order,
        Err(rejection) => return respond(&unreadable(&rejection)),
    };
    match wallet.pay(&order.invoice, SystemTime::now()).await {
        Ok(preimage) => Json(Paid { preimage: preimage.expose_hex() }).into_response(),
        Err(error) => respond(&unpaid(&error)),
    }
}

#[derive(Deserialize)]
struct PayOrder {
    invoice: String,
}

#[derive(Serialize)]
struct Paid {
    preimage: String,
}

/// What is wrong with a body that is no [`PayOrder`]. It says nothing of what the body held.
fn unreadable(rejection: &JsonRejection) -> Problem {
    match rejection.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
                .detail("expected content-type: application/json")
        }
        _ => Problem::new(StatusCode::BAD_REQUEST, "invalid_body").detail(r#"expected {"invoice": "lnbcrt…"}"#),
    }
}

fn unpaid(error: &PayError) -> Problem {
    let code = match error {
        PayError::NotAnInvoice => "not_an_invoice",
        PayError::OtherNetwork => "other_network",
        PayError::NoAmount => "no_amount",
        PayError::NotOurs => "not_ours",
        PayError::Expired => "invoice_expired",
        PayError::Database(cause) => {
            tracing::error!(%cause, "the test wallet's database failed");
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal").detail("the wallet's database failed");
        }
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code).detail(error.to_string())
}

/// Refuses a request that reaches this address by a name that is not its own. A web page can make a browser send such
/// (DNS rebinding: the page's own name is made to point here), and could then read the answer. A request to `localhost`
/// or an IP address is another origin's to the page, so that the browser asks before it sends JSON, and gets no leave.
async fn refuse_web_pages(request: Request, next: Next) -> Response {
    let host = request.uri().authority().cloned().or_else(|| {
        let host = request.headers().get(HOST)?;
        Authority::try_from(host.as_bytes()).ok()
    });
    if host.is_some_and(|host| is_own_name(host.host())) {
        return next.run(request).await;
    }
    respond(
        &Problem::new(StatusCode::FORBIDDEN, "host_not_allowed")
            .detail("the wallet is reached by an IP address or as `localhost` only"),
    )
}

fn is_own_name(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// Reads a body before anybody answers. Where nobody reads it, a stream of HTTP/2 is reset, and its client may see that in
/// the place of the answer.
async fn read_first(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => next.run(Request::from_parts(head, body.into())).await,
        // Who broke off does not hear it.
        Err(_) => respond(
            &Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")
                .detail("the request body is too large")
                .with("limit_bytes", MAX_BODY_BYTES),
        ),
    }
}

async fn forbid_caching(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn respond(problem: &Problem) -> Response {
    (problem.status(), [(CONTENT_TYPE, problem::CONTENT_TYPE)], problem.to_json()).into_response()
}

#[cfg(test)]
mod tests;
