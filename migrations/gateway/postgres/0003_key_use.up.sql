-- Keys that tokens and invoices depend on. A fingerprint tells keys apart and says nothing of them. (The media server's
-- table `key_use` may be in the same database.)
CREATE TABLE gateway_key_use (
  name TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  PRIMARY KEY (name, fingerprint)
);
