-- name: columns
-- Columns of a table as the database has them.
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       col_description(a.attrelid, a.attnum) AS comment
FROM pg_attribute a
WHERE a.attrelid = CAST(:table AS regclass) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: reference_labels
-- Labels that references have.
SELECT DISTINCT label FROM phdl.reference_label WHERE label = ANY (:labels);
