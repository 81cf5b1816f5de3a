-- What is revoked: tokens by their payment, or all that were minted before a time. A row that is undone stays, so that
-- who has seen the revocation sees its end. Times are unix seconds.
CREATE TABLE revocation (
  -- The number of the last change of this row.
  change        BIGINT NOT NULL PRIMARY KEY,
  payment_hash  BYTEA  UNIQUE CHECK (length(payment_hash) = 32),
  minted_before BIGINT UNIQUE,
  revoked_at    BIGINT NOT NULL,
  undone_at     BIGINT,
  -- Why, for people.
  reason        TEXT   NOT NULL,
  CHECK ((payment_hash IS NULL) <> (minted_before IS NULL))
);

-- The number of the last change, in one row. Who changes anything locks it to the end of the transaction, so that changes
-- can be seen in the order of their numbers; numbers of a sequence could be committed in another one.
CREATE TABLE revocation_change (
  last_change BIGINT NOT NULL
);
INSERT INTO revocation_change (last_change) VALUES (0);
