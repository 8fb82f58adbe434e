-- name: usable_spectra
-- Every spectrum a catalogue may use: fitted by the model, good enough, of the releases asked for.
SELECT s.spectrum_id, s.obsid, s.gaia_source_id, s.healpix_29, s.ra, s.dec, s.snr_g, s.release_id
FROM phdl.fit f
JOIN phdl.spectrum s USING (spectrum_id)
WHERE f.model_version_id = :model_version_id
  AND f.label_values IS NOT NULL
  AND f.flags & :rejecting_mask = 0
  AND s.state = 'accepted'
  AND s.snr_g >= :snr_g_min
  AND (CAST(:release_ids AS integer[]) IS NULL OR s.release_id = ANY (:release_ids))
  AND (CAST(:spectrum_ids AS bigint[]) IS NULL OR s.spectrum_id = ANY (:spectrum_ids))
ORDER BY s.spectrum_id;

-- name: fits
-- Fits of some spectra, arrays in PostgreSQL's binary form, missing elements as NaN.
SELECT s.spectrum_id, s.obsid, coalesce(s.gaia_source_id, -1) AS gaia_source_id,
       coalesce(s.healpix_29, -1) AS healpix_29, coalesce(s.ra, 'NaN') AS ra, coalesce(s.dec, 'NaN') AS dec,
       r.name AS data_release, s.snr_g, coalesce(f.snr, s.snr_g, 'NaN') AS snr,
       coalesce(f.rv, 'NaN') AS rv, coalesce(f.e_rv, 'NaN') AS e_rv, f.chi2, f.flags,
       array_send(array_replace(f.label_values, NULL, 'NaN'::real)) AS labels,
       array_send(array_replace(f.label_errors, NULL, 'NaN'::real)) AS errors,
       array_send(f.label_flags) AS label_flags
FROM phdl.fit f
JOIN phdl.spectrum s USING (spectrum_id)
JOIN phdl.data_release r USING (release_id)
WHERE f.model_version_id = :model_version_id
  AND f.label_values IS NOT NULL
  AND f.spectrum_id = ANY (:spectrum_ids)
ORDER BY f.spectrum_id;
