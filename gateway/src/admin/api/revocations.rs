//! `/v1/revocations`: what is revoked.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sluice_common::{clock::unix_now, revocation::Revoked};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, ApiError, ProblemJson,
    error::{BadQuery, Common},
    params::{Params, Time, written},
};
use crate::ledger::{Revocation, RevokeOrder};

/// How many a page has, if it is not said, and at most.
const LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

/// The longest reason, in characters.
const MAX_REASON_CHARS: usize = 500;

/// A revocation: of a payment's tokens, or of all that were minted before a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevocationJson {
    /// Of this payment's tokens, in hex; or null.
    pub payment_hash: Option<String>,
    /// Of all tokens minted before this time; or null.
    pub minted_before: Option<String>,
    /// Since when.
    pub revoked_at: String,
    /// Until when; null: it is in effect.
    pub undone_at: Option<String>,
    /// Why, for people.
    pub reason: String,
}

/// A part of the revocations, the last changed first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RevocationPage {
    /// The revocations, also those that are undone.
    pub revocations: Vec<RevocationJson>,
    /// The `after` of the next part; null: this is the last one.
    pub next: Option<String>,
}

/// What is to be revoked: either a payment's tokens, or all before a time.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    /// All tokens of this payment, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_hash: Option<String>,
    /// All tokens that were minted before this time, which has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minted_before: Option<String>,
    /// Why, for people: at most 500 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "its fields are only described")]
struct ListParams {
    /// How many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Where to go on: the `next` of the part before.
    after: Option<String>,
}

/// What is revoked, and was.
#[utoipa::path(
    get,
    path = "/v1/revocations",
    params(ListParams),
    responses((status = 200, body = RevocationPage), BadQuery, Common),
    security(("token" = []))
)]
pub(super) async fn list(State(api): State<Arc<Api>>, params: Params) -> Result<Json<RevocationPage>, ApiError> {
    params.only(&["limit", "after"])?;
    let limit = params.limit(MAX_LIMIT, LIMIT)?;
    let before = params.parse("after", "the `next` of the part before")?;
    let revocations = api.ledger.revocations(before, limit + 1).await?;
    let is_last = revocations.len() <= limit as usize;
    let shown = &revocations[..revocations.len().min(limit as usize)];
    let next = shown.last().filter(|_| !is_last).map(|last| last.change.to_string());
    Ok(Json(RevocationPage { revocations: shown.iter().map(RevocationJson::from).collect(), next }))
}

/// Revokes: within 2 s on every gateway and media server of this ledger. A second time changes only the reason.
#[utoipa::path(
    post,
    path = "/v1/revocations",
    request_body = RevokeBody,
    responses(
        (status = 200, body = RevocationJson),
        (status = 422, body = ProblemJson, content_type = "application/problem+json", description = "`invalid_revocation`"),
        BadQuery,
        Common,
    ),
    security(("token" = []))
)]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    body: Result<Json<RevokeBody>, JsonRejection>,
) -> Result<Json<RevocationJson>, ApiError> {
    let Json(body) = body.map_err(|rejection| match rejection.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::InvalidBody("expected content-type: application/json".to_owned())
        }
        _ => ApiError::InvalidBody(
            "expected an object with `payment_hash` or `minted_before`, and perhaps a `reason`, all of them text"
                .to_owned(),
        ),
    })?;
    let order = order(body, unix_now())?;
    api.ledger.revoke(&order).await?;
    tracing::warn!(revoked = %order.revoked, "revoked by the admin API");
    let revocation = api.ledger.revocation(order.revoked).await?.ok_or(ApiError::NotRevoked)?;
    Ok(Json((&revocation).into()))
}

/// Ends a revocation: what it was of is good again within 2 s.
#[utoipa::path(
    delete,
    path = "/v1/revocations/{revoked}",
    params(("revoked" = String, Path, description = "The `payment_hash`, or the `minted_before`")),
    responses(
        (status = 200, body = RevocationJson),
        (status = 404, body = ProblemJson, content_type = "application/problem+json", description = "`not_revoked`"),
        BadQuery,
        Common,
    ),
    security(("token" = []))
)]
pub(super) async fn undo(
    State(api): State<Arc<Api>>,
    Path(revoked): Path<String>,
) -> Result<Json<RevocationJson>, ApiError> {
    let revoked: Revoked = revoked.parse().map_err(|_| ApiError::InvalidPath)?;
    if !api.ledger.undo_revocation(revoked, unix_now()).await? {
        return Err(ApiError::NotRevoked);
    }
    tracing::warn!(%revoked, "a revocation was undone by the admin API");
    let revocation = api.ledger.revocation(revoked).await?.ok_or(ApiError::NotRevoked)?;
    Ok(Json((&revocation).into()))
}

fn order(body: RevokeBody, now: u64) -> Result<RevokeOrder, ApiError> {
    let time = |text: &str| text.parse().map(|Time(secs)| secs).ok();
    let revoked = match (body.payment_hash.as_deref(), body.minted_before.as_deref()) {
        (Some(hash), None) => Revoked::Payment(
            hash.parse().map_err(|_| ApiError::Unprocessable("`payment_hash` must be 64 hexadecimal digits"))?,
        ),
        (None, Some(text)) => Revoked::MintedBefore(
            time(text).ok_or(ApiError::Unprocessable("`minted_before` must be a time as 2026-01-31T12:00:00Z"))?,
        ),
        _ => return Err(ApiError::Unprocessable("say either `payment_hash` or `minted_before`")),
    };
    if matches!(revoked, Revoked::MintedBefore(before) if before > now) {
        return Err(ApiError::Unprocessable(
            "`minted_before` is still to come: until then tokens would be sold that are worth nothing",
        ));
    }
    if body.reason.chars().count() > MAX_REASON_CHARS || body.reason.chars().any(char::is_control) {
        return Err(ApiError::Unprocessable("`reason` must be one line of at most 500 characters"));
    }
    Ok(RevokeOrder { revoked, reason: body.reason, now })
}

impl From<&Revocation> for RevocationJson {
    fn from(revocation: &Revocation) -> Self {
        let text = Some(revocation.revoked.to_string());
        let (payment_hash, minted_before) = match revocation.revoked {
            Revoked::Payment(_) => (text, None),
            Revoked::MintedBefore(_) => (None, text),
        };
        Self {
            payment_hash,
            minted_before,
            revoked_at: written(revocation.revoked_at),
            undone_at: revocation.undone_at.map(written),
            reason: revocation.reason.clone(),
        }
    }
}
