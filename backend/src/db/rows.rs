//! Between rows of either database and the rest of the server's types.

use sluice_common::muid::Muid;
use sqlx::{ColumnIndex, Decode, Row, Type};

use super::{Content, ContentId, DbError, DiscardedCopy, KeyUse, Sealing};
use crate::store::{StoreKey, StoreKind};

/// A number as both databases store it, up to 2^63 - 1.
pub(super) fn integer(number: u64) -> Result<i64, sqlx::Error> {
    i64::try_from(number).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A row whose columns can be read in the types that both databases have alike.
pub(super) trait Columns {
    fn text(&self, column: &'static str) -> Result<String, sqlx::Error>;
    fn number(&self, column: &'static str) -> Result<i64, sqlx::Error>;
    fn flag(&self, column: &'static str) -> Result<bool, sqlx::Error>;
}

impl<R> Columns for R
where
    R: Row,
    &'static str: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> bool: Decode<'r, R::Database> + Type<R::Database>,
{
    fn text(&self, column: &'static str) -> Result<String, sqlx::Error> {
        self.try_get(column)
    }

    fn number(&self, column: &'static str) -> Result<i64, sqlx::Error> {
        self.try_get(column)
    }

    fn flag(&self, column: &'static str) -> Result<bool, sqlx::Error> {
        self.try_get(column)
    }
}

pub(super) fn key_use(row: &impl Columns) -> Result<KeyUse, DbError> {
    Ok(KeyUse { name: row.text("name")?, fingerprint: row.text("fingerprint")? })
}

/// A row of `content` that is stored, and no legacy one.
pub(super) fn content(row: &impl Columns) -> Result<Content, DbError> {
    Ok(Content {
        id: id(row)?,
        muid: muid(row)?,
        store: StoreKind::from_name(&row.text("store")?).ok_or(DbError::Row("store"))?,
        store_key: store_key(row)?,
        sealing: sealing(row)?,
        size: unsigned(row, "size")?,
    })
}

pub(super) fn discarded_copy(row: &impl Columns) -> Result<DiscardedCopy, DbError> {
    Ok(DiscardedCopy { id: id(row)?, store_key: store_key(row)? })
}

/// How the copy of a row of `content` is sealed, if it is.
pub(super) fn sealing(row: &impl Columns) -> Result<Option<Sealing>, DbError> {
    if !row.flag("sealed")? {
        return Ok(None);
    }
    let mut nonce = [0; 32];
    hex::decode_to_slice(row.text("nonce")?, &mut nonce).map_err(|_| DbError::Row("nonce"))?;
    Ok(Some(Sealing { nonce, key_fingerprint: row.text("key_fingerprint")? }))
}

pub(super) fn unsigned(row: &impl Columns, column: &'static str) -> Result<u64, DbError> {
    u64::try_from(row.number(column)?).map_err(|_| DbError::Row(column))
}

pub(super) fn id(row: &impl Columns) -> Result<ContentId, DbError> {
    Ok(ContentId(row.number("id")?))
}

pub(super) fn muid(row: &impl Columns) -> Result<Muid, DbError> {
    row.text("muid")?.parse().map_err(|_| DbError::Row("muid"))
}

pub(super) fn store_key(row: &impl Columns) -> Result<StoreKey, DbError> {
    row.text("store_key")?.parse().map_err(|_| DbError::Row("store_key"))
}
