DROP TABLE test_wallet_payments;
