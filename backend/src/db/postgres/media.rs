//! Which contents are stored, and what their owners say of them.

use std::{collections::HashSet, ops::RangeInclusive};

use sluice_common::muid::Muid;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use super::{rows, uploads};
use crate::{
    db::{
        CommitError, Content, ContentId, Cursor, DbError, FinishedUpload, LegacyCopy, Listing, Media, MediaChange,
        Owner, Page, Sealing, Usage, Variant,
    },
    store::StoreKind,
};

/// What is read of `media`: all but its words.
macro_rules! columns {
    () => {
        "muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created, updated, expiry, \
            total_sats, total_buys, width, height, template, public"
    };
}
pub(super) use columns;

/// Parameters: muid, variant.
pub(super) const STORED: &str =
    "SELECT * FROM content WHERE muid = $1 AND variant = $2 AND state = 'stored' AND store <> 'legacy'";

/// Parameter: muid.
pub(super) const LEGACY: &str = "SELECT * FROM content WHERE muid = $1 AND state = 'stored' AND store = 'legacy'";

/// Parameters: content id, limit.
pub(super) const ALL_LEGACY: &str = "\
SELECT * FROM content WHERE state = 'stored' AND store = 'legacy' AND id > $1 ORDER BY id LIMIT $2";

/// Parameters: content id, store, whether sealed, nonce, key fingerprint, size. Another backend may have been faster, or
/// an upload may have replaced it. The nonce's text stays where the copy is not sealed.
const ADOPT: &str = "\
UPDATE content SET store = $2, sealed = $3, nonce = COALESCE($4, nonce), key_fingerprint = $5, size = $6
WHERE id = $1 AND state = 'stored' AND store = 'legacy' RETURNING muid";

/// Parameters: muid, owners, whether a row is public that does not say, now.
pub(super) const FIRST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM media WHERE muid = $1 \
    ORDER BY array_position($2, owner_pub_key) IS NULL, COALESCE(expiry <= $4, FALSE), \
        array_position($2, owner_pub_key), COALESCE(public, $3) DESC, created, owner_pub_key LIMIT 1"
);

/// Parameters: owner, now, limit; after: created, muid, owner.
pub(super) const OWNED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM media WHERE owner_pub_key = $1 AND (expiry IS NULL OR expiry > $2) \
    AND ($4::TIMESTAMPTZ IS NULL OR (created, muid, owner_pub_key) < ($4, $5, $6)) \
    ORDER BY created DESC, muid DESC LIMIT $3"
);

/// Parameters: now, limit; after: created, muid, owner.
pub(super) const TEMPLATES: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM media WHERE template AND (expiry IS NULL OR expiry > $1) \
    AND ($3::TIMESTAMPTZ IS NULL OR (created, muid, owner_pub_key) < ($3, $4, $5)) \
    ORDER BY created DESC, muid DESC, owner_pub_key DESC LIMIT $2"
);

/// Parameters: muid, now.
pub(super) const TEMPLATE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM media WHERE muid = $1 AND (template OR (width > 0 AND height > 0)) \
    ORDER BY COALESCE(expiry <= $2, FALSE), template DESC, created, owner_pub_key LIMIT 1"
);

/// Parameters: muid, owner, now.
const DELETE_EXPIRED: &str = "DELETE FROM media WHERE muid = $1 AND owner_pub_key = $2 AND expiry <= $3";

/// Parameters: muid, owner.
const DELETE: &str = "DELETE FROM media WHERE muid = $1 AND owner_pub_key = $2";

/// Parameter: muid.
const DISCARD_UNOWNED: &str = "\
UPDATE content SET state = 'discarded' WHERE muid = $1 AND state = 'stored'
  AND NOT EXISTS (SELECT 1 FROM media WHERE media.muid = $1)";

/// Parameters: now, limit.
pub(super) const EXPIRED: &str = "SELECT muid, owner_pub_key FROM media WHERE expiry <= $1 ORDER BY expiry LIMIT $2";

