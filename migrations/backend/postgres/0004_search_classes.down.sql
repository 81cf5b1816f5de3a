DROP INDEX media_tsv_description;
DROP INDEX media_tsv_name;
