//! Uploads from their begin to their end, and the uses of tokens that they hold and spend. Every function works inside
//! a transaction of its caller's.

use sluice_common::muid::Muid;
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::{media, rows};
use crate::{
    db::{
        BeginError, CommitError, Content, ContentId, CounterUse, DbError, DiscardedCopy, FinishedUpload,
        FinishedVariant, Media, NewUpload, PaidUse, Sealing, TokenUse, UseCounter, Variant,
    },
    store::{BlobStore, StoreKind},
};

/// Parameters: payment hash, counter id, now. A held use whose lease is over is free for the next who asks.
pub(super) const COUNT: &str = "\
SELECT count(*) FILTER (WHERE stored_at IS NOT NULL) AS spent,
  count(*) FILTER (WHERE stored_at IS NULL AND lease_until > ?3) AS held
FROM paid_upload_counter AS counter JOIN paid_upload USING (content_id) LEFT JOIN content ON content.id = content_id
WHERE counter.payment_hash = ?1 AND counter_id = ?2";

/// Parameters: payment hash, credential hash.
pub(super) const STORED_WITH: &str = "\
SELECT * FROM paid_upload WHERE payment_hash = ? AND credential_hash = ? AND stored_at IS NOT NULL
ORDER BY stored_at DESC, content_id DESC LIMIT 100";

/// Parameters: payment hash, now.
pub(super) const ENDED_OF_PAYMENT: &str = "\
SELECT id FROM paid_upload JOIN content ON id = content_id
WHERE payment_hash = ? AND stored_at IS NULL AND state = 'pending' AND lease_until <= ?";

/// Parameter: now.
pub(super) const ENDED: &str = "SELECT id FROM content WHERE state = 'pending' AND lease_until <= ?";

/// Parameters: store, content id, limit.
pub(super) const DISCARDED: &str = "\
SELECT * FROM content WHERE state = 'discarded' AND store = ? AND id > ? ORDER BY id LIMIT ?";

/// Parameters: content id, muid, owner. Deletes the held use if its token was charged for the owner's content before.
pub(super) const GIVE_BACK_IF_CHARGED: &str = "\
DELETE FROM paid_upload AS held WHERE content_id = ?1 AND EXISTS (
  SELECT 1 FROM paid_upload AS spent
  WHERE spent.payment_hash = held.payment_hash AND spent.credential_hash = held.credential_hash AND spent.muid = ?2
    AND spent.owner_pub_key = ?3 AND spent.stored_at IS NOT NULL)";

pub(super) async fn begin(
    tx: &mut SqliteConnection,
    upload: &NewUpload,
    now: OffsetDateTime,
) -> Result<ContentId, BeginError> {
    if let Some(paid) = &upload.paid {
        let ended = sqlx::query_scalar(ENDED_OF_PAYMENT).bind(paid.payment_hash.to_string()).bind(rows::micros(now));
        for id in ended.fetch_all(&mut *tx).await? {
            discard_pending(tx, ContentId(id)).await?;
        }
        let counters = count(tx, paid, now).await?;
        if counters.iter().any(CounterUse::is_used_up) {
            return Err(BeginError::UsedUp);
        }
        if !counters.iter().all(CounterUse::has_room) {
            return Err(BeginError::InProgress);
        }
    }
    let sealing = upload.sealing.as_ref();
    const INSERT: &str = "INSERT INTO content (state, store, store_key, sealed, nonce, key_fingerprint, lease_until, \
        created) VALUES ('pending', ?, ?, ?, ?, ?, ?, ?) RETURNING id";
    let content = sqlx::query_scalar(INSERT)
        .bind(upload.store.name())
        .bind(upload.store_key.as_str())
        .bind(sealing.is_some())
        .bind(sealing.map(|sealing| hex::encode(sealing.nonce)))
        .bind(sealing.map(|sealing| &sealing.key_fingerprint))
        .bind(rows::micros(upload.lease_until))
        .bind(rows::micros(now))
        .fetch_one(&mut *tx)
        .await
        .map(ContentId)?;
    if let Some(paid) = &upload.paid {
        hold(tx, content, paid, now).await?;
    }
    Ok(content)
}

