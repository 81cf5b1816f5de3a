-- What each payment bought, by service and day (days since 1970-01-01, UTC): requests that were answered with success and
-- the bytes of their bodies, those that were refused, and those that failed and cost nothing.
CREATE TABLE bought (
  payment_hash BYTEA  NOT NULL CHECK (length(payment_hash) = 32),
  service      TEXT   NOT NULL CHECK (service <> ''),
  network      TEXT   NOT NULL CHECK (network <> ''),
  day          BIGINT NOT NULL,
  uses         BIGINT NOT NULL,
  bytes        BIGINT NOT NULL,
  refused      BIGINT NOT NULL,
  given_back   BIGINT NOT NULL,
  PRIMARY KEY (payment_hash, service, network, day)
);

CREATE INDEX bought_day ON bought (day);
