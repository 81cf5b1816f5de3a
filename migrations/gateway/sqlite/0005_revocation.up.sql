-- What is revoked: tokens by their payment, or all that were minted before a time. A row that is undone stays, so that
-- who has seen the revocation sees its end. Times are unix seconds.
CREATE TABLE revocation (
  -- The number of the last change of this row.
  change        INTEGER NOT NULL PRIMARY KEY,
  payment_hash  BLOB    UNIQUE CHECK (length(payment_hash) = 32),
  minted_before INTEGER UNIQUE,
  revoked_at    INTEGER NOT NULL,
  undone_at     INTEGER,
  -- Why, for people.
  reason        TEXT    NOT NULL,
  CHECK ((payment_hash IS NULL) <> (minted_before IS NULL))
) STRICT;

-- The number of the last change, in one row. Who changes anything locks it to the end of the transaction, so that changes
-- can be seen in the order of their numbers; numbers of a sequence could be committed in another one.
CREATE TABLE revocation_change (
  last_change INTEGER NOT NULL
) STRICT;
INSERT INTO revocation_change (last_change) VALUES (0);
