DROP TABLE use_hold;
DROP TABLE use_counter;
