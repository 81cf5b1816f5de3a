//! Uploads with a token that is used up, compared with what it stored.

use sluice_common::muid::Muid;
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::rows;
use crate::db::{
    Owner, PaidUse, RetryError, RetryId, retry,
    statements::{ALIKE, BEGIN_RETRY, COUNT_RETRIES, HAS_STORED, LEASE_RETRY},
};

/// Parameters: an hour ago, now.
const FORGET: &str = "DELETE FROM paid_retry WHERE begun_at <= $1 AND (lease_until IS NULL OR lease_until <= $2)";

pub(super) async fn begin(
    tx: &mut SqliteConnection,
    paid: &PaidUse,
    declared: Option<u64>,
    lease_until: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<RetryId, RetryError> {
    let (payment, credential) = (paid.payment_hash.to_string(), hex::encode(paid.credential_hash));
    let alike = sqlx::query(ALIKE).bind(&payment).bind(&credential);
    let alike = alike.bind(declared.map(retry::to_i64)).bind(retry::LIKENESS).fetch_one(&mut *tx).await?;
    let (stored, alike) = (rows::unsigned(&alike, "stored")?, rows::unsigned(&alike, "alike")?);
    let (hour_ago, at) = (rows::micros(now - retry::WINDOW), rows::micros(now));
    sqlx::query(FORGET).bind(hour_ago).bind(at).execute(&mut *tx).await?;
    let count = sqlx::query(COUNT_RETRIES).bind(&payment).bind(&credential).bind(hour_ago).bind(at);
    let count = count.fetch_one(&mut *tx).await?;
    let (begun, running) = (rows::unsigned(&count, "begun")?, rows::unsigned(&count, "running")?);
    retry::check(stored, alike, begun, running, rows::time_or_none(&count, "first")?, now)?;
    let lease_until = rows::micros(lease_until);
    let id = sqlx::query_scalar(BEGIN_RETRY).bind(payment).bind(credential).bind(at).bind(lease_until);
    Ok(RetryId(id.fetch_one(tx).await?))
}

/// With none for a lease it has ended.
pub(super) async fn set_lease(
    tx: &mut SqliteConnection,
    retry: RetryId,
    lease_until: Option<OffsetDateTime>,
) -> Result<(), sqlx::Error> {
    sqlx::query(LEASE_RETRY).bind(retry.0).bind(lease_until.map(rows::micros)).execute(tx).await.map(drop)
}

pub(super) async fn has_stored(
    tx: &mut SqliteConnection,
    paid: &PaidUse,
    muid: Muid,
    owner: &Owner,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(HAS_STORED)
        .bind(paid.payment_hash.to_string())
        .bind(hex::encode(paid.credential_hash))
        .bind(muid.to_string())
        .bind(owner.as_str())
        .fetch_one(tx)
        .await
}
