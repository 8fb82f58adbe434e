-- Runs are locked FOR NO KEY UPDATE: a stronger lock would hold up every worker that writes fits of the run, since the
-- foreign key of a fit locks the key of its run.

-- name: lock_enqueue
-- One enqueue at a time for the same release and model.
SELECT pg_advisory_xact_lock(hashtextextended('phdl fit enqueue ' || :release_id || ' ' || :model_version_id, 0));

-- name: find_same
SELECT fit_run_id, state, priority FROM phdl.fit_run
WHERE release_id = :release_id AND model_version_id = :model_version_id
  AND configuration_hash = :configuration_hash
  AND selection_hash = md5(CAST(:selection AS jsonb)::text) AND state <> 'cancelled'
FOR NO KEY UPDATE;

-- name: insert_run
INSERT INTO phdl.fit_run
    (release_id, model_version_id, selection, configuration, configuration_hash, code_version, priority)
VALUES
    (:release_id, :model_version_id, CAST(:selection AS jsonb), CAST(:configuration AS jsonb),
     :configuration_hash, :code_version, :priority)
RETURNING fit_run_id;

-- name: covered
-- Spectra that some run with the same release, model and configuration has, or had and finished; one may come twice.
CREATE TEMPORARY TABLE covered_spectrum ON COMMIT DROP AS
SELECT unnest(c.spectrum_ids) AS spectrum_id
FROM phdl.fit_run AS r
JOIN phdl.fit_chunk AS c USING (fit_run_id)
WHERE r.release_id = :release_id AND r.model_version_id = :model_version_id
  AND r.configuration_hash = :configuration_hash
  AND c.state NOT IN ('split', 'cancelled');

-- name: reopen
UPDATE phdl.fit_run SET state = 'running', finished_at = NULL WHERE fit_run_id = :run AND state = 'done';

-- name: find_run
-- By number; locked, since what is decided about it must still hold when it is written.
SELECT r.fit_run_id, r.state, d.name AS release, m.name AS model
FROM phdl.fit_run AS r
JOIN phdl.data_release AS d USING (release_id)
JOIN phdl.model_version AS m USING (model_version_id)
WHERE r.fit_run_id = :run
FOR NO KEY UPDATE OF r;

-- name: cancel_chunks
-- Also those that are running: their workers find, at the end, that they own them no longer.
UPDATE phdl.fit_chunk
SET state = 'cancelled', lease_until = NULL, finished_at = clock_timestamp()
WHERE fit_run_id = :run AND state IN ('planned', 'queued', 'running')
RETURNING n_spectra;

-- name: set_state
UPDATE phdl.fit_run
SET state = CAST(:state AS text),
    finished_at = CASE WHEN CAST(:state AS text) IN ('done', 'cancelled') THEN clock_timestamp() END
WHERE fit_run_id = :run;

-- name: set_priority
UPDATE phdl.fit_run SET priority = :priority WHERE fit_run_id = :run AND priority <> :priority RETURNING fit_run_id;

-- name: set_chunk_priority
-- Of what the broker was not told of yet, and of what may come back.
UPDATE phdl.fit_chunk SET priority = :priority
WHERE fit_run_id = :run AND state IN ('planned', 'queued', 'running')
RETURNING n_spectra;

-- name: started
-- A run that somebody is adding to is left alone, and marked the next time.
UPDATE phdl.fit_run SET state = 'running' WHERE fit_run_id IN (
    SELECT fit_run_id FROM phdl.fit_run WHERE fit_run_id = ANY(:runs) AND state = 'planned'
    ORDER BY fit_run_id FOR NO KEY UPDATE SKIP LOCKED
);

-- name: retry_quarantined
UPDATE phdl.fit_chunk
SET state = 'planned', finished_at = NULL, failures = 0, due_at = clock_timestamp(),
    error_kind = NULL, error_text = NULL
WHERE fit_run_id = :run AND state = 'quarantined'
RETURNING n_spectra;

-- name: retry_waiting
-- Chunks that wait for another try after an error are due at once.
UPDATE phdl.fit_chunk
SET failures = 0, due_at = clock_timestamp(), error_kind = NULL, error_text = NULL
WHERE fit_run_id = :run AND state = 'planned' AND error_kind IS NOT NULL
RETURNING n_spectra;

-- name: retry_failed
-- Whole chunks in which some spectrum got no labels.
UPDATE phdl.fit_chunk
SET state = 'planned', finished_at = NULL, failures = 0, due_at = clock_timestamp(),
    n_fitted = NULL, n_failed = NULL
WHERE fit_run_id = :run AND state = 'done' AND n_failed > 0
RETURNING n_spectra;

-- name: lock_active
-- Runs that may be finished; one that somebody is adding to is left alone.
SELECT fit_run_id FROM phdl.fit_run WHERE state IN ('planned', 'running')
ORDER BY fit_run_id FOR NO KEY UPDATE SKIP LOCKED;

-- name: finish
UPDATE phdl.fit_run AS r
SET state = 'done', finished_at = clock_timestamp()
WHERE r.fit_run_id = ANY(:runs) AND NOT EXISTS (
    SELECT FROM phdl.fit_chunk AS c
    WHERE c.fit_run_id = r.fit_run_id AND c.state IN ('planned', 'queued', 'running')
)
RETURNING r.fit_run_id;

-- name: hopeless
-- Runs of which nothing was ever fitted and much was given up: the fault is hardly that of the spectra.
SELECT r.fit_run_id, q.spectra
FROM phdl.fit_run AS r
CROSS JOIN LATERAL (
    SELECT count(*) AS spectra FROM phdl.fit_chunk AS c
    WHERE c.fit_run_id = r.fit_run_id AND c.state = 'quarantined'
) AS q
WHERE r.state IN ('planned', 'running') AND q.spectra >= :most AND NOT EXISTS (
    SELECT FROM phdl.fit_chunk AS c WHERE c.fit_run_id = r.fit_run_id AND c.state = 'done'
);
