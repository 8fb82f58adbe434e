-- name: data_releases
SELECT name, release_id FROM phdl.data_release ORDER BY release_id;

-- name: catalog_releases
-- All catalogue releases, or the one of a name, newest first.
SELECT c.catalog_release_id, c.name, m.name AS model, m.model_version_id, m.label_names, k.name AS calibration_set,
       c.state, c.selection, c.schema_version, c.code_version, c.checksum, c.n_rows, c.created_at, c.built_at,
       c.published_at, c.superseded_at
FROM phdl.catalog_release c
JOIN phdl.model_version m USING (model_version_id)
LEFT JOIN phdl.calibration_set k USING (calibration_set_id)
WHERE CAST(:name AS text) IS NULL OR c.name = :name
ORDER BY c.catalog_release_id DESC;

-- name: insert_release
INSERT INTO phdl.catalog_release
    (name, model_version_id, calibration_set_id, selection, schema_version, code_version)
VALUES (:name, :model_version_id, :calibration_set_id, CAST(:selection AS jsonb), :schema_version, :code_version)
RETURNING catalog_release_id;

-- name: insert_flag
INSERT INTO phdl.flag_definition (catalog_release_id, column_name, bit, name, description)
VALUES (:catalog_release_id, :column_name, :bit, :name, :description);

-- name: delete_release
DELETE FROM phdl.catalog_release WHERE catalog_release_id = :catalog_release_id;

-- name: mark_candidate
UPDATE phdl.catalog_release
SET state = 'candidate', checksum = :checksum, n_rows = :n_rows, built_at = :built_at
WHERE catalog_release_id = :catalog_release_id AND state = 'draft';

-- name: mark_superseded
UPDATE phdl.catalog_release SET state = 'superseded', superseded_at = clock_timestamp()
WHERE state = 'published'
RETURNING name;

-- name: mark_published
-- A release that comes back keeps the time of its publication unless it is published anew.
UPDATE phdl.catalog_release
SET state = 'published', superseded_at = NULL,
    published_at = CASE WHEN :anew THEN clock_timestamp() ELSE published_at END
WHERE catalog_release_id = :catalog_release_id;

-- name: table_exists
SELECT to_regclass(:table) IS NOT NULL;

-- name: last_built
-- When a release's table was made, and of what.
SELECT happened_at, detail FROM phdl.event
WHERE subject = :subject AND action = 'built'
ORDER BY event_id DESC LIMIT 1;

-- name: published_instead_of
-- Which release a release took the place of when it was last published.
SELECT detail ->> 'superseded' FROM phdl.event
WHERE subject = :subject AND action = 'published'
ORDER BY event_id DESC LIMIT 1;
