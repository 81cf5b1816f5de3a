//! What both databases are asked about uses, in the words that both understand.

/// Parameters: payment hash, now.
pub(super) const END_OLD: &str =
    "DELETE FROM use_hold WHERE payment_hash = $1 AND lease_until <= $2 RETURNING counter_id";

/// No row: none was ever used. Parameters: payment hash, counter.
pub(super) const STATE: &str = "SELECT spent, (
       SELECT count(*) FROM use_hold
       WHERE use_hold.payment_hash = use_counter.payment_hash AND use_hold.counter_id = use_counter.counter_id
     ) AS held
     FROM use_counter WHERE payment_hash = $1 AND counter_id = $2";

/// Parameters: payment hash, counter.
pub(super) const MAKE_COUNTER: &str = "INSERT INTO use_counter (payment_hash, counter_id, spent, unanswered)
     VALUES ($1, $2, 0, 0) ON CONFLICT (payment_hash, counter_id) DO NOTHING";

/// Parameters: payment hash, counter. Forgets a counter of which nothing was used.
pub(super) const FORGET_COUNTER: &str =
    "DELETE FROM use_counter WHERE payment_hash = $1 AND counter_id = $2 AND spent = 0 AND unanswered = 0
     AND NOT EXISTS (SELECT 1 FROM use_hold
       WHERE use_hold.payment_hash = use_counter.payment_hash AND use_hold.counter_id = use_counter.counter_id)";

/// Parameters: hold, payment hash, counter, end of the lease.
pub(super) const HOLD: &str =
    "INSERT INTO use_hold (hold_id, payment_hash, counter_id, lease_until) VALUES ($1, $2, $3, $4)";

/// Parameters: hold, end of the lease.
pub(super) const RENEW: &str = "UPDATE use_hold SET lease_until = $2 WHERE hold_id = $1";

/// Parameter: hold.
pub(super) const RELEASE: &str = "DELETE FROM use_hold WHERE hold_id = $1";

/// Parameters: payment hash, counter. Whatever is spent, the next use has its own three times.
pub(super) const SPEND: &str = "INSERT INTO use_counter (payment_hash, counter_id, spent, unanswered)
     VALUES ($1, $2, 1, 0)
     ON CONFLICT (payment_hash, counter_id) DO UPDATE SET spent = use_counter.spent + 1, unanswered = 0";

/// Parameters: payment hash, counter.
pub(super) const NO_ANSWER: &str = "UPDATE use_counter
     SET spent = spent + CASE WHEN unanswered < 3 THEN 0 ELSE 1 END,
         unanswered = CASE WHEN unanswered < 3 THEN unanswered + 1 ELSE 0 END
     WHERE payment_hash = $1 AND counter_id = $2";
