-- What was paid to the embedded test wallet. An unpaid invoice has no row, and no preimage stands here: it is derived.
CREATE TABLE test_wallet_payments (
  -- Never given twice, so that a stream of settlements can go on where another ended.
  settle_index INTEGER PRIMARY KEY AUTOINCREMENT,
  payment_hash BLOB    NOT NULL UNIQUE CHECK (length(payment_hash) = 32),
  amount_msat  INTEGER NOT NULL CHECK (amount_msat > 0),
  memo         TEXT    NOT NULL,
  -- Unix seconds.
  settled_at   INTEGER NOT NULL CHECK (settled_at >= 0)
) STRICT;
