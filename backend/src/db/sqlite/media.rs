//! Which contents are stored, and what their owners say of them.

use std::{collections::HashSet, ops::RangeInclusive};

use sluice_common::muid::Muid;
use sqlx::{SqliteConnection, SqlitePool};
use time::OffsetDateTime;

use super::rows;
use crate::db::{
    CommitError, Content, DbError, FinishedUpload, Listing, Media, MediaChange, Owner, Page, Usage, Variant,
};

/// Parameters: muid, variant.
pub(super) const STORED: &str = "SELECT * FROM content WHERE muid = ? AND variant = ? AND state = 'stored'";

/// Parameters: muid, owners as JSON, now.
pub(super) const FIRST: &str = "\
SELECT media.* FROM media LEFT JOIN json_each(?2) AS preferred ON preferred.value = owner_pub_key
WHERE muid = ?1
ORDER BY preferred.key IS NULL, coalesce(expiry <= ?3, FALSE), preferred.key, public DESC, created, owner_pub_key
LIMIT 1";

/// Parameters: owner, now, limit; after: created, muid, owner.
pub(super) const OWNED: &str = "\
SELECT * FROM media
WHERE owner_pub_key = ?1 AND (expiry IS NULL OR expiry > ?2)
  AND (?4 IS NULL OR (created, muid, owner_pub_key) < (?4, ?5, ?6))
ORDER BY created DESC, muid DESC LIMIT ?3";

/// Parameters: now, limit; after: created, muid, owner.
pub(super) const TEMPLATES: &str = "\
SELECT * FROM media
WHERE template = 1 AND (expiry IS NULL OR expiry > ?1)
  AND (?3 IS NULL OR (created, muid, owner_pub_key) < (?3, ?4, ?5))
ORDER BY created DESC, muid DESC, owner_pub_key DESC LIMIT ?2";

/// Parameters: muid, now.
pub(super) const TEMPLATE: &str = "\
SELECT * FROM media WHERE muid = ?1 AND (template = 1 OR (width > 0 AND height > 0))
ORDER BY coalesce(expiry <= ?2, FALSE), template DESC, created, owner_pub_key LIMIT 1";

/// Parameters: muid, owner, now.
const DELETE_EXPIRED: &str = "DELETE FROM media WHERE muid = ? AND owner_pub_key = ? AND expiry <= ?";

/// Parameters: muid, owner.
const DELETE: &str = "DELETE FROM media WHERE muid = ? AND owner_pub_key = ?";

/// Parameter: muid.
const DISCARD_UNOWNED: &str = "\
UPDATE content SET state = 'discarded' WHERE muid = ?1 AND state = 'stored'
  AND NOT EXISTS (SELECT 1 FROM media WHERE media.muid = ?1)";

/// Parameters: now, limit.
pub(super) const EXPIRED: &str = "SELECT muid, owner_pub_key FROM media WHERE expiry <= ? ORDER BY expiry LIMIT ?";

/// Parameters: muid, owner, now. A price below 0 earns nothing and costs nothing, as in PostgreSQL.
const PURCHASE: &str = "\
UPDATE media SET total_buys = total_buys + 1,
  total_sats = CASE WHEN total_sats > 9223372036854775807 - max(price, 0) THEN 9223372036854775807
    ELSE total_sats + max(price, 0) END
WHERE muid = ? AND owner_pub_key = ? AND (expiry IS NULL OR expiry > ?) RETURNING *";

const CHANGE: &str = "\
UPDATE media SET name = coalesce(?4, name), description = coalesce(?5, description), price = coalesce(?6, price),
  tags = coalesce(?7, tags), ttl = coalesce(?8, ttl), public = coalesce(?9, public), updated = ?3
WHERE muid = ?1 AND owner_pub_key = ?2 AND (expiry IS NULL OR expiry > ?3) RETURNING *";

/// Parameter: owner.
pub(super) const USAGE: &str = "\
SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes FROM media WHERE owner_pub_key = ?";

/// Parameters: owner, least size, greatest size.
pub(super) const OWNS_OF_SIZE: &str = "SELECT 1 FROM media WHERE owner_pub_key = ? AND size BETWEEN ? AND ? LIMIT 1";

