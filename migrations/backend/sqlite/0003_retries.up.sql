-- How long the whole body of a paid upload was: the same file comes again in a body of nearly the same length. Null: it was
-- stored before that was noted.
ALTER TABLE paid_upload ADD COLUMN body_size INTEGER;

-- Uploads with a token that is used up, let through to be compared with what it stored. One hour of them is kept.
CREATE TABLE paid_retry (
  id INTEGER PRIMARY KEY,
  payment_hash TEXT NOT NULL,
  credential_hash TEXT NOT NULL,
  begun_at INTEGER NOT NULL,
  -- Null once it has ended.
  lease_until INTEGER
) STRICT;

CREATE INDEX paid_retry_credential ON paid_retry (payment_hash, credential_hash);
CREATE INDEX paid_retry_begun ON paid_retry (begun_at);
