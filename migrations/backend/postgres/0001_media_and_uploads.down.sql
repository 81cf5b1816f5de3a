-- Leaves the table that sphinx-meme has, with all rows, so that it runs again on what it had stored. It does not find the
-- files that were stored since: they have other names than their muids.

DO $$
DECLARE
  shared BIGINT;
BEGIN
  SELECT count(*) INTO shared FROM (SELECT FROM media GROUP BY muid HAVING count(*) > 1) AS several;
  IF shared > 0 THEN
    RAISE EXCEPTION '% files have more than one owner, and sphinx-meme''s table has room for one', shared
      USING HINT = 'delete the rows of media that are to be given up; nothing was changed';
  END IF;
END
$$;

CREATE TABLE legacy_media (
  id TEXT NOT NULL,
  owner_pub_key TEXT NOT NULL,
  name TEXT,
  description TEXT,
  price BIGINT,
  tags TEXT[] NOT NULL DEFAULT '{}',
  ttl BIGINT,
  filename TEXT,
  size BIGINT,
  mime TEXT,
  nonce TEXT,
  created TIMESTAMPTZ,
  updated TIMESTAMPTZ,
  expiry TIMESTAMPTZ,
  total_sats BIGINT,
  total_buys BIGINT,
  template BOOLEAN,
  width INT,
  height INT,
  tsv TSVECTOR
);

-- Words as sphinx-meme made them, without those that PostgreSQL could not take.
INSERT INTO legacy_media
SELECT media.muid, owner_pub_key, name, description, price, tags, ttl, filename, media.size, mime, content.nonce,
  media.created, updated, expiry, total_sats, total_buys, template, width::INT, height::INT,
  setweight(to_tsvector(left(name, 100000)), 'A') || setweight(to_tsvector(left(description, 100000)), 'B') ||
    setweight(array_to_tsvector(ARRAY(SELECT tag FROM unnest(tags) AS tag WHERE tag <> '' AND octet_length(tag) < 2047)), 'C')
FROM media LEFT JOIN content ON content.muid = media.muid AND state = 'stored';

DROP TABLE key_use;
DROP TABLE paid_upload_counter;
DROP TABLE paid_upload;
DROP TABLE media;
DROP TABLE content;

ALTER TABLE legacy_media RENAME TO media;
ALTER TABLE media ADD CONSTRAINT media_pkey PRIMARY KEY (id);
CREATE INDEX media_tsv ON media USING gin (tsv);
