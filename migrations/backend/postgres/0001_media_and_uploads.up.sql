-- The tables of sqlite/0001, and what a sphinx-meme has left in this database.
-- Hashes and keys are lower-case hex; muids are padded base64url.

-- Copies. A pending one belongs to an upload under way, a discarded one waits for its removal.
CREATE TABLE content (
  -- Never used again: paid_upload goes on naming the upload when this row is gone.
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  muid TEXT COLLATE "C",
  state TEXT NOT NULL CHECK (state IN ('pending', 'stored', 'discarded')),
  -- 'legacy': stored by sphinx-meme, and not looked at yet. Which kind of store that was is known to the configuration
  -- alone, and how long the file is, to the store alone.
  store TEXT NOT NULL,
  store_key TEXT COLLATE "C" NOT NULL,
  sealed BOOLEAN NOT NULL,
  -- Of a legacy copy the text that sphinx-meme had, which may be anything.
  nonce TEXT,
  key_fingerprint TEXT,
  size BIGINT,
  lease_until TIMESTAMPTZ,
  created TIMESTAMPTZ NOT NULL,
  UNIQUE (store, store_key),
  CHECK (NOT sealed OR (nonce IS NOT NULL AND key_fingerprint IS NOT NULL)),
  CHECK ((state = 'pending') = (lease_until IS NOT NULL)),
  CHECK (state <> 'stored' OR (muid IS NOT NULL AND (size IS NOT NULL OR store = 'legacy')))
);

-- What an owner says of a content. Under another name until the old table of this one is gone.
CREATE TABLE sluice_media (
  muid TEXT COLLATE "C" NOT NULL,
  owner_pub_key TEXT COLLATE "C" NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  price BIGINT NOT NULL,
  tags TEXT[] NOT NULL,
  ttl BIGINT NOT NULL,
  filename TEXT NOT NULL,
  mime TEXT NOT NULL,
  size BIGINT NOT NULL,
  created TIMESTAMPTZ NOT NULL,
  updated TIMESTAMPTZ NOT NULL,
  expiry TIMESTAMPTZ,
  total_sats BIGINT NOT NULL DEFAULT 0,
  total_buys BIGINT NOT NULL DEFAULT 0,
  width BIGINT,
  height BIGINT,
  template BOOLEAN NOT NULL DEFAULT FALSE,
  -- NULL: sphinx-meme did not know.
  public BOOLEAN,
  PRIMARY KEY (muid, owner_pub_key)
);

DO $$
DECLARE
  strange BIGINT;
  example TEXT;
BEGIN
  IF to_regclass('media') IS NULL THEN
    RETURN;
  END IF;
  -- Until this is committed, an old program that still runs waits.
  LOCK TABLE media IN ACCESS EXCLUSIVE MODE;
  -- Columns that its first versions did not have. Most have: nobody need be told.
  PERFORM set_config('client_min_messages', 'warning', TRUE);
  ALTER TABLE media ADD COLUMN IF NOT EXISTS template BOOLEAN, ADD COLUMN IF NOT EXISTS width INT,
    ADD COLUMN IF NOT EXISTS height INT;

  SELECT count(*), min(id) INTO strange, example FROM media WHERE id !~ '^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]=$';
  IF strange > 0 THEN
    RAISE EXCEPTION 'the table media has % rows whose id is that of no file, for example "%"', strange, example
      USING HINT = 'sphinx-meme never made such rows; move or delete them';
  END IF;

  INSERT INTO sluice_media
  SELECT id, owner_pub_key, COALESCE(name, ''), COALESCE(description, ''), COALESCE(price, 0),
    array_remove(tags, NULL), COALESCE(ttl, 0), COALESCE(filename, ''), COALESCE(mime, ''),
    GREATEST(COALESCE(size, 0), 0), COALESCE(created, updated, 'epoch'), COALESCE(updated, created, 'epoch'),
    expiry, COALESCE(total_sats, 0), COALESCE(total_buys, 0), width, height, COALESCE(template, FALSE), NULL
  FROM media;

  INSERT INTO content (muid, state, store, store_key, sealed, nonce, created)
  SELECT id, 'stored', 'legacy', id, FALSE, nonce, COALESCE(created, updated, 'epoch') FROM media;

  DROP TABLE media;
END
$$;

ALTER TABLE sluice_media RENAME TO media;
ALTER TABLE media RENAME CONSTRAINT sluice_media_pkey TO media_pkey;

-- After the rows: so they are made faster.
CREATE UNIQUE INDEX content_stored ON content (muid) WHERE state = 'stored';
CREATE INDEX content_pending ON content (lease_until) WHERE state = 'pending';
CREATE INDEX content_discarded ON content (store, id) WHERE state = 'discarded';
CREATE INDEX content_legacy ON content (id) WHERE state = 'stored' AND store = 'legacy';

CREATE INDEX media_owner ON media (owner_pub_key, created);

-- Uploads that go on a payment: held while under way (stored_at is null), spent once stored.
CREATE TABLE paid_upload (
  -- The upload, by its content row; no reference, because a spent use outlives the copy that lost to an equal one.
  content_id BIGINT PRIMARY KEY,
  payment_hash TEXT COLLATE "C" NOT NULL,
  credential_hash TEXT COLLATE "C" NOT NULL,
  begun_at TIMESTAMPTZ NOT NULL,
  stored_at TIMESTAMPTZ,
  muid TEXT COLLATE "C",
  size BIGINT,
  owner_pub_key TEXT COLLATE "C",
  CHECK (stored_at IS NULL OR (muid IS NOT NULL AND size IS NOT NULL AND owner_pub_key IS NOT NULL))
);

CREATE INDEX paid_upload_held ON paid_upload (payment_hash) WHERE stored_at IS NULL;
-- A token is charged once for an owner's content, however often it uploads it.
CREATE UNIQUE INDEX paid_upload_once ON paid_upload (payment_hash, credential_hash, muid, owner_pub_key)
  WHERE stored_at IS NOT NULL;
CREATE INDEX paid_upload_stored ON paid_upload (payment_hash, credential_hash, stored_at) WHERE stored_at IS NOT NULL;

-- In which counters of its token a paid upload counts.
CREATE TABLE paid_upload_counter (
  payment_hash TEXT COLLATE "C" NOT NULL,
  counter_id TEXT COLLATE "C" NOT NULL,
  content_id BIGINT NOT NULL REFERENCES paid_upload (content_id) ON DELETE CASCADE,
  PRIMARY KEY (payment_hash, counter_id, content_id)
);

CREATE INDEX paid_upload_counter_upload ON paid_upload_counter (content_id);

-- Keys that rows depend on. A fingerprint tells keys apart and says nothing of them.
CREATE TABLE key_use (
  name TEXT COLLATE "C" NOT NULL,
  fingerprint TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (name, fingerprint)
);
