-- What each payment bought, by service and day (days since 1970-01-01, UTC): requests that were answered with success and
-- the bytes of their bodies, those that were refused, and those that failed and cost nothing.
CREATE TABLE bought (
  payment_hash BLOB    NOT NULL CHECK (length(payment_hash) = 32),
  service      TEXT    NOT NULL CHECK (service <> ''),
  network      TEXT    NOT NULL CHECK (network <> ''),
  day          INTEGER NOT NULL,
  uses         INTEGER NOT NULL,
  bytes        INTEGER NOT NULL,
  refused      INTEGER NOT NULL,
  given_back   INTEGER NOT NULL,
  PRIMARY KEY (payment_hash, service, network, day)
) STRICT;

CREATE INDEX bought_day ON bought (day);
