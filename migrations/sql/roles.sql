-- What the roles may do; run after every upgrade.  The owner is whoever runs it.

GRANT USAGE ON SCHEMA phdl TO phdl_worker, phdl_dispatcher, phdl_pages, phdl_reader;
GRANT USAGE ON SCHEMA catalog TO phdl_pages, phdl_reader;

-- The worker: reads what a fit needs; writes fits, chunks, events and drafts of calibrations, nothing else.
REVOKE ALL ON ALL TABLES IN SCHEMA phdl FROM phdl_worker;
GRANT SELECT ON phdl.data_release, phdl.spectrum, phdl.model_version, phdl.fit_run, phdl.fit_chunk, phdl.fit,
    phdl.event, phdl.alembic_version TO phdl_worker;
GRANT INSERT, UPDATE ON phdl.fit, phdl.fit_chunk TO phdl_worker;
GRANT INSERT ON phdl.event TO phdl_worker;
-- And calibrations: reads calibrators, stores drafts, and closes the requests for them.
GRANT SELECT ON phdl.wide_binary, phdl.reference_label, phdl.calibration_set, phdl.calibration_offset,
    phdl.calibration_member, phdl.calibration_cell, phdl.calibration_polynomial, phdl.calibration_request TO phdl_worker;
GRANT INSERT ON phdl.calibration_set, phdl.calibration_offset, phdl.calibration_member, phdl.calibration_cell,
    phdl.calibration_polynomial TO phdl_worker;
GRANT UPDATE ON phdl.calibration_request TO phdl_worker;
REVOKE ALL ON SCHEMA catalog FROM phdl_worker;

-- The dispatcher: moves chunks on, writes the row of a spectrum that is given up, and says how far a run is.
REVOKE ALL ON ALL TABLES IN SCHEMA phdl FROM phdl_dispatcher;
GRANT SELECT ON phdl.spectrum, phdl.fit_run, phdl.fit_chunk, phdl.fit, phdl.calibration_request,
    phdl.alembic_version TO phdl_dispatcher;
GRANT INSERT, UPDATE ON phdl.fit, phdl.fit_chunk TO phdl_dispatcher;
GRANT UPDATE (state, finished_at) ON phdl.fit_run TO phdl_dispatcher;
GRANT UPDATE ON phdl.calibration_request TO phdl_dispatcher;
GRANT INSERT ON phdl.event TO phdl_dispatcher;

-- The pages: read everything.
REVOKE ALL ON ALL TABLES IN SCHEMA phdl FROM phdl_pages;
GRANT SELECT ON ALL TABLES IN SCHEMA phdl, catalog TO phdl_pages;
ALTER DEFAULT PRIVILEGES IN SCHEMA catalog GRANT SELECT ON TABLES TO phdl_pages;

-- The reader: the published catalogue and the views of labels.
REVOKE ALL ON ALL TABLES IN SCHEMA phdl FROM phdl_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA catalog TO phdl_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA catalog GRANT SELECT ON TABLES TO phdl_reader;
GRANT SELECT ON phdl.label_long TO phdl_reader;
DO $$
DECLARE
    view_name text;
BEGIN
    FOR view_name IN SELECT m.view_name FROM phdl.model_version m LOOP
        EXECUTE format('GRANT SELECT ON phdl.%I TO phdl_reader', view_name);
    END LOOP;
END
$$;
SELECT phdl.show_calibration_view(calibration_set_id) FROM phdl.calibration_set
WHERE state IN ('certified', 'superseded');
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA phdl FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phdl.create_calibration_view TO phdl_worker;

-- Temporary tables are for the worker's bulk writes; the others make none.
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO phdl_worker', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO phdl_dispatcher, phdl_pages, phdl_reader', current_database());
END
$$;
