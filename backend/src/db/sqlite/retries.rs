//! Uploads with a token that is used up, compared with what it stored.

use sluice_common::muid::Muid;
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::rows;
use crate::db::{Owner, PaidUse, RETRY_WINDOW, RetryError, RetryId, retry};

/// Parameters: payment hash, credential hash, declared length. Counts what is stored, and what of it is of this length.
const ALIKE: &str = "\
SELECT count(*) AS stored,
  count(*) FILTER (WHERE ?3 IS NULL OR abs(?3 - coalesce(body_size, size)) <= ?4) AS alike
FROM paid_upload WHERE payment_hash = ?1 AND credential_hash = ?2 AND stored_at IS NOT NULL";

/// Parameters: payment hash, credential hash, now.
const COUNT: &str = "\
SELECT count(*) AS begun, count(*) FILTER (WHERE lease_until > ?3) AS running, min(begun_at) AS first
FROM paid_retry WHERE payment_hash = ?1 AND credential_hash = ?2";

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
    let old = "DELETE FROM paid_retry WHERE begun_at <= ?1 AND (lease_until IS NULL OR lease_until <= ?2)";
    sqlx::query(old).bind(rows::micros(now - RETRY_WINDOW)).bind(rows::micros(now)).execute(&mut *tx).await?;
    let count = sqlx::query(COUNT).bind(&payment).bind(&credential).bind(rows::micros(now)).fetch_one(&mut *tx).await?;
    let (begun, running) = (rows::unsigned(&count, "begun")?, rows::unsigned(&count, "running")?);
    retry::check(stored, alike, begun, running, rows::time_or_none(&count, "first")?, now)?;
    let insert = "INSERT INTO paid_retry (payment_hash, credential_hash, begun_at, lease_until) \
        VALUES (?1, ?2, ?3, ?4) RETURNING id";
    let id = sqlx::query_scalar(insert)
        .bind(payment)
        .bind(credential)
        .bind(rows::micros(now))
        .bind(rows::micros(lease_until));
    Ok(RetryId(id.fetch_one(tx).await?))
}

/// With none for a lease it has ended.
pub(super) async fn set_lease(
    tx: &mut SqliteConnection,
    retry: RetryId,
    lease_until: Option<OffsetDateTime>,
) -> Result<(), sqlx::Error> {
    let set = sqlx::query("UPDATE paid_retry SET lease_until = ?2 WHERE id = ?1")
        .bind(retry.0)
        .bind(lease_until.map(rows::micros));
    set.execute(tx).await.map(drop)
}

pub(super) async fn has_stored(
    tx: &mut SqliteConnection,
    paid: &PaidUse,
    muid: Muid,
    owner: &Owner,
) -> Result<bool, sqlx::Error> {
    const STORED: &str = "SELECT EXISTS (SELECT 1 FROM paid_upload WHERE payment_hash = ?1 AND credential_hash = ?2 \
        AND muid = ?3 AND owner_pub_key = ?4 AND stored_at IS NOT NULL)";
    sqlx::query_scalar(STORED)
        .bind(paid.payment_hash.to_string())
        .bind(hex::encode(paid.credential_hash))
        .bind(muid.to_string())
        .bind(owner.as_str())
        .fetch_one(tx)
        .await
}
