//! Between PostgreSQL's rows and the rest of the server's types.

use sqlx::{Row, postgres::PgRow};

pub(super) use crate::db::rows::{content, discarded_copy, integer, key_use, sealing, unsigned};
use crate::db::{
    DbError, LegacyCopy, Media, Owner, StoredUpload,
    rows::{id, muid, store_key},
};

/// A text as PostgreSQL takes it: without NUL.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The same of many.
pub(super) fn texts(texts: &[String]) -> Vec<String> {
    texts.iter().map(|one| text(one)).collect()
}

/// How many rows to ask for, to see whether there are more than `limit`. None: all.
pub(super) fn one_more(limit: Option<u32>) -> Option<i64> {
    limit.map(|limit| i64::from(limit) + 1)
}

/// How owners are bound.
pub(super) fn owners(owners: &[Owner]) -> Vec<String> {
    owners.iter().map(|owner| text(owner.as_str())).collect()
}

/// A row of `content` that is a legacy one.
pub(super) fn legacy_copy(row: &PgRow) -> Result<LegacyCopy, DbError> {
    Ok(LegacyCopy { id: id(row)?, muid: muid(row)?, store_key: store_key(row)?, nonce: row.try_get("nonce")? })
}

/// `legacy_public`: whether a row that does not say is public.
pub(super) fn media(row: &PgRow, legacy_public: bool) -> Result<Media, DbError> {
    Ok(Media {
        muid: muid(row)?,
        owner: Owner::from_text(row.try_get("owner_pub_key")?),
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        price_sat: row.try_get("price")?,
        tags: row.try_get("tags")?,
        ttl_secs: row.try_get("ttl")?,
        filename: row.try_get("filename")?,
        mime: row.try_get("mime")?,
        size: unsigned(row, "size")?,
        created: row.try_get("created")?,
        updated: row.try_get("updated")?,
        expiry: row.try_get("expiry")?,
        total_sats: row.try_get("total_sats")?,
        total_buys: row.try_get("total_buys")?,
        width: row.try_get("width")?,
        height: row.try_get("height")?,
        template: row.try_get("template")?,
        public: row.try_get::<Option<bool>, _>("public")?.unwrap_or(legacy_public),
    })
}

/// A row of `paid_upload` that is spent.
pub(super) fn stored_upload(row: &PgRow) -> Result<StoredUpload, DbError> {
    Ok(StoredUpload { muid: muid(row)?, size: unsigned(row, "size")?, stored_at: row.try_get("stored_at")? })
}
