//! Uploads from their begin to their end, and the uses of tokens that they hold and spend. Every function works inside
//! a transaction of its caller's.
//!
//! Other backends do the same at the same time, each statement seeing what was committed before it (READ COMMITTED). So
//! whoever counts or spends the uses of a payment holds the payment's lock, and whoever makes a copy the stored one of
//! its content, or takes its last owner away, holds the content's. Who counts what an owner has holds the owner's. Locks
//! are taken in one order: payment, pending row, owner, content, stored row, so that nobody waits in a circle; the sweeper
//! waits for no row at all.

use sluice_common::muid::Muid;
use sqlx::PgConnection;
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

/// What the first key of an advisory lock says the second is of.
const LOCK_PAYMENT: i32 = 0x736c_7531;
const LOCK_CONTENT: i32 = 0x736c_7532;
const LOCK_OWNER: i32 = 0x736c_7533;

/// Parameters: payment hash, now.
pub(super) const ENDED_OF_PAYMENT: &str = "\
SELECT id FROM paid_upload JOIN content ON id = content_id
WHERE payment_hash = $1 AND stored_at IS NULL AND state = 'pending' AND lease_until <= $2
ORDER BY id FOR UPDATE OF content";

/// Parameter: now. Whoever has locked a row is about to commit it, or to end it too.
pub(super) const ENDED: &str = "\
SELECT id FROM content WHERE state = 'pending' AND lease_until <= $1 ORDER BY id FOR UPDATE SKIP LOCKED";

/// Parameters: store, content id, limit. What sphinx-meme stored is in whichever store is configured.
pub(super) const DISCARDED: &str = "\
SELECT * FROM content WHERE state = 'discarded' AND store IN ($1, 'legacy') AND id > $2 ORDER BY id LIMIT $3";

/// Waits until nobody else has the lock of `name`, and holds it until the transaction ends.
async fn lock(tx: &mut PgConnection, what: i32, name: &str) -> Result<(), sqlx::Error> {
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))").bind(what).bind(name);
    lock.execute(tx).await.map(drop)
}

/// The lock of whoever counts or spends the uses of a payment.
pub(super) async fn lock_payment(tx: &mut PgConnection, payment_hash: &str) -> Result<(), sqlx::Error> {
    lock(tx, LOCK_PAYMENT, payment_hash).await
}

/// The lock of whoever makes a copy the stored one of `muid`, or takes the stored one away.
pub(super) async fn lock_content(tx: &mut PgConnection, muid: &str) -> Result<(), sqlx::Error> {
    lock(tx, LOCK_CONTENT, muid).await
}

pub(super) async fn begin(
    tx: &mut PgConnection,
    upload: &NewUpload,
    now: OffsetDateTime,
) -> Result<ContentId, BeginError> {
    if let Some(paid) = &upload.paid {
        let payment_hash = paid.payment_hash.to_string();
        lock_payment(tx, &payment_hash).await?;
        let ended = sqlx::query_scalar(ENDED_OF_PAYMENT).bind(payment_hash).bind(now);
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
        .bind(upload.lease_until)
        .bind(now)
        .fetch_one(&mut *tx)
        .await
        .map(ContentId)?;
    if let Some(paid) = &upload.paid {
        hold(tx, content, paid, now).await?;
    }
    Ok(content)
}

async fn hold(
    tx: &mut PgConnection,
    content: ContentId,
    paid: &PaidUse,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(HOLD)
        .bind(content.0)
        .bind(paid.payment_hash.to_string())
        .bind(hex::encode(paid.credential_hash))
        .bind(now)
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
    tx: &mut PgConnection,
    upload: &FinishedUpload,
    older: &Older,
    store: StoreKind,
    now: OffsetDateTime,
) -> Result<Option<Committed>, CommitError> {
    let payment =
        sqlx::query_scalar("SELECT payment_hash FROM paid_upload WHERE content_id = $1").bind(upload.content.0);
    let payment: Option<String> = payment.fetch_optional(&mut *tx).await?;
    if let Some(payment) = payment {
        lock_payment(tx, &payment).await?;
    }
    lock_pending(tx, upload.content).await?;
    let is_charged = charge(tx, upload, now).await?;
    if upload.quota.is_limited() {
        lock(tx, LOCK_OWNER, upload.media.owner.as_str()).await?;
        media::check_quota(tx, upload).await?;
    }
    lock_content(tx, &upload.muid.to_string()).await?;
    discard_legacy(tx, upload.muid, store).await?;
    if !keep_one(tx, upload.content, older, upload.muid, Variant::File, upload.size).await? {
        return Ok(None);
    }
    media::delete_expired(tx, upload.muid, &upload.media.owner, now).await?;
    Ok(Some(Committed { media: media::save(tx, upload, now).await?, stored_before: !is_charged }))
}

/// None: as with [`finish`].
pub(super) async fn finish_variant(
    tx: &mut PgConnection,
    upload: &FinishedVariant,
    older: &Older,
) -> Result<Option<Content>, CommitError> {
    let FinishedVariant { content, muid, variant, size } = *upload;
    lock_pending(tx, content).await?;
    lock_content(tx, &muid.to_string()).await?;
    if media::stored(tx, muid, Variant::File).await?.is_none() && media::legacy(tx, muid).await?.is_none() {
        return Err(CommitError::NoFile);
    }
    if !keep_one(tx, content, older, muid, variant, size).await? {
        return Ok(None);
    }
    media::stored(tx, muid, variant).await?.ok_or(CommitError::LeaseLost).map(Some)
}

/// How the copy of an upload is sealed that is still pending.
pub(super) async fn pending(db: &mut PgConnection, content: ContentId) -> Result<Option<Sealing>, CommitError> {
    let pending = sqlx::query(PENDING).bind(content.0);
    let pending = pending.fetch_optional(db).await?.ok_or(CommitError::LeaseLost)?;
    Ok(rows::sealing(&pending)?)
}

/// Makes sure that an upload is still pending, and will be until this transaction ends.
async fn lock_pending(tx: &mut PgConnection, content: ContentId) -> Result<(), CommitError> {
    let pending = sqlx::query("SELECT 1 FROM content WHERE id = $1 AND state = 'pending' FOR UPDATE").bind(content.0);
    pending.fetch_optional(tx).await?.ok_or(CommitError::LeaseLost).map(drop)
}

/// Makes the new copy the stored one, unless the older one is as good; discards the other. False, with nothing done:
/// `older` is not the stored one any more.
async fn keep_one(
    tx: &mut PgConnection,
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

/// Discards a legacy copy that is not known to be good: the new one takes its place. It is in the store that there is.
async fn discard_legacy(tx: &mut PgConnection, muid: Muid, store: StoreKind) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE content SET state = 'discarded', store = $2 WHERE muid = $1 AND state = 'stored' AND store = 'legacy'",
    )
    .bind(muid.to_string())
    .bind(store.name())
    .execute(tx)
    .await
    .map(drop)
}

