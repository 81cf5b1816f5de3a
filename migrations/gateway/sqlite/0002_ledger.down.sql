DROP TABLE settle_index;
DROP TABLE payment;
