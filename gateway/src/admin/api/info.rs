//! `GET /v1/info` and `GET /v1/services`: what this gateway is, and what it sells.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use sluice_common::clock::unix_now;
use utoipa::ToSchema;

use super::{Api, ApiError, error::Common, params::written};
use crate::{
    config::{Price, Rule, ServiceConfig},
    lightning::NodeHealth,
};

/// What this gateway is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: String,
    /// For how long it has been running, in seconds.
    pub uptime_secs: u64,
    /// The network that it is paid on.
    pub network: String,
    /// Its Lightning node.
    pub node: NodeInfo,
    /// Its master keys.
    pub keys: Vec<KeyInfo>,
    /// All tokens minted before this time are revoked; null: there is no such time.
    pub revoked_before: Option<String>,
}

/// How a Lightning node is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// `wallet`, the embedded one, or `lnd`.
    pub kind: String,
    /// `ok` or `degraded`: new tokens cannot be sold, or might not be.
    pub status: String,
    /// Why it is degraded.
    pub reason: Option<String>,
}

/// A master key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    /// Tells it from others and says nothing of it: 16 hexadecimal digits.
    pub fingerprint: String,
    /// From when on it makes tokens; null: from always.
    pub mints_from: Option<String>,
    /// Whether it makes tokens now.
    pub is_minting: bool,
    /// Whether it has leaked: it makes none, and its tokens need their payment in the ledger.
    pub is_retired: bool,
}

/// All services, in the order in which they are matched.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Services {
    /// The services.
    pub services: Vec<ServiceInfo>,
}

/// A service.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ServiceInfo {
    /// Its name.
    pub name: String,
    /// Its hosts; empty: any.
    pub hosts: Vec<String>,
    /// Its paths; empty: any.
    pub paths: Vec<String>,
    /// Its methods; empty: any.
    pub methods: Vec<String>,
    /// What costs; null: all that is not free.
    pub protect: Option<Vec<String>>,
    /// What is free; null: all that is not protected.
    pub free: Option<Vec<String>>,
    /// What needs a token and is sold none.
    pub auth_only: Vec<String>,
    /// What a token costs, for people.
    pub price: String,
    /// The largest file, in bytes.
    pub max_upload_bytes: u64,
    /// How many uploads a token stores; null: any number.
    pub max_uses: Option<u64>,
    /// How long a token is good for, in seconds; null: for ever.
    pub valid_for_secs: Option<u64>,
    /// What a token is able to.
    pub capabilities: Vec<String>,
    /// Whether the server behind sees the token.
    pub forward_credential: bool,
    /// Whether it only says what it would do, and lets everything through.
    pub dry_run: bool,
    /// The servers behind.
    pub upstream: Vec<String>,
}

/// What this gateway is: version, node, network, keys.
#[utoipa::path(get, path = "/v1/info", responses((status = 200, body = Info), Common), security(("token" = [])))]
pub(super) async fn info(State(api): State<Arc<Api>>) -> Result<Json<Info>, ApiError> {
    let selling = api.selling()?;
    let revoked_before = api.ledger.revoked_before().await?;
    let (status, reason) = match &*api.node.borrow() {
        NodeHealth::Ok => ("ok", None),
        NodeHealth::Degraded(reason) => ("degraded", Some(reason.clone())),
    };
    let now = unix_now();
    let mints = |(_, from, retired): &&(String, u64, bool)| !retired && *from <= now;
    let minting = selling.keys.iter().filter(mints).max_by_key(|(_, from, _)| *from).map(|(key, ..)| key.clone());
    let key = |(fingerprint, mints_from, retired): &(String, u64, bool)| KeyInfo {
        fingerprint: fingerprint.clone(),
        mints_from: (*mints_from > 0).then(|| written(*mints_from)),
        is_minting: minting.as_ref() == Some(fingerprint),
        is_retired: *retired,
    };
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: written(api.started_at),
        uptime_secs: api.started.elapsed().as_secs(),
        network: api.network.to_string(),
        node: NodeInfo {
            kind: if api.has_wallet { "wallet" } else { "lnd" }.to_owned(),
            status: status.to_owned(),
            reason,
        },
        keys: selling.keys.iter().map(key).collect(),
        revoked_before: revoked_before.map(written),
    }))
}

/// What is sold.
#[utoipa::path(get, path = "/v1/services", responses((status = 200, body = Services), Common), security(("token" = [])))]
pub(super) async fn services(State(api): State<Arc<Api>>) -> Result<Json<Services>, ApiError> {
    Ok(Json(Services { services: api.selling()?.services.clone() }))
}

impl ServiceInfo {
    pub(super) fn of(service: &ServiceConfig) -> Self {
        fn texts<T: ToString>(all: &[T]) -> Vec<String> {
            all.iter().map(T::to_string).collect()
        }
        let offer = &service.offer;
        let (protect, free) = match &offer.access.rule {
            Rule::Protect(protect) => (Some(texts(protect)), None),
            Rule::Free(free) => (None, Some(texts(free))),
        };
        Self {
            name: offer.terms.name.clone(),
            hosts: texts(&offer.scope.hosts),
            paths: texts(&offer.scope.paths),
            methods: texts(&offer.scope.methods),
            protect,
            free,
            auth_only: texts(&offer.access.auth_only),
            price: price(&offer.price),
            max_upload_bytes: offer.terms.max_upload_bytes(),
            max_uses: offer.terms.max_uses,
            valid_for_secs: offer.terms.valid_for_secs,
            capabilities: offer.terms.capabilities.clone(),
            forward_credential: offer.forward_credential,
            dry_run: offer.dry_run,
            upstream: service.upstream.addresses.iter().map(|at| format!("{}:{}", at.host, at.port)).collect(),
        }
    }
}

/// A price as people say it. Not where a pricer is: a key may stand in its URL.
fn price(price: &Price) -> String {
    match price {
        Price::Flat(sat) => format!("{sat} sat"),
        Price::PerMib { per_mib_sat, minimum_sat } => format!("{per_mib_sat} sat a MiB, at least {minimum_sat} sat"),
        Price::Steps(steps) => {
            let step = |step: &crate::config::Step| match step.up_to_mib {
                Some(mib) => format!("{} sat up to {mib} MiB", step.price_sat),
                None => format!("{} sat", step.price_sat),
            };
            steps.iter().map(step).collect::<Vec<_>>().join(", ")
        }
        Price::External(_) => "as a pricer says".to_owned(),
    }
}
