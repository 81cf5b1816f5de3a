-- Search, pages, templates, expiry, and pictures of files.

DROP INDEX media_owner;
CREATE INDEX media_owner ON media (owner_pub_key, created, muid);
-- What an owner has, in files and bytes.
CREATE INDEX media_usage ON media (owner_pub_key, size);
CREATE INDEX media_template ON media (created, muid, owner_pub_key) WHERE template;
CREATE INDEX media_expiry ON media (expiry) WHERE expiry IS NOT NULL;

-- The words of a media. Punctuation parts words, as in SQLite: a name like exact.bin would be one word otherwise. What a
-- sphinx-meme left may be longer than a tsvector can be.
CREATE FUNCTION sluice_media_words(name TEXT, description TEXT, tags TEXT[]) RETURNS TSVECTOR
LANGUAGE SQL IMMUTABLE PARALLEL SAFE AS $$
  SELECT setweight(to_tsvector('pg_catalog.english', translate(left(name, 10000), punctuation, blanks)), 'A') ||
    setweight(to_tsvector('pg_catalog.english', translate(left(description, 100000), punctuation, blanks)), 'B') ||
    setweight(to_tsvector('pg_catalog.english',
      translate(left(array_to_string(tags, ' '), 10000), punctuation, blanks)), 'C')
  FROM (VALUES ('!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32))) AS ascii (punctuation, blanks)
$$;

ALTER TABLE media ADD COLUMN tsv TSVECTOR NOT NULL
  GENERATED ALWAYS AS (sluice_media_words(name, description, tags)) STORED;

-- What anybody may find: public media, perhaps those that do not say, and media for sale. All that match, or the newest
-- until enough match: which is better depends on the words.
CREATE INDEX media_tsv ON media USING gin (tsv) WITH (fastupdate = off) WHERE public IS NOT FALSE OR price > 0;
CREATE INDEX media_newest ON media (created) WHERE public IS NOT FALSE OR price > 0;
-- Better guesses of how many match.
ALTER TABLE media ALTER COLUMN tsv SET STATISTICS 1000;

-- A copy holds the file itself, or a picture made of it.
ALTER TABLE content ADD COLUMN variant TEXT COLLATE "C" NOT NULL DEFAULT 'file'
  CHECK (variant IN ('file', 'thumb', 'medium'));
DROP INDEX content_stored;
CREATE UNIQUE INDEX content_stored ON content (muid, variant) WHERE state = 'stored';
