//! Which contents are stored, and what their owners say of them.

use sluice_common::muid::Muid;
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::rows;
use crate::db::{Content, DbError, FinishedUpload, Media, Owner};

pub(super) const STORED: &str = "SELECT * FROM content WHERE muid = ? AND state = 'stored'";

/// Parameters: muid, owners as JSON.
pub(super) const FIRST: &str = "\
SELECT media.* FROM media LEFT JOIN json_each(?2) AS preferred ON preferred.value = owner_pub_key
WHERE muid = ?1
ORDER BY preferred.key IS NULL, preferred.key, public DESC, created, owner_pub_key LIMIT 1";

/// Parameter: owners as JSON.
pub(super) const ALL_OWNED: &str = "\
SELECT * FROM media WHERE owner_pub_key IN (SELECT value FROM json_each(?))
ORDER BY created DESC, muid, owner_pub_key";

/// Only what the owner says of it: since when it is there and what it earned stay.
const SAVE: &str = "\
INSERT INTO media (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created, updated,
  expiry, public)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12, ?13)
ON CONFLICT (muid, owner_pub_key) DO UPDATE SET
  name = excluded.name, description = excluded.description, price = excluded.price, tags = excluded.tags,
  ttl = excluded.ttl, filename = excluded.filename, mime = excluded.mime, updated = excluded.updated,
  expiry = excluded.expiry, public = excluded.public
RETURNING *";

pub(super) async fn stored(db: &mut SqliteConnection, muid: Muid) -> Result<Option<Content>, DbError> {
    let row = sqlx::query(STORED).bind(muid.to_string()).fetch_optional(db).await?;
    row.as_ref().map(rows::content).transpose()
}

pub(super) async fn first(
    db: &mut SqliteConnection,
    muid: Muid,
    preferred: &[Owner],
) -> Result<Option<Media>, DbError> {
    let query = sqlx::query(FIRST).bind(muid.to_string()).bind(rows::json(preferred)?);
    query.fetch_optional(db).await?.as_ref().map(rows::media).transpose()
}

pub(super) async fn all_owned(db: &mut SqliteConnection, owners: &[Owner]) -> Result<Vec<Media>, DbError> {
    let rows = sqlx::query(ALL_OWNED).bind(rows::json(owners)?).fetch_all(db).await?;
    rows.iter().map(rows::media).collect()
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
        .fetch_one(tx)
        .await?;
    rows::media(&row)
}
