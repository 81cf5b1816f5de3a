//! Uploads with a token that is used up, compared with what it stored.

use sluice_common::muid::Muid;
use sqlx::{PgConnection, Row};
use time::OffsetDateTime;

use super::{rows, uploads};
use crate::db::{
    Owner, PaidUse, RetryError, RetryId, retry,
    statements::{ALIKE, BEGIN_RETRY, COUNT_RETRIES, HAS_STORED, LEASE_RETRY},
};

/// Parameters: an hour ago, now. It waits for no row: who holds one forgets it, too, or ends it.
const FORGET: &str = "\
DELETE FROM paid_retry WHERE id IN (
  SELECT id FROM paid_retry WHERE begun_at <= $1 AND (lease_until IS NULL OR lease_until <= $2) FOR UPDATE SKIP LOCKED)";

pub(super) async fn begin(
    tx: &mut PgConnection,
    paid: &PaidUse,
    declared: Option<u64>,
    lease_until: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<RetryId, RetryError> {
    let (payment, credential) = (paid.payment_hash.to_string(), hex::encode(paid.credential_hash));
    uploads::lock_payment(tx, &payment).await?;
    let alike = sqlx::query(ALIKE).bind(&payment).bind(&credential);
    let alike = alike.bind(declared.map(retry::to_i64)).bind(retry::LIKENESS).fetch_one(&mut *tx).await?;
    let (stored, alike) = (rows::unsigned(&alike, "stored")?, rows::unsigned(&alike, "alike")?);
    let hour_ago = now - retry::WINDOW;
    sqlx::query(FORGET).bind(hour_ago).bind(now).execute(&mut *tx).await?;
    let count = sqlx::query(COUNT_RETRIES).bind(&payment).bind(&credential).bind(hour_ago).bind(now);
    let count = count.fetch_one(&mut *tx).await?;
    let (begun, running) = (rows::unsigned(&count, "begun")?, rows::unsigned(&count, "running")?);
    retry::check(stored, alike, begun, running, count.try_get("first")?, now)?;
    let id = sqlx::query_scalar(BEGIN_RETRY).bind(payment).bind(credential).bind(now).bind(lease_until);
    Ok(RetryId(id.fetch_one(tx).await?))
}

/// With none for a lease it has ended.
pub(super) async fn set_lease(
    tx: &mut PgConnection,
    retry: RetryId,
    lease_until: Option<OffsetDateTime>,
) -> Result<(), sqlx::Error> {
    sqlx::query(LEASE_RETRY).bind(retry.0).bind(lease_until).execute(tx).await.map(drop)
}

pub(super) async fn has_stored(
    tx: &mut PgConnection,
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