/// Parameters: muid, owner.
const OWNS: &str = "SELECT 1 FROM media WHERE muid = ? AND owner_pub_key = ?";

/// Only what the owner says of it: since when it is there and what it earned stay.
const SAVE: &str = "\
INSERT INTO media (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created, updated,
  expiry, public, template, width, height)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12, ?13, ?14, ?15, ?16)
ON CONFLICT (muid, owner_pub_key) DO UPDATE SET
  name = excluded.name, description = excluded.description, price = excluded.price, tags = excluded.tags,
  ttl = excluded.ttl, filename = excluded.filename, mime = excluded.mime, updated = excluded.updated,
  expiry = excluded.expiry, public = excluded.public, template = max(template, excluded.template),
  width = coalesce(excluded.width, width), height = coalesce(excluded.height, height)
RETURNING *";

pub(super) async fn stored(
    db: &mut SqliteConnection,
    muid: Muid,
    variant: Variant,
) -> Result<Option<Content>, DbError> {
    let row = sqlx::query(STORED).bind(muid.to_string()).bind(variant.name()).fetch_optional(db).await?;
    row.as_ref().map(rows::content).transpose()
}

pub(super) async fn first(
    db: &mut SqliteConnection,
    muid: Muid,
    preferred: &[Owner],
    now: OffsetDateTime,
) -> Result<Option<Media>, DbError> {
    let query = sqlx::query(FIRST).bind(muid.to_string()).bind(rows::json(preferred)?).bind(rows::micros(now));
    query.fetch_optional(db).await?.as_ref().map(rows::media).transpose()
}

/// One query for each owner: each can read its rows in their order from an index.
pub(super) async fn owned(
    tx: &mut SqliteConnection,
    owners: &[Owner],
    page: &Page,
    now: OffsetDateTime,
) -> Result<Listing, DbError> {
    let after = page.after.as_ref();
    let mut media = vec![];
    for owner in owners.iter().collect::<HashSet<_>>() {
        let rows = sqlx::query(OWNED)
            .bind(owner.as_str())
            .bind(rows::micros(now))
            .bind(rows::one_more(page.limit))
            .bind(after.map(|after| after.created_micros))
            .bind(after.map(|after| after.muid.to_string()))
            .bind(after.map(|after| after.owner.as_str()))
            .fetch_all(&mut *tx)
            .await?;
        for row in &rows {
            media.push(rows::media(row)?);
        }
    }
    Ok(Listing::newest(media, page.limit))
}

pub(super) async fn templates(db: &mut SqliteConnection, page: &Page, now: OffsetDateTime) -> Result<Listing, DbError> {
    let after = page.after.as_ref();
    let rows = sqlx::query(TEMPLATES)
        .bind(rows::micros(now))
        .bind(rows::one_more(page.limit))
        .bind(after.map(|after| after.created_micros))
        .bind(after.map(|after| after.muid.to_string()))
        .bind(after.map(|after| after.owner.as_str()))
        .fetch_all(db)
        .await?;
    Ok(Listing::newest(rows.iter().map(rows::media).collect::<Result<_, _>>()?, page.limit))
}

pub(super) async fn template(
    db: &mut SqliteConnection,
    muid: Muid,
    now: OffsetDateTime,
) -> Result<Option<Media>, DbError> {
    let query = sqlx::query(TEMPLATE).bind(muid.to_string()).bind(rows::micros(now));
    query.fetch_optional(db).await?.as_ref().map(rows::media).transpose()
}

pub(super) async fn purchase(
    db: &SqlitePool,
    muid: Muid,
    owner: &Owner,
    now: OffsetDateTime,
) -> Result<Option<Media>, DbError> {
    let query = sqlx::query(PURCHASE).bind(muid.to_string()).bind(owner.as_str()).bind(rows::micros(now));
    query.fetch_optional(db).await?.as_ref().map(rows::media).transpose()
}

pub(super) async fn change(
    db: &SqlitePool,
    muid: Muid,
    owner: &Owner,
    change: &MediaChange,
    now: OffsetDateTime,
) -> Result<Option<Media>, DbError> {
    let row = sqlx::query(CHANGE)
        .bind(muid.to_string())
        .bind(owner.as_str())
        .bind(rows::micros(now))
        .bind(&change.name)
        .bind(&change.description)
        .bind(change.price_sat)
        .bind(change.tags.as_deref().map(rows::json).transpose()?)
        .bind(change.ttl_secs)
        .bind(change.public)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(rows::media).transpose()
}

