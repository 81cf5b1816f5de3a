-- Pictures of files are made anew from the files when they are asked for.
UPDATE content SET state = 'discarded' WHERE state = 'stored' AND variant <> 'file';
DROP INDEX content_stored;
ALTER TABLE content DROP COLUMN variant;
CREATE UNIQUE INDEX content_stored ON content (muid) WHERE state = 'stored';

DROP TABLE media_search;

CREATE TABLE media_without_id (
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

INSERT INTO media_without_id (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created,
  updated, expiry, total_sats, total_buys, width, height, template, public)
SELECT muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created, updated, expiry,
  total_sats, total_buys, width, height, template, public
FROM media;

DROP TABLE media;
ALTER TABLE media_without_id RENAME TO media;
CREATE INDEX media_owner ON media (owner_pub_key, created);
