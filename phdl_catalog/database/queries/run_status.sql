-- name: runs
-- Runs with their totals over chunks.  A split chunk's spectra are those of its halves.  Of a selection by a list of
-- obsids, which may be long, their number.
SELECT r.fit_run_id AS run, d.name AS release, m.name AS model, r.state, r.priority,
       r.created_at, r.finished_at,
       CASE WHEN r.selection->'obsids' IS NULL THEN r.selection
            ELSE r.selection - 'obsids' || jsonb_build_object('n_obsids', jsonb_array_length(r.selection->'obsids'))
       END AS selection,
       t.state AS chunk_state, t.chunks, t.spectra, t.fitted, t.failed,
       t.first_started, t.last_finished, t.recent_spectra, t.recent_start, t.oldest_due, clock_timestamp() AS now
FROM phdl.fit_run AS r
JOIN phdl.data_release AS d USING (release_id)
JOIN phdl.model_version AS m USING (model_version_id)
LEFT JOIN (
    SELECT fit_run_id, state,
           count(*) AS chunks,
           sum(n_spectra) AS spectra,
           sum(n_fitted) AS fitted,
           sum(n_failed) AS failed,
           min(started_at) AS first_started,
           max(finished_at) AS last_finished,
           sum(n_spectra) FILTER (WHERE finished_at > clock_timestamp() - make_interval(secs => :window))
               AS recent_spectra,
           min(started_at) FILTER (WHERE finished_at > clock_timestamp() - make_interval(secs => :window))
               AS recent_start,
           min(due_at) AS oldest_due
    FROM phdl.fit_chunk
    WHERE CAST(:run AS integer) IS NULL OR fit_run_id = CAST(:run AS integer)
    GROUP BY fit_run_id, state
) AS t USING (fit_run_id)
WHERE CAST(:run AS integer) IS NULL OR r.fit_run_id = CAST(:run AS integer)
ORDER BY r.fit_run_id, t.state;

-- name: workers
-- Who works, or did a moment ago, and how fast.
SELECT worker,
       count(*) FILTER (WHERE state = 'running') AS running,
       coalesce(sum(n_spectra) FILTER (WHERE state = 'done'), 0) AS recent_spectra,
       min(started_at) FILTER (WHERE state = 'done') AS recent_start,
       max(lease_until) AS lease_until, clock_timestamp() AS now
FROM phdl.fit_chunk
WHERE worker IS NOT NULL
  AND (state = 'running' OR state = 'done' AND finished_at > clock_timestamp() - make_interval(secs => :window))
  AND (CAST(:run AS integer) IS NULL OR fit_run_id = CAST(:run AS integer))
GROUP BY worker
ORDER BY worker;

-- name: running_of
-- Chunks that some processes have now.
SELECT count(*) FROM phdl.fit_chunk WHERE state = 'running' AND worker = ANY(:workers);

-- name: errors
-- Last errors of chunks that are not done, by kind, with the text of the latest.
SELECT error_kind AS kind, count(*) AS chunks,
       (array_agg(error_text ORDER BY coalesce(finished_at, started_at) DESC NULLS LAST))[1] AS latest
FROM phdl.fit_chunk
WHERE error_kind IS NOT NULL AND (CAST(:run AS integer) IS NULL OR fit_run_id = CAST(:run AS integer))
GROUP BY error_kind
ORDER BY chunks DESC, kind;

-- name: rate
-- Spectra a second of one worker process with this model, over its latest chunks.
SELECT sum(n_spectra) / nullif(sum(fit_seconds + read_seconds + write_seconds), 0)
FROM (
    SELECT c.n_spectra, c.fit_seconds, c.read_seconds, c.write_seconds
    FROM phdl.fit_run AS r
    JOIN phdl.fit_chunk AS c USING (fit_run_id)
    WHERE r.model_version_id = :model_version_id AND c.state = 'done'
    ORDER BY c.finished_at DESC
    LIMIT 100
) AS latest;

-- name: partition_size
-- Bytes and rows of one model's fits, indexes included; rows as the planner knows them, since it counts in no time.
SELECT pg_total_relation_size(to_regclass('phdl.fit_model_' || CAST(:model_version_id AS integer))) AS bytes,
       coalesce((SELECT reltuples FROM pg_class
                 WHERE oid = to_regclass('phdl.fit_model_' || CAST(:model_version_id AS integer))), 0) AS fits;