/// Makes the use that an upload holds a spent one, unless its token was charged for this owner's content before: false.
async fn charge(tx: &mut PgConnection, upload: &FinishedUpload, now: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let muid = upload.muid.to_string();
    let owner = upload.media.owner.as_str();
    let given_back = sqlx::query(GIVE_BACK_IF_CHARGED).bind(upload.content.0).bind(&muid).bind(owner);
    if given_back.execute(&mut *tx).await?.rows_affected() > 0 {
        return Ok(false);
    }
    sqlx::query(SPEND)
        .bind(upload.content.0)
        .bind(now)
        .bind(&muid)
        .bind(rows::integer(upload.size)?)
        .bind(owner)
        .bind(rows::integer(upload.body_size)?)
        .execute(&mut *tx)
        .await?;
    Ok(true)
}

/// Marks a copy for removal.
async fn discard(tx: &mut PgConnection, content: ContentId) -> Result<(), sqlx::Error> {
    sqlx::query(DISCARD).bind(content.0).execute(&mut *tx).await?;
    Ok(())
}

/// Ends a pending upload: gives its use back and marks its copy for removal. On any other row: nothing.
pub(super) async fn discard_pending(tx: &mut PgConnection, content: ContentId) -> Result<(), sqlx::Error> {
    let ended = sqlx::query(DISCARD_PENDING);
    if ended.bind(content.0).execute(&mut *tx).await?.rows_affected() > 0 {
        let held = sqlx::query(GIVE_BACK);
        held.bind(content.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Ends every upload whose lease is over.
pub(super) async fn end_leases(tx: &mut PgConnection, now: OffsetDateTime) -> Result<(), sqlx::Error> {
    for id in sqlx::query_scalar(ENDED).bind(now).fetch_all(&mut *tx).await? {
        discard_pending(tx, ContentId(id)).await?;
    }
    Ok(())
}

pub(super) async fn discarded(
    tx: &mut PgConnection,
    store: StoreKind,
    after: Option<ContentId>,
    limit: u32,
) -> Result<Vec<DiscardedCopy>, DbError> {
    // No row has the id 0.
    let after = after.map_or(0, |content| content.0);
    let rows = sqlx::query(DISCARDED).bind(store.name()).bind(after).bind(i64::from(limit)).fetch_all(tx).await?;
    rows.iter().map(rows::discarded_copy).collect()
}

pub(super) async fn token_use(tx: &mut PgConnection, paid: &PaidUse, now: OffsetDateTime) -> Result<TokenUse, DbError> {
    let counters = count(tx, paid, now).await?;
    let rows = sqlx::query(STORED_WITH)
        .bind(paid.payment_hash.to_string())
        .bind(hex::encode(paid.credential_hash))
        .fetch_all(&mut *tx)
        .await?;
    let is_storing = sqlx::query_scalar(IS_STORING)
        .bind(paid.payment_hash.to_string())
        .bind(hex::encode(paid.credential_hash))
        .bind(now)
        .fetch_one(tx)
        .await?;
    Ok(TokenUse { counters, stored: rows.iter().map(rows::stored_upload).collect::<Result<_, _>>()?, is_storing })
}

/// The state of each of a token's counters, in their order.
async fn count(tx: &mut PgConnection, paid: &PaidUse, now: OffsetDateTime) -> Result<Vec<CounterUse>, DbError> {
    let mut counters = Vec::with_capacity(paid.counters.len());
    for UseCounter { id, max_uses } in &paid.counters {
        let row = sqlx::query(COUNT)
            .bind(paid.payment_hash.to_string())
            .bind(hex::encode(id))
            .bind(now)
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
