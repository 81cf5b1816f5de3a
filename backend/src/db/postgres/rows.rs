//! Between PostgreSQL's rows and the rest of the server's types.

use sluice_common::muid::Muid;
use sqlx::{Row, postgres::PgRow};

use crate::{
    db::{Content, ContentId, DbError, DiscardedCopy, KeyUse, LegacyCopy, Media, Owner, Sealing, StoredUpload},
    store::{StoreKey, StoreKind},
};

/// A number as PostgreSQL stores it, up to 2^63 - 1.
pub(super) fn integer(number: u64) -> Result<i64, sqlx::Error> {
    i64::try_from(number).map_err(|error| sqlx::Error::Encode(error.into()))
}

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

pub(super) fn key_use(row: &PgRow) -> Result<KeyUse, DbError> {
    Ok(KeyUse { name: row.try_get("name")?, fingerprint: row.try_get("fingerprint")? })
}

/// A row of `content` that is stored, and no legacy one.
pub(super) fn content(row: &PgRow) -> Result<Content, DbError> {
    Ok(Content {
        id: id(row)?,
        muid: muid(row)?,
        store: store(row)?,
        store_key: store_key(row)?,
        sealing: sealing(row)?,
        size: unsigned(row, "size")?,
    })
}

/// A row of `content` that is a legacy one.
pub(super) fn legacy_copy(row: &PgRow) -> Result<LegacyCopy, DbError> {
    Ok(LegacyCopy { id: id(row)?, muid: muid(row)?, store_key: store_key(row)?, nonce: row.try_get("nonce")? })
}

pub(super) fn discarded_copy(row: &PgRow) -> Result<DiscardedCopy, DbError> {
    Ok(DiscardedCopy { id: id(row)?, store_key: store_key(row)? })
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

pub(super) fn unsigned(row: &PgRow, column: &'static str) -> Result<u64, DbError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| DbError::Row(column))
}

/// How the copy of a row of `content` is sealed, if it is.
pub(super) fn sealing(row: &PgRow) -> Result<Option<Sealing>, DbError> {
    if !row.try_get::<bool, _>("sealed")? {
        return Ok(None);
    }
    let mut nonce = [0; 32];
    hex::decode_to_slice(row.try_get::<String, _>("nonce")?, &mut nonce).map_err(|_| DbError::Row("nonce"))?;
    Ok(Some(Sealing { nonce, key_fingerprint: row.try_get("key_fingerprint")? }))
}

fn id(row: &PgRow) -> Result<ContentId, DbError> {
    Ok(ContentId(row.try_get("id")?))
}

fn muid(row: &PgRow) -> Result<Muid, DbError> {
    row.try_get::<String, _>("muid")?.parse().map_err(|_| DbError::Row("muid"))
}

fn store(row: &PgRow) -> Result<StoreKind, DbError> {
    StoreKind::from_name(row.try_get("store")?).ok_or(DbError::Row("store"))
}

fn store_key(row: &PgRow) -> Result<StoreKey, DbError> {
    row.try_get::<String, _>("store_key")?.parse().map_err(|_| DbError::Row("store_key"))
}