/// Parameters: muid, owner, now. A price below 0, which sphinx-meme took, earns nothing and costs nothing.
const PURCHASE: &str = concat!(
    "UPDATE media SET total_buys = total_buys + 1, total_sats = CASE \
        WHEN total_sats > 9223372036854775807 - GREATEST(price, 0) THEN 9223372036854775807 \
        ELSE total_sats + GREATEST(price, 0) END \
    WHERE muid = $1 AND owner_pub_key = $2 AND (expiry IS NULL OR expiry > $3) RETURNING ",
    columns!()
);

const CHANGE: &str = concat!(
    "UPDATE media SET name = COALESCE($4, name), description = COALESCE($5, description), \
        price = COALESCE($6, price), tags = COALESCE($7, tags), ttl = COALESCE($8, ttl), \
        public = COALESCE($9, public), updated = $3 \
    WHERE muid = $1 AND owner_pub_key = $2 AND (expiry IS NULL OR expiry > $3) RETURNING ",
    columns!()
);

/// Parameter: owner.
pub(super) const USAGE: &str = "\
SELECT count(*) AS files, COALESCE(sum(size), 0)::BIGINT AS bytes FROM media WHERE owner_pub_key = $1";

/// Parameters: owner, least size, greatest size.
pub(super) const OWNS_OF_SIZE: &str = "SELECT 1 FROM media WHERE owner_pub_key = $1 AND size BETWEEN $2 AND $3 LIMIT 1";

/// Parameters: muid, owner.
const OWNS: &str = "SELECT 1 FROM media WHERE muid = $1 AND owner_pub_key = $2";

/// Only what the owner says of it: since when it is there and what it earned stay.
const SAVE: &str = concat!(
    "INSERT INTO media (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created, \
        updated, expiry, public, template, width, height) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, $14, $15, $16) \
    ON CONFLICT (muid, owner_pub_key) DO UPDATE SET \
        name = excluded.name, description = excluded.description, price = excluded.price, tags = excluded.tags, \
        ttl = excluded.ttl, filename = excluded.filename, mime = excluded.mime, size = excluded.size, \
        updated = excluded.updated, expiry = excluded.expiry, public = excluded.public, \
        template = media.template OR excluded.template, width = COALESCE(excluded.width, media.width), \
        height = COALESCE(excluded.height, media.height) \
    RETURNING ",
    columns!()
);

pub(super) async fn stored(db: &mut PgConnection, muid: Muid, variant: Variant) -> Result<Option<Content>, DbError> {
    let row = sqlx::query(STORED).bind(muid.to_string()).bind(variant.name()).fetch_optional(db).await?;
    row.as_ref().map(rows::content).transpose()
}

pub(super) async fn legacy(db: &mut PgConnection, muid: Muid) -> Result<Option<LegacyCopy>, DbError> {
    let row = sqlx::query(LEGACY).bind(muid.to_string()).fetch_optional(db).await?;
    row.as_ref().map(rows::legacy_copy).transpose()
}

pub(super) async fn all_legacy(
    db: &mut PgConnection,
    after: Option<ContentId>,
    limit: u32,
) -> Result<Vec<LegacyCopy>, DbError> {
    // No row has the id 0.
    let after = after.map_or(0, |content| content.0);
    let rows = sqlx::query(ALL_LEGACY).bind(after).bind(i64::from(limit)).fetch_all(db).await?;
    rows.iter().map(rows::legacy_copy).collect()
}

