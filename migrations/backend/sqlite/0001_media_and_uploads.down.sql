DROP TABLE key_use;
DROP TABLE paid_upload_counter;
DROP TABLE paid_upload;
DROP TABLE media;
DROP TABLE content;
