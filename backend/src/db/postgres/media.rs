//! Which contents are stored, and what their owners say of them.

use sluice_common::muid::Muid;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::rows;
use crate::{
    db::{Content, ContentId, DbError, FinishedUpload, LegacyCopy, Media, Owner, Sealing},
    store::StoreKind,
};

/// Parameter: muid.
pub(super) const STORED: &str = "SELECT * FROM content WHERE muid = $1 AND state = 'stored' AND store <> 'legacy'";

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

/// Parameters: muid, owners, whether a row is public that does not say.
pub(super) const FIRST: &str = "\
SELECT * FROM media WHERE muid = $1
ORDER BY array_position($2, owner_pub_key) NULLS LAST, COALESCE(public, $3) DESC, created, owner_pub_key LIMIT 1";

/// Parameter: owners.
pub(super) const ALL_OWNED: &str = "\
SELECT * FROM media WHERE owner_pub_key = ANY ($1) ORDER BY created DESC, muid, owner_pub_key";

/// Only what the owner says of it: since when it is there and what it earned stay.
const SAVE: &str = "\
INSERT INTO media (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created, updated,
  expiry, public)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13)
ON CONFLICT (muid, owner_pub_key) DO UPDATE SET
  name = excluded.name, description = excluded.description, price = excluded.price, tags = excluded.tags,
  ttl = excluded.ttl, filename = excluded.filename, mime = excluded.mime, size = excluded.size,
  updated = excluded.updated, expiry = excluded.expiry, public = excluded.public
RETURNING *";

pub(super) async fn stored(db: &mut PgConnection, muid: Muid) -> Result<Option<Content>, DbError> {
    let row = sqlx::query(STORED).bind(muid.to_string()).fetch_optional(db).await?;
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
    legacy_public: bool,
) -> Result<Option<Media>, DbError> {
    let query = sqlx::query(FIRST).bind(muid.to_string()).bind(rows::owners(preferred)).bind(legacy_public);
    query.fetch_optional(db).await?.map(|row| rows::media(&row, legacy_public)).transpose()
}

pub(super) async fn all_owned(
    db: &mut PgConnection,
    owners: &[Owner],
    legacy_public: bool,
) -> Result<Vec<Media>, DbError> {
    let rows = sqlx::query(ALL_OWNED).bind(rows::owners(owners)).fetch_all(db).await?;
    rows.iter().map(|row| rows::media(row, legacy_public)).collect()
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
        .bind(media.tags.iter().map(|tag| rows::text(tag)).collect::<Vec<_>>())
        .bind(media.ttl_secs)
        .bind(rows::text(&media.filename))
        .bind(rows::text(&media.mime))
        .bind(rows::integer(upload.size)?)
        .bind(now)
        .bind(media.expiry)
        .bind(media.public)
        .fetch_one(tx)
        .await?;
    rows::media(&row, media.public)
}