pub(super) async fn adopt(
    tx: &mut PgConnection,
    copy: ContentId,
    store: StoreKind,
    sealing: Option<&Sealing>,
    size: u64,
) -> Result<(), DbError> {
    let size = rows::integer(size)?;
    let adopted: Option<String> = sqlx::query_scalar(ADOPT)
        .bind(copy.0)
        .bind(store.name())
        .bind(sealing.is_some())
        .bind(sealing.map(|sealing| hex::encode(sealing.nonce)))
        .bind(sealing.map(|sealing| &sealing.key_fingerprint))
        .bind(size)
        .fetch_optional(&mut *tx)
        .await?;
    // Where sphinx-meme said a size, it stays: its clients have seen it.
    if let Some(muid) = adopted {
        sqlx::query("UPDATE media SET size = $2 WHERE muid = $1 AND size = 0")
            .bind(muid)
            .bind(size)
            .execute(tx)
            .await?;
    }
    Ok(())
}

pub(super) async fn first(
    db: &mut PgConnection,
    muid: Muid,
    preferred: &[Owner],
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Option<Media>, DbError> {
    let query = sqlx::query(FIRST).bind(muid.to_string()).bind(rows::owners(preferred)).bind(legacy_public).bind(now);
    query.fetch_optional(db).await?.map(|row| rows::media(&row, legacy_public)).transpose()
}

/// One query for each owner: each can read its rows in their order from an index.
pub(super) async fn owned(
    tx: &mut PgConnection,
    owners: &[Owner],
    page: &Page,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Listing, DbError> {
    let after = page.after.as_ref();
    let mut media = vec![];
    for owner in owners.iter().collect::<HashSet<_>>() {
        let rows = sqlx::query(OWNED)
            .bind(rows::text(owner.as_str()))
            .bind(now)
            .bind(rows::one_more(page.limit))
            .bind(after.map(Cursor::created))
            .bind(after.map(|after| after.muid.to_string()))
            .bind(after.map(|after| after.owner.as_str()))
            .fetch_all(&mut *tx)
            .await?;
        for row in &rows {
            media.push(rows::media(row, legacy_public)?);
        }
    }
    Ok(Listing::newest(media, page.limit))
}

pub(super) async fn template(
    db: &mut PgConnection,
    muid: Muid,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Option<Media>, DbError> {
    let row = sqlx::query(TEMPLATE).bind(muid.to_string()).bind(now).fetch_optional(db).await?;
    row.map(|row| rows::media(&row, legacy_public)).transpose()
}

pub(super) async fn templates(
    db: &mut PgConnection,
    page: &Page,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Listing, DbError> {
    let after = page.after.as_ref();
    let rows = sqlx::query(TEMPLATES)
        .bind(now)
        .bind(rows::one_more(page.limit))
        .bind(after.map(Cursor::created))
        .bind(after.map(|after| after.muid.to_string()))
        .bind(after.map(|after| after.owner.as_str()))
        .fetch_all(db)
        .await?;
    let media = rows.iter().map(|row| rows::media(row, legacy_public)).collect::<Result<_, _>>()?;
    Ok(Listing::newest(media, page.limit))
}

pub(super) async fn purchase(
    db: &PgPool,
    muid: Muid,
    owner: &Owner,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Option<Media>, DbError> {
    let query = sqlx::query(PURCHASE).bind(muid.to_string()).bind(rows::text(owner.as_str())).bind(now);
    query.fetch_optional(db).await?.map(|row| rows::media(&row, legacy_public)).transpose()
}

pub(super) async fn change(
    db: &PgPool,
    muid: Muid,
    owner: &Owner,
    change: &MediaChange,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Option<Media>, DbError> {
    let row = sqlx::query(CHANGE)
        .bind(muid.to_string())
        .bind(rows::text(owner.as_str()))
        .bind(now)
        .bind(change.name.as_deref().map(rows::text))
        .bind(change.description.as_deref().map(rows::text))
        .bind(change.price_sat)
        .bind(change.tags.as_deref().map(rows::texts))
        .bind(change.ttl_secs)
        .bind(change.public)
        .fetch_optional(db)
        .await?;
    row.map(|row| rows::media(&row, legacy_public)).transpose()
}

/// Deletes the owner's row of a content, and discards the content, with the pictures of it, if that was the last one.
/// With `expired_at`, only if the row is expired then.
pub(super) async fn delete(
    tx: &mut PgConnection,
    muid: &str,
    owner: &str,
    expired_at: Option<OffsetDateTime>,
) -> Result<bool, sqlx::Error> {
    uploads::lock_content(tx, muid).await?;
    let deleting = match expired_at {
        None => sqlx::query(DELETE).bind(muid).bind(rows::text(owner)),
        Some(now) => sqlx::query(DELETE_EXPIRED).bind(muid).bind(rows::text(owner)).bind(now),
    };
    let deleted = deleting.execute(&mut *tx).await?.rows_affected() > 0;
    if deleted {
        sqlx::query(DISCARD_UNOWNED).bind(muid).execute(tx).await?;
    }
    Ok(deleted)
}

/// At most `limit` rows whose time has come: muid and owner.
pub(super) async fn expired(db: &PgPool, now: OffsetDateTime, limit: u32) -> Result<Vec<(String, String)>, DbError> {
    Ok(sqlx::query_as(EXPIRED).bind(now).bind(i64::from(limit)).fetch_all(db).await?)
}

pub(super) async fn usage(db: &mut PgConnection, owner: &Owner) -> Result<Usage, DbError> {
    let row = sqlx::query(USAGE).bind(rows::text(owner.as_str())).fetch_one(db).await?;
    Ok(Usage { files: rows::unsigned(&row, "files")?, bytes: rows::unsigned(&row, "bytes")? })
}

pub(super) async fn owns_of_size(
    db: &mut PgConnection,
    owner: &Owner,
    sizes: &RangeInclusive<u64>,
) -> Result<bool, DbError> {
    let integer = |size| rows::integer(size).unwrap_or(i64::MAX);
    let query = sqlx::query(OWNS_OF_SIZE)
        .bind(rows::text(owner.as_str()))
        .bind(integer(*sizes.start()))
        .bind(integer(*sizes.end()));
    Ok(query.fetch_optional(db).await?.is_some())
}

/// Whether the upload's owner may have its content: what the owner has already counts once. Whoever asks holds the
/// owner's lock.
pub(super) async fn check_quota(tx: &mut PgConnection, upload: &FinishedUpload) -> Result<(), CommitError> {
    let owner = &upload.media.owner;
    let owns =
        sqlx::query(OWNS).bind(upload.muid.to_string()).bind(owner.as_str()).fetch_optional(&mut *tx).await?.is_some();
    if owns {
        return Ok(());
    }
    Ok(upload.quota.check(usage(tx, owner).await?, upload.size)?)
}

/// Forgets what an owner said of a content that is to be deleted by now: it is as good as gone.
pub(super) async fn delete_expired(
    tx: &mut PgConnection,
    muid: Muid,
    owner: &Owner,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(DELETE_EXPIRED).bind(muid.to_string()).bind(owner.as_str()).bind(now);
    query.execute(tx).await?;
    Ok(())
}

/// Makes the owner's row of a content, or brings it up to date.
pub(super) async fn save(
    tx: &mut PgConnection,
    upload: &FinishedUpload,
    now: OffsetDateTime,
) -> Result<Media, DbError> {
    let media = &upload.media;
    let row = sqlx::query(SAVE)
        .bind(upload.muid.to_string())
        .bind(media.owner.as_str())
        .bind(rows::text(&media.name))
        .bind(rows::text(&media.description))
        .bind(media.price_sat)
        .bind(rows::texts(&media.tags))
        .bind(media.ttl_secs)
        .bind(rows::text(&media.filename))
        .bind(rows::text(&media.mime))
        .bind(rows::integer(upload.size)?)
        .bind(now)
        .bind(media.expiry)
        .bind(media.public)
        .bind(media.template)
        .bind(media.dimensions.map(|(width, _)| i64::from(width)))
        .bind(media.dimensions.map(|(_, height)| i64::from(height)))
        .fetch_one(tx)
        .await?;
    rows::media(&row, media.public)
}