/// Deletes the owner's row of a content, and discards the content, with the pictures of it, if that was the last one.
pub(super) async fn delete(tx: &mut SqliteConnection, muid: &str, owner: &str) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query(DELETE).bind(muid).bind(owner).execute(&mut *tx).await?.rows_affected() > 0;
    if deleted {
        sqlx::query(DISCARD_UNOWNED).bind(muid).execute(tx).await?;
    }
    Ok(deleted)
}

pub(super) async fn any_expired(db: &mut SqliteConnection, now: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let first: Option<(String, String)> =
        sqlx::query_as(EXPIRED).bind(rows::micros(now)).bind(1).fetch_optional(db).await?;
    Ok(first.is_some())
}

/// Deletes rows whose time has come, at most `limit`. Says how many.
pub(super) async fn expire(tx: &mut SqliteConnection, now: OffsetDateTime, limit: u32) -> Result<u64, sqlx::Error> {
    let expired: Vec<(String, String)> =
        sqlx::query_as(EXPIRED).bind(rows::micros(now)).bind(limit).fetch_all(&mut *tx).await?;
    for (muid, owner) in &expired {
        delete(tx, muid, owner).await?;
    }
    Ok(expired.len() as u64)
}

pub(super) async fn usage(db: &mut SqliteConnection, owner: &Owner) -> Result<Usage, DbError> {
    let row = sqlx::query(USAGE).bind(owner.as_str()).fetch_one(db).await?;
    Ok(Usage { files: rows::unsigned(&row, "files")?, bytes: rows::unsigned(&row, "bytes")? })
}

pub(super) async fn owns_of_size(
    db: &mut SqliteConnection,
    owner: &Owner,
    sizes: &RangeInclusive<u64>,
) -> Result<bool, DbError> {
    let integer = |size| rows::integer(size).unwrap_or(i64::MAX);
    let query =
        sqlx::query(OWNS_OF_SIZE).bind(owner.as_str()).bind(integer(*sizes.start())).bind(integer(*sizes.end()));
    Ok(query.fetch_optional(db).await?.is_some())
}

/// Whether the upload's owner may have its content: what the owner has already counts once.
pub(super) async fn check_quota(tx: &mut SqliteConnection, upload: &FinishedUpload) -> Result<(), CommitError> {
    if !upload.quota.is_limited() {
        return Ok(());
    }
    let owner = &upload.media.owner;
    let owns = sqlx::query(OWNS).bind(upload.muid.to_string()).bind(owner.as_str()).fetch_optional(&mut *tx).await?;
    if owns.is_some() {
        return Ok(());
    }
    Ok(upload.quota.check(usage(tx, owner).await?, upload.size)?)
}

/// Forgets what an owner said of a content that is to be deleted by now: it is as good as gone.
pub(super) async fn delete_expired(
    tx: &mut SqliteConnection,
    muid: Muid,
    owner: &Owner,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(DELETE_EXPIRED).bind(muid.to_string()).bind(owner.as_str()).bind(rows::micros(now));
    query.execute(tx).await?;
    Ok(())
}

/// Makes the owner's row of a content, or brings it up to date.
pub(super) async fn save(
    tx: &mut SqliteConnection,
    upload: &FinishedUpload,
    now: OffsetDateTime,
) -> Result<Media, DbError> {
    let media = &upload.media;
    let row = sqlx::query(SAVE)
        .bind(upload.muid.to_string())
        .bind(media.owner.as_str())
        .bind(&media.name)
        .bind(&media.description)
        .bind(media.price_sat)
        .bind(rows::json(&media.tags)?)
        .bind(media.ttl_secs)
        .bind(&media.filename)
        .bind(&media.mime)
        .bind(rows::integer(upload.size)?)
        .bind(rows::micros(now))
        .bind(media.expiry.map(rows::micros))
        .bind(media.public)
        .bind(media.template)
        .bind(media.dimensions.map(|(width, _)| width))
        .bind(media.dimensions.map(|(_, height)| height))
        .fetch_one(tx)
        .await?;
    rows::media(&row)
}
