DROP TABLE revocation_change;
DROP TABLE revocation;
