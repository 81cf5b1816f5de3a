-- What was paid, one row a payment hash, merged from what the node says (amount, time, node) and from the token's first
-- use. Nothing unpaid has a row. Times are unix seconds.
CREATE TABLE payment (
  payment_hash  BLOB    NOT NULL PRIMARY KEY CHECK (length(payment_hash) = 32),
  service       TEXT    NOT NULL CHECK (service <> ''),
  -- Whose money it is: play money is never added to real.
  network       TEXT    NOT NULL CHECK (network <> ''),
  token_id      BLOB    NOT NULL CHECK (length(token_id) = 32),
  -- Null until a node has said it, with settled_at and node.
  amount_msat   INTEGER,
  settled_at    INTEGER,
  first_used_at INTEGER,
  -- The public key of the node that was paid, in hex.
  node          TEXT,
  CHECK ((amount_msat IS NULL) = (settled_at IS NULL) AND (node IS NULL) = (settled_at IS NULL)),
  CHECK (settled_at IS NOT NULL OR first_used_at IS NOT NULL)
) STRICT;

-- The order in which payments are listed.
CREATE INDEX payment_time ON payment (coalesce(settled_at, first_used_at), payment_hash);

-- Up to where the settlements of each node are in the ledger.
CREATE TABLE settle_index (
  node       TEXT    NOT NULL PRIMARY KEY,
  last_index INTEGER NOT NULL
) STRICT;
