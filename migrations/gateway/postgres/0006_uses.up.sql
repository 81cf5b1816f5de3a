-- The uses of tokens that the gateway counts itself: those of services whose server does not see the token. One row for
-- each counter of a token, a `large_upload_max_uses` caveat, once it was used; the first of them is the lock of all.
CREATE TABLE use_counter (
  payment_hash BYTEA  NOT NULL CHECK (length(payment_hash) = 32),
  counter_id   BYTEA  NOT NULL CHECK (length(counter_id) = 32),
  -- How many were used up.
  spent        BIGINT NOT NULL CHECK (spent >= 0),
  -- How often in a row a use was given back because the server behind did not answer.
  unanswered   BIGINT NOT NULL CHECK (unanswered >= 0),
  PRIMARY KEY (payment_hash, counter_id)
);

-- The uses that requests under way hold of each counter. A gateway that dies leaves them; they end with their lease (unix
-- seconds).
CREATE TABLE use_hold (
  hold_id      BYTEA  NOT NULL CHECK (length(hold_id) = 16),
  payment_hash BYTEA  NOT NULL,
  counter_id   BYTEA  NOT NULL,
  lease_until  BIGINT NOT NULL,
  PRIMARY KEY (hold_id, counter_id),
  FOREIGN KEY (payment_hash, counter_id) REFERENCES use_counter (payment_hash, counter_id)
);

CREATE INDEX use_hold_counter ON use_hold (payment_hash, counter_id);
