DROP TABLE paid_retry;
ALTER TABLE paid_upload DROP COLUMN body_size;
