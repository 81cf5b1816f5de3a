//! `GET /v1/tokens/{payment_hash}`: what is known of the tokens of a payment.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use sluice_common::{
    l402::{PaymentHash, TokenId},
    revocation::Revoked,
};
use utoipa::ToSchema;

use super::{
    Api, ApiError, PaymentJson, ProblemJson, RevocationJson, Selling,
    error::{BadQuery, Common},
    params::written,
};

/// What is known of the tokens of a payment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// What it is known by, in hex.
    pub payment_hash: String,
    /// Its payment; null while the ledger does not have it.
    pub payment: Option<PaymentJson>,
    /// When it was minted; null while the ledger does not have it.
    pub minted_at: Option<String>,
    /// The fingerprint of the master key that minted it.
    pub key: Option<String>,
    /// Whether that key is retired: then it needs its payment settled in the ledger. Null: it is not configured.
    pub key_is_retired: Option<bool>,
    /// Whether it is worth nothing any more: by its payment, or by when it was minted.
    pub is_revoked: bool,
    /// The revocation of its payment, also where it is undone.
    pub revocation: Option<RevocationJson>,
    /// All tokens minted before this time are revoked; null: there is no such time.
    pub revoked_before: Option<String>,
}

/// What is known of the tokens of a payment.
#[utoipa::path(
    get,
    path = "/v1/tokens/{payment_hash}",
    params(("payment_hash" = String, Path, description = "64 hexadecimal digits")),
    responses(
        (status = 200, body = TokenInfo),
        (status = 404, body = ProblemJson, content_type = "application/problem+json", description = "`unknown_token`"),
        BadQuery,
        Common,
    ),
    security(("token" = []))
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Path(payment_hash): Path<String>,
) -> Result<Json<TokenInfo>, ApiError> {
    let payment_hash: PaymentHash = payment_hash.parse().map_err(|_| ApiError::InvalidPath)?;
    let payment = api.ledger.payment(payment_hash).await?;
    let revocation = api.ledger.revocation(Revoked::Payment(payment_hash)).await?;
    if payment.is_none() && revocation.is_none() {
        return Err(ApiError::UnknownToken);
    }
    let revoked_before = api.ledger.revoked_before().await?;
    let token_id = payment.as_ref().map(|payment| payment.token_id);
    let by_payment = revocation.as_ref().is_some_and(|revocation| revocation.undone_at.is_none());
    let by_time = token_id.zip(revoked_before).is_some_and(|(token_id, before)| token_id.minted_at() < before);
    let key = token_id.as_ref().map(|token_id| hex::encode(token_id.key_fingerprint()));
    let selling = key.as_ref().map(|_| api.selling()).transpose()?;
    Ok(Json(TokenInfo {
        payment_hash: payment_hash.to_string(),
        payment: payment.as_ref().map(PaymentJson::from),
        minted_at: token_id.as_ref().map(TokenId::minted_at).map(written),
        key_is_retired: selling.zip(key.as_deref()).and_then(|(selling, key)| selling.is_retired(key)),
        key,
        is_revoked: by_payment || by_time,
        revocation: revocation.as_ref().map(RevocationJson::from),
        revoked_before: revoked_before.map(written),
    }))
}

impl Selling {
    /// Whether the key with this fingerprint is retired; none if it is not configured.
    fn is_retired(&self, fingerprint: &str) -> Option<bool> {
        self.keys.iter().find(|(key, ..)| key == fingerprint).map(|(.., retired)| *retired)
    }
}
