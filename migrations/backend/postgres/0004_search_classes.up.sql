-- Search shows what it finds in the name first, then in name and description, then the rest. The words of those texts
-- alone have indexes of their own: a word that is in many descriptions and in no name is looked for in no description.
CREATE INDEX media_tsv_name ON media USING gin (ts_filter(tsv, '{a}')) WITH (fastupdate = off)
  WHERE public IS NOT FALSE OR price > 0;
CREATE INDEX media_tsv_description ON media USING gin (ts_filter(tsv, '{a,b}')) WITH (fastupdate = off)
  WHERE public IS NOT FALSE OR price > 0;
