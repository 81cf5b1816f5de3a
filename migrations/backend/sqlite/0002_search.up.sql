-- Search, pages, templates, expiry, and pictures of files.

-- Search names a row by a number, which stays when the file is vacuumed.
CREATE TABLE media_with_id (
  id INTEGER PRIMARY KEY,
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
  UNIQUE (muid, owner_pub_key)
) STRICT;

-- In the order in which they came: search looks at the newest first where it finds too many.
INSERT INTO media_with_id (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created,
  updated, expiry, total_sats, total_buys, width, height, template, public)
SELECT muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created, updated, expiry,
  total_sats, total_buys, width, height, template, public
FROM media ORDER BY created, muid, owner_pub_key;

DROP TABLE media;
ALTER TABLE media_with_id RENAME TO media;

CREATE INDEX media_owner ON media (owner_pub_key, created, muid);
-- What an owner has, in files and bytes.
CREATE INDEX media_usage ON media (owner_pub_key, size);
CREATE INDEX media_template ON media (created, muid, owner_pub_key) WHERE template = 1;
CREATE INDEX media_expiry ON media (expiry) WHERE expiry IS NOT NULL;

-- The words of what anybody may find: public media and media for sale. No diacritics are removed, as PostgreSQL removes
-- none; the begins of words have an index of their own up to the length where few words share one.
CREATE VIRTUAL TABLE media_search USING fts5 (
  name, description, tags,
  content = '', contentless_delete = 1, prefix = '1 2 3 4 5', tokenize = 'porter unicode61 remove_diacritics 0'
);

CREATE TRIGGER media_search_insert AFTER INSERT ON media WHEN new.public = 1 OR new.price > 0 BEGIN
  INSERT INTO media_search (rowid, name, description, tags)
  VALUES (new.id, new.name, new.description, (SELECT group_concat(value, ' ') FROM json_each(new.tags)));
END;

CREATE TRIGGER media_search_delete AFTER DELETE ON media WHEN old.public = 1 OR old.price > 0 BEGIN
  DELETE FROM media_search WHERE rowid = old.id;
END;

CREATE TRIGGER media_search_update AFTER UPDATE OF id, name, description, tags, price, public ON media BEGIN
  DELETE FROM media_search WHERE rowid = old.id;
  INSERT INTO media_search (rowid, name, description, tags)
  SELECT new.id, new.name, new.description, (SELECT group_concat(value, ' ') FROM json_each(new.tags))
  WHERE new.public = 1 OR new.price > 0;
END;

INSERT INTO media_search (rowid, name, description, tags)
SELECT id, name, description, (SELECT group_concat(value, ' ') FROM json_each(media.tags)) FROM media
WHERE public = 1 OR price > 0 ORDER BY id;

-- A copy holds the file itself, or a picture made of it.
ALTER TABLE content ADD COLUMN variant TEXT NOT NULL DEFAULT 'file' CHECK (variant IN ('file', 'thumb', 'medium'));
DROP INDEX content_stored;
CREATE UNIQUE INDEX content_stored ON content (muid, variant) WHERE state = 'stored';
