//! Between SQLite's rows and the rest of the server's types.

use sqlx::{Row, sqlite::SqliteRow};
use time::OffsetDateTime;

use crate::db::{DbError, Media, Owner, StoredUpload, from_micros, rows::muid};
pub(super) use crate::db::{
    micros,
    rows::{content, discarded_copy, integer, key_use, sealing, unsigned},
};

/// A list as JSON, how lists are stored and bound.
pub(super) fn json<T: serde::Serialize>(list: &[T]) -> Result<String, sqlx::Error> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(error.into()))
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
