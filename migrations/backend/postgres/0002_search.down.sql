-- Pictures of files are made anew from the files when they are asked for.
UPDATE content SET state = 'discarded' WHERE state = 'stored' AND variant <> 'file';
DROP INDEX content_stored;
ALTER TABLE content DROP COLUMN variant;
CREATE UNIQUE INDEX content_stored ON content (muid) WHERE state = 'stored';

DROP INDEX media_newest;
ALTER TABLE media DROP COLUMN tsv;
DROP FUNCTION sluice_media_words;
DROP INDEX media_expiry;
DROP INDEX media_template;
DROP INDEX media_usage;
DROP INDEX media_owner;
CREATE INDEX media_owner ON media (owner_pub_key, created);
