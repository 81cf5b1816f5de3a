//! Between SQLite's rows and the rest of the server's types.

use sluice_common::muid::Muid;
use sqlx::{Row, sqlite::SqliteRow};
use time::OffsetDateTime;

pub(super) use crate::db::micros;
use crate::{
    db::{Content, ContentId, DbError, DiscardedCopy, KeyUse, Media, Owner, Sealing, StoredUpload, from_micros},
    store::{StoreKey, StoreKind},
};

/// A number as SQLite stores it, up to 2^63 - 1.
pub(super) fn integer(number: u64) -> Result<i64, sqlx::Error> {
    i64::try_from(number).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A list as JSON, how lists are stored and bound.
pub(super) fn json<T: serde::Serialize>(list: &[T]) -> Result<String, sqlx::Error> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(error.into()))
}

pub(super) fn key_use(row: &SqliteRow) -> Result<KeyUse, DbError> {
    Ok(KeyUse { name: row.try_get("name")?, fingerprint: row.try_get("fingerprint")? })
}

/// A row of `content` whose state is stored.
pub(super) fn content(row: &SqliteRow) -> Result<Content, DbError> {
    Ok(Content {
        id: ContentId(row.try_get("id")?),
        muid: muid(row)?,
        store: store(row)?,
        store_key: store_key(row)?,
        sealing: sealing(row)?,
        size: unsigned(row, "size")?,
    })
}

pub(super) fn discarded_copy(row: &SqliteRow) -> Result<DiscardedCopy, DbError> {
    Ok(DiscardedCopy { id: ContentId(row.try_get("id")?), store_key: store_key(row)? })
}

pub(super) fn media(row: &SqliteRow) -> Result<Media, DbError> {
    let tags: String = row.try_get("tags")?;
    Ok(Media {
        muid: muid(row)?,
        owner: Owner::from_text(row.try_get("owner_pub_key")?),
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        price_sat: row.try_get("price")?,
        tags: serde_json::from_str(&tags).map_err(|_| DbError::Row("tags"))?,
        ttl_secs: row.try_get("ttl")?,
        filename: row.try_get("filename")?,
        mime: row.try_get("mime")?,
        size: unsigned(row, "size")?,
        created: time(row.try_get("created")?)?,
        updated: time(row.try_get("updated")?)?,
        expiry: row.try_get::<Option<i64>, _>("expiry")?.map(time).transpose()?,
        total_sats: row.try_get("total_sats")?,
        total_buys: row.try_get("total_buys")?,
        width: row.try_get("width")?,
        height: row.try_get("height")?,
        template: row.try_get("template")?,
        public: row.try_get("public")?,
    })
}

/// A row of `paid_upload` that is spent.
pub(super) fn stored_upload(row: &SqliteRow) -> Result<StoredUpload, DbError> {
    Ok(StoredUpload { muid: muid(row)?, size: unsigned(row, "size")?, stored_at: time(row.try_get("stored_at")?)? })
}

pub(super) fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, DbError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| DbError::Row(column))
}

fn muid(row: &SqliteRow) -> Result<Muid, DbError> {
    row.try_get::<String, _>("muid")?.parse().map_err(|_| DbError::Row("muid"))
}

fn store(row: &SqliteRow) -> Result<StoreKind, DbError> {
    StoreKind::from_name(row.try_get("store")?).ok_or(DbError::Row("store"))
}

fn store_key(row: &SqliteRow) -> Result<StoreKey, DbError> {
    row.try_get::<String, _>("store_key")?.parse().map_err(|_| DbError::Row("store_key"))
}

/// How the copy of a row of `content` is sealed, if it is.
pub(super) fn sealing(row: &SqliteRow) -> Result<Option<Sealing>, DbError> {
    if !row.try_get::<bool, _>("sealed")? {
        return Ok(None);
    }
    let mut nonce = [0; 32];
    hex::decode_to_slice(row.try_get::<String, _>("nonce")?, &mut nonce).map_err(|_| DbError::Row("nonce"))?;
    Ok(Some(Sealing { nonce, key_fingerprint: row.try_get("key_fingerprint")? }))
}

pub(super) fn time_or_none(row: &SqliteRow, column: &'static str) -> Result<Option<OffsetDateTime>, DbError> {
    row.try_get::<Option<i64>, _>(column)?.map(time).transpose()
}

fn time(micros: i64) -> Result<OffsetDateTime, DbError> {
    from_micros(micros).ok_or(DbError::Row("a time"))
}

/// How many rows to ask for, to see whether there are more than `limit`.
pub(super) fn one_more(limit: Option<u32>) -> i64 {
    limit.map_or(i64::MAX, |limit| i64::from(limit) + 1)
}
