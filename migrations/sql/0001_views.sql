-- Views over the labels.  CREATE OR REPLACE throughout: this file can run again at any time.

CREATE OR REPLACE VIEW phdl.label_long AS
SELECT m.name AS model,
       r.name AS release,
       s.obsid,
       s.gaia_source_id,
       l.label,
       l.value,
       l.error,
       l.flag,
       f.flags,
       f.spectrum_id,
       f.model_version_id,
       f.fit_run_id
FROM phdl.fit f
JOIN phdl.model_version m USING (model_version_id)
JOIN phdl.spectrum s USING (spectrum_id)
JOIN phdl.data_release r USING (release_id)
CROSS JOIN LATERAL unnest(m.label_names, f.label_values, f.label_errors, f.label_flags)
    AS l (label, value, error, flag);

COMMENT ON VIEW phdl.label_long IS 'One row a label of every fit, uncalibrated';
COMMENT ON COLUMN phdl.label_long.model IS 'Name of the model version';
COMMENT ON COLUMN phdl.label_long.release IS 'Name of the data release';
COMMENT ON COLUMN phdl.label_long.obsid IS 'The survey''s identifier of the observation';
COMMENT ON COLUMN phdl.label_long.gaia_source_id IS 'Gaia DR3 source, where known';
COMMENT ON COLUMN phdl.label_long.label IS 'Name of the label';
COMMENT ON COLUMN phdl.label_long.value IS 'Value, uncalibrated, in the label''s unit; NULL where the fit failed';
COMMENT ON COLUMN phdl.label_long.error IS 'One sigma error';
COMMENT ON COLUMN phdl.label_long.flag IS 'Bits about this label';
COMMENT ON COLUMN phdl.label_long.flags IS 'Bits about the whole fit';
COMMENT ON COLUMN phdl.label_long.spectrum_id IS 'Key of the spectrum';
COMMENT ON COLUMN phdl.label_long.model_version_id IS 'Key of the model version';
COMMENT ON COLUMN phdl.label_long.fit_run_id IS 'Run that wrote the fit';

-- The partition of a model's fits and the view with its labels as named columns.
-- The partition is made apart and attached, which does not wait for the writers of other models.
CREATE OR REPLACE FUNCTION phdl.create_model_objects(model_id integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    model phdl.model_version;
    partition text := 'fit_model_' || model_id;
    columns text := '';
    position integer := 0;
    label text;
    column_name text;
    comment text;
BEGIN
    SELECT * INTO STRICT model FROM phdl.model_version WHERE model_version_id = model_id;

    IF to_regclass('phdl.' || partition) IS NULL THEN
        EXECUTE format('CREATE TABLE phdl.%I (LIKE phdl.fit INCLUDING ALL)', partition);
        EXECUTE format('ALTER TABLE phdl.fit ATTACH PARTITION phdl.%I FOR VALUES IN (%s)', partition, model_id);
    END IF;

    FOREACH label IN ARRAY model.label_names LOOP
        position := position + 1;
        columns := columns || format(
            ', f.label_values[%1$s] AS %2$I, f.label_errors[%1$s] AS %3$I, f.label_flags[%1$s] AS %4$I',
            position, label, 'e_' || label, 'flag_' || label);
    END LOOP;

    EXECUTE format($view$
        CREATE OR REPLACE VIEW phdl.%I AS
        SELECT s.obsid, r.name AS release, s.gaia_source_id, s.ra, s.dec, s.snr_g,
               f.flags, f.chi2, f.rv, f.e_rv, f.snr, f.distance, f.n_pixels, f.fit_run_id, f.spectrum_id,
               f.fitted_at %s
        FROM phdl.fit f
        JOIN phdl.spectrum s USING (spectrum_id)
        JOIN phdl.data_release r USING (release_id)
        WHERE f.model_version_id = %s
    $view$, model.view_name, columns, model_id);

    EXECUTE format('COMMENT ON VIEW phdl.%I IS %L', model.view_name,
                   'One row a fit by model ' || model.name || ', labels uncalibrated, as named columns');
    FOREACH label IN ARRAY model.label_names LOOP
        EXECUTE format('COMMENT ON COLUMN phdl.%I.%I IS %L', model.view_name, label,
                       'Label ' || label || ', uncalibrated; NULL where the fit failed');
        EXECUTE format('COMMENT ON COLUMN phdl.%I.%I IS %L', model.view_name, 'e_' || label,
                       'One sigma error of ' || label);
        EXECUTE format('COMMENT ON COLUMN phdl.%I.%I IS %L', model.view_name, 'flag_' || label,
                       'Bits about ' || label);
    END LOOP;
    -- The other columns mean what they mean in their tables.
    FOR column_name, comment IN
        SELECT DISTINCT ON (a.attname) a.attname, col_description(a.attrelid, a.attnum)
        FROM pg_attribute a
        WHERE a.attrelid IN ('phdl.fit'::regclass, 'phdl.spectrum'::regclass)
          AND a.attname IN ('obsid', 'gaia_source_id', 'ra', 'dec', 'snr_g', 'flags', 'chi2', 'rv', 'e_rv', 'snr',
                            'distance', 'n_pixels', 'fit_run_id', 'spectrum_id', 'fitted_at')
        ORDER BY a.attname, a.attrelid = 'phdl.fit'::regclass DESC
    LOOP
        EXECUTE format('COMMENT ON COLUMN phdl.%I.%I IS %L', model.view_name, column_name, comment);
    END LOOP;
    EXECUTE format('COMMENT ON COLUMN phdl.%I.release IS %L', model.view_name, 'Name of the data release');

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'phdl_reader') THEN
        EXECUTE format('GRANT SELECT ON phdl.%I TO phdl_reader', model.view_name);
    END IF;
END
$$;
COMMENT ON FUNCTION phdl.create_model_objects IS
    'Makes the partition of phdl.fit and the view labels_<model> of one model version; runs by itself at registration';

CREATE OR REPLACE FUNCTION phdl.model_registered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM phdl.create_model_objects(NEW.model_version_id);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER model_registered AFTER INSERT ON phdl.model_version
    FOR EACH ROW EXECUTE FUNCTION phdl.model_registered();

SELECT phdl.create_model_objects(model_version_id) FROM phdl.model_version;
