//! What both databases are asked of uploads, in the words that both understand.

/// Parameters: store, key, whether sealed, nonce, key fingerprint, end of the lease, now.
pub(super) const BEGIN: &str = "\
INSERT INTO content (state, store, store_key, sealed, nonce, key_fingerprint, lease_until, created)
VALUES ('pending', $1, $2, $3, $4, $5, $6, $7) RETURNING id";

/// Parameters: content id, payment hash, credential hash, now.
pub(super) const HOLD: &str = "\
INSERT INTO paid_upload (content_id, payment_hash, credential_hash, begun_at) VALUES ($1, $2, $3, $4)";

/// Parameters: payment hash, counter id, content id.
pub(super) const HOLD_COUNTER: &str = "\
INSERT INTO paid_upload_counter (payment_hash, counter_id, content_id) VALUES ($1, $2, $3)";

/// Parameter: content id.
pub(super) const PENDING: &str = "SELECT * FROM content WHERE id = $1 AND state = 'pending'";

/// Parameters: content id, muid, variant, size.
pub(super) const KEEP: &str = "\
UPDATE content SET state = 'stored', muid = $2, variant = $3, size = $4, lease_until = NULL WHERE id = $1";

/// Parameter: content id.
pub(super) const DISCARD: &str = "UPDATE content SET state = 'discarded', lease_until = NULL WHERE id = $1";

/// Parameter: content id.
pub(super) const DISCARD_PENDING: &str = "\
UPDATE content SET state = 'discarded', lease_until = NULL WHERE id = $1 AND state = 'pending'";

/// Parameter: content id. Only pending uploads hold a use, so whatever of one is not spent belongs to it.
pub(super) const GIVE_BACK: &str = "DELETE FROM paid_upload WHERE content_id = $1 AND stored_at IS NULL";

/// Parameters: content id, muid, owner. Deletes the held use if its token was charged for the owner's content before.
pub(super) const GIVE_BACK_IF_CHARGED: &str = "\
DELETE FROM paid_upload AS held WHERE content_id = $1 AND EXISTS (
  SELECT 1 FROM paid_upload AS spent
  WHERE spent.payment_hash = held.payment_hash AND spent.credential_hash = held.credential_hash AND spent.muid = $2
    AND spent.owner_pub_key = $3 AND spent.stored_at IS NOT NULL)";

/// Parameters: content id, now, muid, size, owner, length of the body.
pub(super) const SPEND: &str = "\
UPDATE paid_upload SET stored_at = $2, muid = $3, size = $4, owner_pub_key = $5, body_size = $6 WHERE content_id = $1";

/// Parameters: payment hash, counter id, now. A held use whose lease is over is free for the next who asks.
pub(super) const COUNT: &str = "\
SELECT count(*) FILTER (WHERE stored_at IS NOT NULL) AS spent,
  count(*) FILTER (WHERE stored_at IS NULL AND lease_until > $3) AS held
FROM paid_upload_counter AS counter JOIN paid_upload USING (content_id) LEFT JOIN content ON content.id = content_id
WHERE counter.payment_hash = $1 AND counter_id = $2";

/// Parameters: payment hash, credential hash.
pub(super) const STORED_WITH: &str = "\
SELECT * FROM paid_upload WHERE payment_hash = $1 AND credential_hash = $2 AND stored_at IS NOT NULL
ORDER BY stored_at DESC, content_id DESC LIMIT 100";

/// Parameters: payment hash, credential hash, now.
pub(super) const IS_STORING: &str = "\
SELECT EXISTS (
  SELECT 1 FROM paid_upload JOIN content ON content.id = content_id
  WHERE payment_hash = $1 AND credential_hash = $2 AND stored_at IS NULL AND lease_until > $3
)";

/// Parameters: payment hash, credential hash, declared length, by how much it may differ. Counts what is stored, and what of
/// it is of this length.
pub(super) const ALIKE: &str = "\
SELECT count(*) AS stored,
  count(*) FILTER (WHERE $3 IS NULL OR abs($3 - coalesce(body_size, size)) <= $4) AS alike
FROM paid_upload WHERE payment_hash = $1 AND credential_hash = $2 AND stored_at IS NOT NULL";

/// Parameters: payment hash, credential hash, an hour ago, now.
pub(super) const COUNT_RETRIES: &str = "\
SELECT count(*) AS begun, count(*) FILTER (WHERE lease_until > $4) AS running, min(begun_at) AS first
FROM paid_retry WHERE payment_hash = $1 AND credential_hash = $2 AND (begun_at > $3 OR lease_until > $4)";

/// Parameters: payment hash, credential hash, now, end of the lease.
pub(super) const BEGIN_RETRY: &str = "\
INSERT INTO paid_retry (payment_hash, credential_hash, begun_at, lease_until) VALUES ($1, $2, $3, $4) RETURNING id";

/// Parameters: retry, end of the lease; null: it has ended, and stays so.
pub(super) const LEASE_RETRY: &str = "\
UPDATE paid_retry SET lease_until = $2 WHERE id = $1 AND lease_until IS NOT NULL";

/// Parameters: payment hash, credential hash, muid, owner.
pub(super) const HAS_STORED: &str = "\
SELECT EXISTS (SELECT 1 FROM paid_upload WHERE payment_hash = $1 AND credential_hash = $2 AND muid = $3
  AND owner_pub_key = $4 AND stored_at IS NOT NULL)";
