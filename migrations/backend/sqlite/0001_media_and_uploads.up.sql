-- Bytes and owners are two tables: a copy of a content in a store, and what each owner says of that content.
-- Times are unix microseconds; hashes and keys are lower-case hex; muids are padded base64url.

-- Copies. A pending one belongs to an upload under way, a discarded one waits for its removal.
CREATE TABLE content (
  -- Never used again: paid_upload goes on naming the upload when this row is gone.
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  muid TEXT,
  state TEXT NOT NULL CHECK (state IN ('pending', 'stored', 'discarded')),
  store TEXT NOT NULL,
  store_key TEXT NOT NULL,
  sealed INTEGER NOT NULL CHECK (sealed IN (0, 1)),
  nonce TEXT,
  key_fingerprint TEXT,
  size INTEGER,
  lease_until INTEGER,
  created INTEGER NOT NULL,
  UNIQUE (store, store_key),
  CHECK (sealed = 0 OR (nonce IS NOT NULL AND key_fingerprint IS NOT NULL)),
  CHECK ((state = 'pending') = (lease_until IS NOT NULL)),
  CHECK (state <> 'stored' OR (muid IS NOT NULL AND size IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX content_stored ON content (muid) WHERE state = 'stored';
CREATE INDEX content_pending ON content (lease_until) WHERE state = 'pending';
CREATE INDEX content_discarded ON content (store, id) WHERE state = 'discarded';

-- What an owner says of a content.
CREATE TABLE media (
  muid TEXT NOT NULL,
  owner_pub_key TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  price INTEGER NOT NULL,
  tags TEXT NOT NULL CHECK (json_type(tags) = 'array'),
  ttl INTEGER NOT NULL,
  filename TEXT NOT NULL,
  mime TEXT NOT NULL,
  size INTEGER NOT NULL,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  expiry INTEGER,
  total_sats INTEGER NOT NULL DEFAULT 0,
  total_buys INTEGER NOT NULL DEFAULT 0,
  width INTEGER,
  height INTEGER,
  template INTEGER NOT NULL DEFAULT 0 CHECK (template IN (0, 1)),
  public INTEGER NOT NULL CHECK (public IN (0, 1)),
  PRIMARY KEY (muid, owner_pub_key)
) STRICT;

CREATE INDEX media_owner ON media (owner_pub_key, created);

-- Uploads that go on a payment: held while under way (stored_at is null), spent once stored.
CREATE TABLE paid_upload (
  -- The upload, by its content row; no reference, because a spent use outlives the copy that lost to an equal one.
  content_id INTEGER PRIMARY KEY,
  payment_hash TEXT NOT NULL,
  credential_hash TEXT NOT NULL,
  begun_at INTEGER NOT NULL,
  stored_at INTEGER,
  muid TEXT,
  size INTEGER,
  owner_pub_key TEXT,
  CHECK (stored_at IS NULL OR (muid IS NOT NULL AND size IS NOT NULL AND owner_pub_key IS NOT NULL))
) STRICT;

CREATE INDEX paid_upload_held ON paid_upload (payment_hash) WHERE stored_at IS NULL;
-- A token is charged once for an owner's content, however often it uploads it.
CREATE UNIQUE INDEX paid_upload_once ON paid_upload (payment_hash, credential_hash, muid, owner_pub_key)
  WHERE stored_at IS NOT NULL;
CREATE INDEX paid_upload_stored ON paid_upload (payment_hash, credential_hash, stored_at) WHERE stored_at IS NOT NULL;

-- In which counters of its token a paid upload counts.
CREATE TABLE paid_upload_counter (
  payment_hash TEXT NOT NULL,
  counter_id TEXT NOT NULL,
  content_id INTEGER NOT NULL REFERENCES paid_upload (content_id) ON DELETE CASCADE,
  PRIMARY KEY (payment_hash, counter_id, content_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX paid_upload_counter_upload ON paid_upload_counter (content_id);

-- Keys that rows depend on. A fingerprint tells keys apart and says nothing of them.
CREATE TABLE key_use (
  name TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  PRIMARY KEY (name, fingerprint)
) STRICT, WITHOUT ROWID;
