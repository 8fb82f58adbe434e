-- name: add
-- A request after a run that has an open one already is that one.
INSERT INTO phdl.calibration_request (request, after_fit_run_id)
VALUES (CAST(:request AS jsonb), :run)
ON CONFLICT (after_fit_run_id) WHERE state IN ('planned', 'queued', 'running') DO NOTHING
RETURNING calibration_request_id;

-- name: open_of_run
SELECT calibration_request_id FROM phdl.calibration_request
WHERE after_fit_run_id = :run AND state IN ('planned', 'queued', 'running');

-- name: take_due
-- Requests the broker is to be told of: new ones whose run is done, and those nobody claimed for a while.
UPDATE phdl.calibration_request AS q
SET state = 'queued', published_at = clock_timestamp()
WHERE (q.state = 'planned' AND (q.after_fit_run_id IS NULL OR EXISTS (
           SELECT FROM phdl.fit_run AS r WHERE r.fit_run_id = q.after_fit_run_id AND r.state = 'done')))
   OR (q.state = 'queued' AND q.published_at < clock_timestamp() - make_interval(secs => :age))
RETURNING q.calibration_request_id;

-- name: fail_hopeless
-- Requests whose run was cancelled.
UPDATE phdl.calibration_request AS q
SET state = 'failed', finished_at = clock_timestamp(),
    error_text = 'run ' || q.after_fit_run_id || ' was cancelled'
WHERE q.state = 'planned' AND EXISTS (
    SELECT FROM phdl.fit_run AS r WHERE r.fit_run_id = q.after_fit_run_id AND r.state = 'cancelled')
RETURNING q.calibration_request_id;

-- name: take_back
-- Requests whose worker is silent: again, but not for ever.
UPDATE phdl.calibration_request
SET state = CASE WHEN attempt < :most THEN 'planned' ELSE 'failed' END,
    lease_until = NULL,
    finished_at = CASE WHEN attempt < :most THEN NULL ELSE clock_timestamp() END,
    error_text = CASE WHEN attempt < :most THEN NULL ELSE 'its worker died ' || attempt || ' times' END
WHERE state = 'running' AND lease_until < clock_timestamp()
RETURNING calibration_request_id, state;

-- name: claim
UPDATE phdl.calibration_request
SET state = 'running', attempt = attempt + 1, worker = :worker,
    lease_until = clock_timestamp() + make_interval(secs => :lease)
WHERE calibration_request_id = :number AND state IN ('planned', 'queued')
RETURNING attempt, request;

-- name: extend
UPDATE phdl.calibration_request SET lease_until = clock_timestamp() + make_interval(secs => :lease)
WHERE calibration_request_id = :number AND attempt = :attempt AND state = 'running';

-- name: close
UPDATE phdl.calibration_request
SET state = 'done', lease_until = NULL, finished_at = clock_timestamp(), is_new = :is_new,
    calibration_set_id = (SELECT calibration_set_id FROM phdl.calibration_set WHERE name = :set)
WHERE calibration_request_id = :number AND attempt = :attempt AND state = 'running'
RETURNING calibration_request_id;

-- name: fail
UPDATE phdl.calibration_request
SET state = 'failed', lease_until = NULL, finished_at = clock_timestamp(), error_text = :error
WHERE calibration_request_id = :number AND attempt = :attempt AND state = 'running'
RETURNING calibration_request_id;

-- name: list
SELECT q.calibration_request_id AS number, q.request ->> 'model' AS model, q.after_fit_run_id AS run, q.state,
       s.name AS calibration_set, q.is_new, q.error_text, q.attempt, q.worker, q.created_at, q.finished_at
FROM phdl.calibration_request AS q
LEFT JOIN phdl.calibration_set AS s USING (calibration_set_id)
WHERE CAST(:number AS bigint) IS NULL OR q.calibration_request_id = :number
ORDER BY q.calibration_request_id;

-- name: unfinished
-- Whether anything is to be done that no cancelled or paused run holds up.
SELECT EXISTS (
    SELECT FROM phdl.calibration_request AS q
    LEFT JOIN phdl.fit_run AS r ON r.fit_run_id = q.after_fit_run_id
    WHERE q.state IN ('queued', 'running') OR q.state = 'planned' AND (r.state IS NULL OR r.state = 'done'));
