-- name: spectra
-- Every spectrum of an observation, in every data release.
SELECT s.spectrum_id, s.obsid, r.name AS data_release, s.release_id, s.state, s.reason, s.detail, s.uri, s.sha256,
       s.layout, s.gaia_source_id, s.ra, s.dec, s.healpix_29, s.mjd, s.snr_g, s.class, s.subclass, s.shard,
       s.shard_row
FROM phdl.spectrum s
JOIN phdl.data_release r USING (release_id)
WHERE s.obsid = :obsid
ORDER BY s.release_id DESC, s.spectrum_id DESC;

-- name: fits
-- Every fit of a spectrum, the last written first.
SELECT m.name AS model, f.model_version_id, f.spectrum_id, f.fit_run_id, f.fitted_at, f.flags, f.rv, f.e_rv, f.chi2,
       f.snr, f.distance, f.n_pixels, f.n_iterations, f.label_values, f.label_errors, f.label_flags, m.label_names
FROM phdl.fit f
JOIN phdl.model_version m USING (model_version_id)
WHERE f.spectrum_id = :spectrum_id
ORDER BY f.fitted_at DESC;

-- name: chunks
-- The jobs a spectrum was in, of all runs, the last first; a chunk that was split is followed by its parts.
SELECT c.fit_chunk_id, c.fit_run_id, m.name AS model, c.state, c.attempt, c.worker, c.error_kind, c.error_text,
       c.started_at, c.finished_at
FROM phdl.fit_chunk c
JOIN phdl.fit_run r USING (fit_run_id)
JOIN phdl.model_version m USING (model_version_id)
WHERE r.release_id = :release_id AND CAST(:spectrum_id AS bigint) = ANY (c.spectrum_ids)
ORDER BY c.fit_chunk_id DESC;

-- name: near
-- Accepted spectra that may be of the same star: same observation, same Gaia source, or in cells of the sky near it.
SELECT s.spectrum_id
FROM phdl.spectrum s
WHERE s.state = 'accepted'
  AND (s.obsid = :obsid OR s.gaia_source_id = CAST(:gaia_source_id AS bigint))
UNION
SELECT s.spectrum_id
FROM unnest(CAST(:lowest AS bigint[]), CAST(:highest AS bigint[])) AS cell (lowest, highest)
JOIN phdl.spectrum s ON s.state = 'accepted' AND s.healpix_29 BETWEEN cell.lowest AND cell.highest;
