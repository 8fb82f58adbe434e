-- A chunk that has a lease is running, one that has an end is in a final state, and all others are planned or queued
-- (the table's CHECKs).  The steps of one chunk ask so, and not for its state: there are small partial indexes on
-- states, and where the planner believes such an index to be empty it takes it instead of the key.

-- name: claim
-- Take a chunk: attempt + 1 and a lease.  No row: it is done, somebody else has it, its run is not running, or
-- the schema was upgraded and this worker is of the code before.
UPDATE phdl.fit_chunk AS c
SET state = 'running',
    attempt = c.attempt + 1,
    worker = :worker,
    started_at = clock_timestamp(),
    lease_until = clock_timestamp() + make_interval(secs => :lease),
    error_kind = NULL,
    error_text = NULL
FROM phdl.fit_run AS r
JOIN phdl.model_version AS m USING (model_version_id)
WHERE c.fit_chunk_id = :chunk
  AND r.fit_run_id = c.fit_run_id
  AND r.state IN ('planned', 'running')
  AND c.lease_until IS NULL AND c.finished_at IS NULL
  AND (c.state <> 'planned' OR c.due_at <= clock_timestamp())
  AND EXISTS (SELECT FROM phdl.alembic_version WHERE version_num = :revision)
RETURNING c.fit_chunk_id, c.fit_run_id, c.attempt, c.failures, c.spectrum_ids, r.configuration,
          m.model_version_id, m.name AS model, m.uri AS model_uri, m.sha256 AS model_sha256;

-- name: extend_lease
-- A heartbeat; no row: the chunk belongs to somebody else now, or to nobody.
UPDATE phdl.fit_chunk
SET lease_until = clock_timestamp() + make_interval(secs => :lease)
WHERE fit_chunk_id = :chunk AND attempt = :attempt AND worker = :worker AND lease_until IS NOT NULL
RETURNING fit_chunk_id;

-- name: close
-- The last statement of the transaction that writes the labels; no row: roll everything back.
UPDATE phdl.fit_chunk
SET state = 'done',
    lease_until = NULL,
    finished_at = clock_timestamp(),
    n_fitted = :n_fitted,
    n_failed = :n_failed,
    read_seconds = :read_seconds,
    fit_seconds = :fit_seconds,
    write_seconds = :write_seconds,
    error_kind = NULL,
    error_text = NULL
WHERE fit_chunk_id = :chunk AND attempt = :attempt AND worker = :worker AND lease_until IS NOT NULL
RETURNING fit_chunk_id;

-- name: was_closed_by
-- Whether an attempt did close the chunk: the answer to a commit whose own answer was lost.
SELECT count(*) FROM phdl.fit_chunk
WHERE fit_chunk_id = :chunk AND attempt = :attempt AND worker = :worker AND state = 'done';

-- name: hand_back
-- Give a chunk back unfinished: after a shutdown (no error), or to be tried again after a while.
UPDATE phdl.fit_chunk
SET state = 'planned',
    lease_until = NULL,
    due_at = clock_timestamp() + make_interval(secs => :delay),
    failures = failures + :failures,
    error_kind = :error_kind,
    error_text = :error_text
WHERE fit_chunk_id = :chunk AND attempt = :attempt AND worker = :worker AND lease_until IS NOT NULL
RETURNING fit_chunk_id, failures;

-- name: lock_running
-- Hold a chunk that an attempt still owns, to decide what becomes of it.
SELECT c.fit_chunk_id, c.fit_run_id, c.attempt, c.failures, c.priority, c.worker, c.spectrum_ids, r.model_version_id
FROM phdl.fit_chunk AS c
JOIN phdl.fit_run AS r USING (fit_run_id)
WHERE c.fit_chunk_id = :chunk AND c.attempt = :attempt AND c.worker = :worker AND c.lease_until IS NOT NULL
FOR UPDATE OF c;

-- name: split
UPDATE phdl.fit_chunk
SET state = 'split', lease_until = NULL, finished_at = clock_timestamp(), failures = failures + 1,
    error_kind = :error_kind, error_text = :error_text
WHERE fit_chunk_id = :chunk;

-- name: add_half
INSERT INTO phdl.fit_chunk (fit_run_id, parent_chunk_id, priority, spectrum_ids)
VALUES (:run, :parent, :priority, :spectrum_ids)
RETURNING fit_chunk_id;

-- name: quarantine
UPDATE phdl.fit_chunk
SET state = 'quarantined', lease_until = NULL, finished_at = clock_timestamp(), failures = failures + 1,
    error_kind = :error_kind, error_text = :error_text
WHERE fit_chunk_id = :chunk;

-- name: obsid
-- As text: JSON has no 64-bit integers.
SELECT obsid::text FROM phdl.spectrum WHERE spectrum_id = :spectrum_id;

-- name: expire_of_worker
-- The process that has the chunk is known to be dead: its lease ends now.
UPDATE phdl.fit_chunk
SET lease_until = clock_timestamp(), error_kind = 'lost', error_text = :error_text
WHERE fit_chunk_id = :chunk AND worker = :worker AND lease_until IS NOT NULL
RETURNING fit_chunk_id;

-- name: expired
-- Chunks whose worker no longer answers; those another transaction works on are left to it.
SELECT fit_chunk_id, attempt, worker, lease_until, error_kind, error_text FROM phdl.fit_chunk
WHERE state = 'running' AND lease_until < clock_timestamp()
ORDER BY fit_chunk_id
LIMIT :limit
FOR UPDATE SKIP LOCKED;

-- name: due
-- Planned chunks of running runs that may be published, the most urgent first.
SELECT c.fit_chunk_id, c.fit_run_id, c.failures, c.error_kind, c.error_text
FROM phdl.fit_chunk AS c
JOIN phdl.fit_run AS r USING (fit_run_id)
WHERE c.state = 'planned' AND c.due_at <= clock_timestamp() AND r.state IN ('planned', 'running')
ORDER BY c.priority DESC, c.due_at, c.fit_chunk_id
LIMIT :limit
FOR UPDATE OF c SKIP LOCKED;

-- name: mark_published
UPDATE phdl.fit_chunk SET state = 'queued', published_at = clock_timestamp()
WHERE fit_chunk_id = ANY(:chunks);

-- name: republish
-- Published some time ago and claimed by nobody: the broker may have lost the message.
UPDATE phdl.fit_chunk SET published_at = clock_timestamp()
WHERE fit_chunk_id IN (
    SELECT c.fit_chunk_id
    FROM phdl.fit_run AS r
    JOIN phdl.fit_chunk AS c USING (fit_run_id)
    WHERE r.state IN ('planned', 'running') AND c.state = 'queued'
      AND c.published_at < clock_timestamp() - make_interval(secs => :age)
    ORDER BY c.fit_chunk_id
    LIMIT :limit
    FOR UPDATE OF c SKIP LOCKED
)
RETURNING fit_chunk_id;

-- name: in_flight
-- Chunks the broker was told of, and chunks that workers have.
SELECT count(*) FILTER (WHERE c.state = 'queued') AS queued,
       count(*) FILTER (WHERE c.state = 'running') AS running
FROM phdl.fit_run AS r
JOIN phdl.fit_chunk AS c USING (fit_run_id)
WHERE r.state IN ('planned', 'running') AND c.state IN ('queued', 'running');

-- name: oldest_due
-- How long the most urgent chunk that could run has waited [s].
SELECT extract(epoch FROM clock_timestamp() - c.due_at)::double precision
FROM phdl.fit_chunk AS c
JOIN phdl.fit_run AS r USING (fit_run_id)
WHERE c.state IN ('planned', 'queued') AND c.due_at <= clock_timestamp() AND r.state IN ('planned', 'running')
ORDER BY c.priority DESC, c.due_at, c.fit_chunk_id
LIMIT 1;

-- name: unfinished
-- Whether anything of any running run is left to do.
SELECT EXISTS (
    SELECT FROM phdl.fit_run AS r WHERE r.state IN ('planned', 'running')
);
