DROP TABLE gateway_key_use;
