-- name: usable_fits
-- Spectra with a fit by one model that nothing speaks against; the better ones of a star are chosen later.
SELECT s.spectrum_id, coalesce(s.gaia_source_id, -1) AS gaia_source_id, coalesce(s.obsid, -1) AS obsid,
       s.ra, s.dec, coalesce(f.snr, s.snr_g) AS snr
FROM phdl.fit AS f
JOIN phdl.spectrum AS s USING (spectrum_id)
JOIN phdl.data_release AS d USING (release_id)
WHERE f.model_version_id = :model_version_id
  AND f.label_values IS NOT NULL
  AND f.flags & CAST(:refused AS bigint) = 0
  AND coalesce(f.snr, s.snr_g) >= :min_snr
  AND (CAST(:release AS text) IS NULL OR d.name = :release)
ORDER BY s.spectrum_id;

-- name: labels_of
-- Labels, errors, covariance and flags of some spectra by one model.
SELECT spectrum_id, label_values, label_errors, label_flags, label_covariance, coalesce(f.snr, s.snr_g) AS snr
FROM phdl.fit AS f
JOIN phdl.spectrum AS s USING (spectrum_id)
WHERE model_version_id = :model_version_id AND spectrum_id = ANY(:spectrum_ids)
ORDER BY spectrum_id;

-- name: pairs
SELECT wide_binary_id, chance_probability,
       coalesce(gaia_source_id_a, -1), coalesce(obsid_a, -1), ra_a, dec_a, pmra_a, pmdec_a,
       coalesce(gaia_source_id_b, -1), coalesce(obsid_b, -1), ra_b, dec_b, pmra_b, pmdec_b
FROM phdl.wide_binary
ORDER BY wide_binary_id;

-- name: references
-- In an order that does not depend on when a value was imported.
SELECT survey, star_name, label, reference_label_id, coalesce(gaia_source_id, -1), coalesce(obsid, -1), ra, dec,
       pmra, pmdec, value, error
FROM phdl.reference_label
WHERE label = ANY(:labels)
ORDER BY survey, star_name, label;

-- name: lock_sets
-- One at a time names a new set of a model, or certifies one.
SELECT pg_advisory_xact_lock(hashtextextended('phdl calibration ' || :model, 0));

-- name: same_set
-- A set made of the same input by the same code with the same configuration.
SELECT name FROM phdl.calibration_set
WHERE model_version_id = :model_version_id AND input_hash = :input_hash
  AND configuration_hash = :configuration_hash AND code_version = :code_version
ORDER BY calibration_set_id LIMIT 1;

-- name: count_sets
SELECT count(*) FROM phdl.calibration_set WHERE model_version_id = :model_version_id;

-- name: insert_set
INSERT INTO phdl.calibration_set
    (name, model_version_id, configuration, configuration_hash, input_hash, code_version, report)
VALUES
    (:name, :model_version_id, CAST(:configuration AS jsonb), :configuration_hash, :input_hash, :code_version,
     CAST(:report AS jsonb))
RETURNING calibration_set_id;

-- name: sets
-- One or all sets, the newest last.
SELECT c.calibration_set_id, c.name, c.view_name, m.name AS model, c.model_version_id, c.state, c.configuration, c.report,
       c.code_version, c.configuration_hash, c.input_hash, c.created_at, c.certified_at, c.superseded_at
FROM phdl.calibration_set AS c
JOIN phdl.model_version AS m USING (model_version_id)
WHERE (CAST(:name AS text) IS NULL OR c.name = :name)
  AND (CAST(:model AS text) IS NULL OR m.name = :model)
  AND (CAST(:state AS text) IS NULL OR c.state = :state)
ORDER BY c.calibration_set_id;

-- name: offsets
SELECT label, basis, coefficients, covariance, validity, report, n_repeats, error_scale, error_slope, error_floor
FROM phdl.calibration_offset
WHERE calibration_set_id = :calibration_set_id;

-- name: create_view
SELECT phdl.create_calibration_view(:calibration_set_id);

-- name: show_view
-- From now on the reader may look at it.
SELECT phdl.show_calibration_view(:calibration_set_id);

-- name: supersede
UPDATE phdl.calibration_set
SET state = 'superseded', superseded_at = clock_timestamp()
WHERE model_version_id = :model_version_id AND state = 'certified'
RETURNING name;

-- name: certify
UPDATE phdl.calibration_set
SET state = 'certified', certified_at = clock_timestamp()
WHERE calibration_set_id = :calibration_set_id AND state = 'draft'
RETURNING name;

-- name: common_fits
-- Labels of the same spectra by two models (or one): a sample that is the same every time.
SELECT a.label_values AS values_a, b.label_values AS values_b, a.label_errors AS errors_a, b.label_errors AS errors_b
FROM phdl.fit AS a
JOIN phdl.fit AS b USING (spectrum_id)
WHERE a.model_version_id = :model_a AND b.model_version_id = :model_b
  AND a.label_values IS NOT NULL AND b.label_values IS NOT NULL
  AND a.flags & CAST(:refused AS bigint) = 0 AND b.flags & CAST(:refused AS bigint) = 0
ORDER BY hashint8(spectrum_id), spectrum_id
LIMIT :limit;

-- name: members
-- The equations of one label of one kind, with the teff of their stars.
SELECT a.label_values[:teff], b.label_values[:teff], a.label_values[:value], m.residual_before, m.residual_after,
       m.error, m.weight, m.held_out::integer
FROM phdl.calibration_member AS m
JOIN phdl.fit AS a ON a.model_version_id = :model_version_id AND a.spectrum_id = m.spectrum_id_a
LEFT JOIN phdl.fit AS b ON b.model_version_id = :model_version_id AND b.spectrum_id = m.spectrum_id_b
WHERE m.calibration_set_id = :calibration_set_id AND m.label = :label AND m.kind = :kind
ORDER BY m.calibration_member_id;

-- name: member_stars
SELECT f.label_values[:teff], f.label_values[:logg], f.label_values[:fe_h]
FROM phdl.fit AS f
WHERE f.model_version_id = :model_version_id AND f.spectrum_id IN (
    SELECT spectrum_id_a FROM phdl.calibration_member
    WHERE calibration_set_id = :calibration_set_id AND kind <> 'repeat'
    UNION
    SELECT spectrum_id_b FROM phdl.calibration_member
    WHERE calibration_set_id = :calibration_set_id AND kind = 'pair')
ORDER BY f.spectrum_id;

-- name: common_counts
-- Spectra fitted by two models: how many are usable, and how well they are fitted.
WITH both_models AS (
    SELECT a.chi2 AS chi2_a, b.chi2 AS chi2_b,
           a.label_values IS NOT NULL AND a.flags & CAST(:refused AS bigint) = 0 AS good_a,
           b.label_values IS NOT NULL AND b.flags & CAST(:refused AS bigint) = 0 AS good_b
    FROM phdl.fit AS a
    JOIN phdl.fit AS b USING (spectrum_id)
    WHERE a.model_version_id = :model_a AND b.model_version_id = :model_b
)
SELECT count(*) AS common, count(*) FILTER (WHERE good_a AND good_b) AS usable_both,
       count(*) FILTER (WHERE good_a AND NOT good_b) AS usable_a_only,
       count(*) FILTER (WHERE good_b AND NOT good_a) AS usable_b_only,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY chi2_a) FILTER (WHERE good_a AND good_b) AS chi2_a,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY chi2_b) FILTER (WHERE good_a AND good_b) AS chi2_b
FROM both_models;
