//! Uploads from their begin to their end, and the uses of tokens that they hold and spend. Every function works inside
//! a transaction of its caller's.

use sluice_common::muid::Muid;
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::{media, rows};
use crate::{
    db::{
        BeginError, CommitError, Committed, Content, ContentId, CounterUse, DbError, DiscardedCopy, FinishedUpload,
        FinishedVariant, NewUpload, PaidUse, Sealing, TokenUse, UseCounter, Variant,
        older::Older,
        statements::{
            BEGIN, COUNT, DISCARD, DISCARD_PENDING, GIVE_BACK, GIVE_BACK_IF_CHARGED, HOLD, HOLD_COUNTER, IS_STORING,
            KEEP, PENDING, SPEND, STORED_WITH,
        },
    },
    store::StoreKind,
};

/// Parameters: payment hash, now.
pub(super) const ENDED_OF_PAYMENT: &str = "\
SELECT id FROM paid_upload JOIN content ON id = content_id
WHERE payment_hash = ? AND stored_at IS NULL AND state = 'pending' AND lease_until <= ?";

/// Parameter: now.
pub(super) const ENDED: &str = "SELECT id FROM content WHERE state = 'pending' AND lease_until <= ?";

/// Parameters: store, content id, limit.
pub(super) const DISCARDED: &str = "\
SELECT * FROM content WHERE state = 'discarded' AND store = ? AND id > ? ORDER BY id LIMIT ?";

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
    let content = sqlx::query_scalar(BEGIN)
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
    sqlx::query(HOLD)
        .bind(content.0)
        .bind(paid.payment_hash.to_string())
        .bind(hex::encode(paid.credential_hash))
        .bind(rows::micros(now))
        .execute(&mut *tx)
        .await?;
    for counter in &paid.counters {
        sqlx::query(HOLD_COUNTER)
            .bind(paid.payment_hash.to_string())
            .bind(hex::encode(counter.id))
            .bind(content.0)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// None: `older` is not the stored copy any more. Then nothing of it may be committed.
pub(super) async fn finish(
    tx: &mut SqliteConnection,
    upload: &FinishedUpload,
    older: &Older,
    now: OffsetDateTime,
) -> Result<Option<Committed>, CommitError> {
    pending(tx, upload.content).await?;
    media::check_quota(tx, upload).await?;
    let is_charged = charge(tx, upload, now).await?;
    if !keep_one(tx, upload.content, older, upload.muid, Variant::File, upload.size).await? {
        return Ok(None);
    }
    media::delete_expired(tx, upload.muid, &upload.media.owner, now).await?;
    Ok(Some(Committed { media: media::save(tx, upload, now).await?, stored_before: !is_charged }))
}

/// None: as with [`finish`].
pub(super) async fn finish_variant(
    tx: &mut SqliteConnection,
    upload: &FinishedVariant,
    older: &Older,
) -> Result<Option<Content>, CommitError> {
    let FinishedVariant { content, muid, variant, size } = *upload;
    pending(tx, content).await?;
    media::stored(tx, muid, Variant::File).await?.ok_or(CommitError::NoFile)?;
    if !keep_one(tx, content, older, muid, variant, size).await? {
        return Ok(None);
    }
    media::stored(tx, muid, variant).await?.ok_or(CommitError::LeaseLost).map(Some)
}

/// How the copy of an upload is sealed that is still pending.
pub(super) async fn pending(tx: &mut SqliteConnection, content: ContentId) -> Result<Option<Sealing>, CommitError> {
    let pending = sqlx::query(PENDING).bind(content.0);
    let pending = pending.fetch_optional(tx).await?.ok_or(CommitError::LeaseLost)?;
    Ok(rows::sealing(&pending)?)
}

/// Makes the new copy the stored one, unless the older one is as good; discards the other. False, with nothing done:
/// `older` is not the stored one any more.
async fn keep_one(
    tx: &mut SqliteConnection,
    new: ContentId,
    older: &Older,
    muid: Muid,
    variant: Variant,
    size: u64,
) -> Result<bool, CommitError> {
    if !older.is(media::stored(tx, muid, variant).await?.as_ref()) {
        return Ok(false);
    }
    if older.stands() {
        discard(tx, new).await?;
        return Ok(true);
    }
    if let Some(older) = older.copy() {
        discard(tx, older.id).await?;
    }
    sqlx::query(KEEP)
        .bind(new.0)
        .bind(muid.to_string())
        .bind(variant.name())
        .bind(rows::integer(size)?)
        .execute(tx)
        .await?;
    Ok(true)
}

/// Makes the use that an upload holds a spent one, unless its token was charged for this owner's content before: false.
async fn charge(tx: &mut SqliteConnection, upload: &FinishedUpload, now: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let muid = upload.muid.to_string();
    let owner = upload.media.owner.as_str();
    let given_back = sqlx::query(GIVE_BACK_IF_CHARGED).bind(upload.content.0).bind(&muid).bind(owner);
    if given_back.execute(&mut *tx).await?.rows_affected() > 0 {
        return Ok(false);
    }
    sqlx::query(SPEND)
        .bind(upload.content.0)
        .bind(rows::micros(now))
        .bind(&muid)
        .bind(rows::integer(upload.size)?)
        .bind(owner)
        .bind(rows::integer(upload.body_size)?)
        .execute(&mut *tx)
        .await?;
    Ok(true)
}

/// Marks a copy for removal.
async fn discard(tx: &mut SqliteConnection, content: ContentId) -> Result<(), sqlx::Error> {
    sqlx::query(DISCARD).bind(content.0).execute(&mut *tx).await?;
    Ok(())
}

/// Ends a pending upload: gives its use back and marks its copy for removal. On any other row: nothing.
pub(super) async fn discard_pending(tx: &mut SqliteConnection, content: ContentId) -> Result<(), sqlx::Error> {
    sqlx::query(GIVE_BACK).bind(content.0).execute(&mut *tx).await?;
    sqlx::query(DISCARD_PENDING).bind(content.0).execute(&mut *tx).await?;
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
        .fetch_all(&mut *tx)
        .await?;
    let is_storing = sqlx::query_scalar(IS_STORING)
        .bind(paid.payment_hash.to_string())
        .bind(hex::encode(paid.credential_hash))
        .bind(rows::micros(now))
        .fetch_one(tx)
        .await?;
    Ok(TokenUse { counters, stored: rows.iter().map(rows::stored_upload).collect::<Result<_, _>>()?, is_storing })
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
