-- name: any_between
-- Whether some spectrum between two has a fit by the model already: one step down an index.
SELECT EXISTS (
    SELECT FROM phdl.fit
    WHERE model_version_id = :model_version_id AND spectrum_id BETWEEN :first AND :last
);

-- name: any_there
-- Whether some of these spectra have a fit by the model already.
SELECT EXISTS (
    SELECT FROM phdl.fit
    WHERE model_version_id = :model_version_id AND spectrum_id = ANY(:spectrum_ids)
);

-- name: merge
-- From the temporary table into fit, in the order of the key.
INSERT INTO phdl.fit
    (spectrum_id, model_version_id, fit_run_id, flags, rv, e_rv, chi2, snr, distance, n_pixels, n_iterations,
     label_values, label_errors, label_flags, label_covariance)
SELECT spectrum_id, model_version_id, fit_run_id, flags, rv, e_rv, chi2, snr, distance, n_pixels, n_iterations,
       label_values, label_errors, label_flags, label_covariance
FROM staged_fit
ORDER BY spectrum_id
ON CONFLICT (spectrum_id, model_version_id) DO UPDATE SET
    fit_run_id = EXCLUDED.fit_run_id,
    fitted_at = EXCLUDED.fitted_at,
    flags = EXCLUDED.flags,
    rv = EXCLUDED.rv,
    e_rv = EXCLUDED.e_rv,
    chi2 = EXCLUDED.chi2,
    snr = EXCLUDED.snr,
    distance = EXCLUDED.distance,
    n_pixels = EXCLUDED.n_pixels,
    n_iterations = EXCLUDED.n_iterations,
    label_values = EXCLUDED.label_values,
    label_errors = EXCLUDED.label_errors,
    label_flags = EXCLUDED.label_flags,
    label_covariance = EXCLUDED.label_covariance;

-- name: write_failure
-- A spectrum that could not be fitted at all has a row too: no labels, and a flag that says so.  One that was removed
-- from its release has none.
INSERT INTO phdl.fit (spectrum_id, model_version_id, fit_run_id, flags, n_pixels)
SELECT spectrum_id, :model_version_id, :run, :flags, 0 FROM phdl.spectrum WHERE spectrum_id = :spectrum_id
ON CONFLICT (spectrum_id, model_version_id) DO UPDATE SET
    fit_run_id = EXCLUDED.fit_run_id,
    fitted_at = EXCLUDED.fitted_at,
    flags = EXCLUDED.flags,
    rv = NULL,
    e_rv = NULL,
    chi2 = NULL,
    snr = NULL,
    distance = NULL,
    n_pixels = 0,
    n_iterations = NULL,
    label_values = NULL,
    label_errors = NULL,
    label_flags = NULL,
    label_covariance = NULL;

-- name: addresses
-- Where the pixels of a chunk's spectra are.
SELECT spectrum_id, obsid, shard, shard_row
FROM phdl.spectrum
WHERE spectrum_id = ANY(:spectrum_ids) AND state = 'accepted'
ORDER BY spectrum_id;
