//! What both databases are asked about revocations, in the words that both understand.

use sluice_common::revocation::Change;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{Revocation, revoked};

/// Locks the row to the end of the transaction: the next change waits.
pub(super) const NEXT_CHANGE: &str = "UPDATE revocation_change SET last_change = last_change + 1 RETURNING last_change";

pub(super) const LAST_CHANGE: &str = "SELECT last_change FROM revocation_change";

pub(super) const REVOKE_PAYMENT: &str =
    "INSERT INTO revocation (change, payment_hash, revoked_at, reason) VALUES ($1, $2, $3, $4)
     ON CONFLICT (payment_hash) DO UPDATE
     SET change = excluded.change, reason = excluded.reason, undone_at = NULL,
         revoked_at = CASE WHEN revocation.undone_at IS NULL THEN revocation.revoked_at ELSE excluded.revoked_at END";

pub(super) const REVOKE_DATE: &str =
    "INSERT INTO revocation (change, minted_before, revoked_at, reason) VALUES ($1, $2, $3, $4)
     ON CONFLICT (minted_before) DO UPDATE
     SET change = excluded.change, reason = excluded.reason, undone_at = NULL,
         revoked_at = CASE WHEN revocation.undone_at IS NULL THEN revocation.revoked_at ELSE excluded.revoked_at END";

pub(super) const UNDO: &str = "UPDATE revocation SET change = $1, undone_at = $2 WHERE (payment_hash = $3 OR minted_before = $4) AND undone_at IS NULL";

pub(super) const CHANGES: &str = "SELECT change, payment_hash, minted_before, undone_at FROM revocation
     WHERE change > $1 ORDER BY change LIMIT $2";

pub(super) const LIST: &str =
    "SELECT change, payment_hash, minted_before, revoked_at, undone_at, reason FROM revocation
     WHERE change < $1 ORDER BY change DESC LIMIT $2";

pub(super) const ONE: &str = "SELECT change, payment_hash, minted_before, revoked_at, undone_at, reason FROM revocation
     WHERE payment_hash = $1 OR minted_before = $2";

pub(super) const REVOKED_BEFORE: &str = "SELECT max(minted_before) FROM revocation WHERE undone_at IS NULL";

/// A row of [`CHANGES`].
pub(super) struct ChangeRow(pub Change);

impl<'r, R> FromRow<'r, R> for ChangeRow
where
    R: Row,
    &'static str: ColumnIndex<R>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self(Change {
            number: row.try_get::<i64, _>("change")?.cast_unsigned(),
            revoked: read(row)?,
            in_effect: row.try_get::<Option<i64>, _>("undone_at")?.is_none(),
        }))
    }
}

impl<'r, R> FromRow<'r, R> for Revocation
where
    R: Row,
    &'static str: ColumnIndex<R>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            change: row.try_get::<i64, _>("change")?.cast_unsigned(),
            revoked: read(row)?,
            revoked_at: row.try_get::<i64, _>("revoked_at")?.cast_unsigned(),
            undone_at: row.try_get::<Option<i64>, _>("undone_at")?.map(i64::cast_unsigned),
            reason: row.try_get("reason")?,
        })
    }
}

fn read<'r, R>(row: &'r R) -> Result<sluice_common::revocation::Revoked, sqlx::Error>
where
    R: Row,
    &'static str: ColumnIndex<R>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let neither = || sqlx::Error::ColumnDecode {
        index: "payment_hash".to_owned(),
        source: "neither a payment hash nor a time".into(),
    };
    revoked(row.try_get("payment_hash")?, row.try_get("minted_before")?).ok_or_else(neither)
}