async fn hold(
    tx: &mut SqliteConnection,
    content: ContentId,
    paid: &PaidUse,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO paid_upload (content_id, payment_hash, credential_hash, begun_at) VALUES (?, ?, ?, ?)")
        .bind(content.0)
        .bind(paid.payment_hash.to_string())
        .bind(hex::encode(paid.credential_hash))
        .bind(rows::micros(now))
        .execute(&mut *tx)
        .await?;
    for counter in &paid.counters {
        sqlx::query("INSERT INTO paid_upload_counter (payment_hash, counter_id, content_id) VALUES (?, ?, ?)")
            .bind(paid.payment_hash.to_string())
            .bind(hex::encode(counter.id))
            .bind(content.0)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

pub(super) async fn finish(
    tx: &mut SqliteConnection,
    upload: &FinishedUpload,
    store: &dyn BlobStore,
    now: OffsetDateTime,
) -> Result<Media, CommitError> {
    let sealing = pending(tx, upload.content).await?;
    media::check_quota(tx, upload).await?;
    charge(tx, upload, now).await?;
    keep_one(tx, upload.content, sealing.as_ref(), upload.muid, Variant::File, upload.size, store).await?;
    media::delete_expired(tx, upload.muid, &upload.media.owner, now).await?;
    Ok(media::save(tx, upload, now).await?)
}

pub(super) async fn finish_variant(
    tx: &mut SqliteConnection,
    upload: &FinishedVariant,
    store: &dyn BlobStore,
) -> Result<Content, CommitError> {
    let FinishedVariant { content, muid, variant, size } = *upload;
    let sealing = pending(tx, content).await?;
    media::stored(tx, muid, Variant::File).await?.ok_or(CommitError::NoFile)?;
    keep_one(tx, content, sealing.as_ref(), muid, variant, size, store).await?;
    media::stored(tx, muid, variant).await?.ok_or(CommitError::LeaseLost)
}

/// How the copy of an upload is sealed that is still pending.
async fn pending(tx: &mut SqliteConnection, content: ContentId) -> Result<Option<Sealing>, CommitError> {
    let pending = sqlx::query("SELECT * FROM content WHERE id = ? AND state = 'pending'").bind(content.0);
    let pending = pending.fetch_optional(tx).await?.ok_or(CommitError::LeaseLost)?;
    Ok(rows::sealing(&pending)?)
}

/// Makes the new copy the stored one, unless there is one that is as good; discards the other.
async fn keep_one(
    tx: &mut SqliteConnection,
    new: ContentId,
    sealing: Option<&Sealing>,
    muid: Muid,
    variant: Variant,
    size: u64,
    store: &dyn BlobStore,
) -> Result<(), CommitError> {
    let older = media::stored(tx, muid, variant).await?;
    if let Some(older) = &older
        && older.can_stand_for(size, sealing, store).await?
    {
        return Ok(discard(tx, new).await?);
    }
    if let Some(older) = older {
        discard(tx, older.id).await?;
    }
    const KEEP: &str =
        "UPDATE content SET state = 'stored', muid = ?, variant = ?, size = ?, lease_until = NULL WHERE id = ?";
    sqlx::query(KEEP)
        .bind(muid.to_string())
        .bind(variant.name())
        .bind(rows::integer(size)?)
        .bind(new.0)
        .execute(tx)
        .await?;
    Ok(())
}

/// Makes the use that an upload holds a spent one, unless its token was charged for this owner's content before.
async fn charge(tx: &mut SqliteConnection, upload: &FinishedUpload, now: OffsetDateTime) -> Result<(), sqlx::Error> {
    let muid = upload.muid.to_string();
    let owner = upload.media.owner.as_str();
    sqlx::query(GIVE_BACK_IF_CHARGED).bind(upload.content.0).bind(&muid).bind(owner).execute(&mut *tx).await?;
    sqlx::query("UPDATE paid_upload SET stored_at = ?, muid = ?, size = ?, owner_pub_key = ?, body_size = ? WHERE content_id = ?")
        .bind(rows::micros(now))
        .bind(&muid)
        .bind(rows::integer(upload.size)?)
        .bind(owner)
        .bind(rows::integer(upload.body_size)?)
        .bind(upload.content.0)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Marks a copy for removal.
async fn discard(tx: &mut SqliteConnection, content: ContentId) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE content SET state = 'discarded', lease_until = NULL WHERE id = ?")
        .bind(content.0)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Ends a pending upload: gives its use back and marks its copy for removal. On any other row: nothing.
pub(super) async fn discard_pending(tx: &mut SqliteConnection, content: ContentId) -> Result<(), sqlx::Error> {
    // Only pending uploads hold a use, so whatever of it is not spent belongs to one.
    sqlx::query("DELETE FROM paid_upload WHERE content_id = ? AND stored_at IS NULL")
        .bind(content.0)
        .execute(&mut *tx)
        .await?;
    sqlx::query("UPDATE content SET state = 'discarded', lease_until = NULL WHERE id = ? AND state = 'pending'")
        .bind(content.0)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Ends every upload whose lease is over.
pub(super) async fn end_leases(tx: &mut SqliteConnection, now: OffsetDateTime) -> Result<(), sqlx::Error> {
    for id in sqlx::query_scalar(ENDED).bind(rows::micros(now)).fetch_all(&mut *tx).await? {
        discard_pending(tx, ContentId(id)).await?;
    }
    Ok(())
}

pub(super) async fn discarded(
    tx: &mut SqliteConnection,
    store: StoreKind,
    after: Option<ContentId>,
    limit: u32,
) -> Result<Vec<DiscardedCopy>, DbError> {
    // No row has the id 0.
    let after = after.map_or(0, |content| content.0);
    let rows = sqlx::query(DISCARDED).bind(store.name()).bind(after).bind(limit).fetch_all(tx).await?;
    rows.iter().map(rows::discarded_copy).collect()
}

pub(super) async fn token_use(
    tx: &mut SqliteConnection,
    paid: &PaidUse,
    now: OffsetDateTime,
) -> Result<TokenUse, DbError> {
    let counters = count(tx, paid, now).await?;
    let rows = sqlx::query(STORED_WITH)
        .bind(paid.payment_hash.to_string())
        .bind(hex::encode(paid.credential_hash))
        .fetch_all(tx)
        .await?;
    Ok(TokenUse { counters, stored: rows.iter().map(rows::stored_upload).collect::<Result<_, _>>()? })
}

/// The state of each of a token's counters, in their order.
async fn count(tx: &mut SqliteConnection, paid: &PaidUse, now: OffsetDateTime) -> Result<Vec<CounterUse>, DbError> {
    let mut counters = Vec::with_capacity(paid.counters.len());
    for UseCounter { id, max_uses } in &paid.counters {
        let row = sqlx::query(COUNT)
            .bind(paid.payment_hash.to_string())
            .bind(hex::encode(id))
            .bind(rows::micros(now))
            .fetch_one(&mut *tx)
            .await?;
        counters.push(CounterUse {
            max_uses: *max_uses,
            spent: rows::unsigned(&row, "spent")?,
            held: rows::unsigned(&row, "held")?,
        });
    }
    Ok(counters)
}
