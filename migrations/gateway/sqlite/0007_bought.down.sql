DROP TABLE bought;
