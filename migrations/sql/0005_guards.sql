-- A calibration set that left its draft keeps its dates too: each is written once.  CREATE OR REPLACE throughout.

CREATE OR REPLACE FUNCTION phdl.guard_calibration_set() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- A generated column has no value yet when a trigger looks at it before the update: view_name is left out.
    changing constant text[] := ARRAY['state', 'superseded_at', 'view_name'];
BEGIN
    IF OLD.state = 'draft' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'DELETE' OR NEW.state = 'draft' OR OLD.state = 'superseded' AND NEW.state <> 'superseded'
       OR OLD.superseded_at IS NOT NULL AND NEW.superseded_at IS DISTINCT FROM OLD.superseded_at
       OR to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing THEN
        RAISE EXCEPTION 'calibration set % is %, it is never edited: % refused', OLD.name, OLD.state, TG_OP
            USING ERRCODE = 'restrict_violation', HINT = 'compute another set with phdl calibrate';
    END IF;
    RETURN NEW;
END
$$;

-- Emptying a table asks no trigger of its rows.
CREATE OR REPLACE TRIGGER immutable_all BEFORE TRUNCATE ON phdl.calibration_set
    FOR EACH STATEMENT EXECUTE FUNCTION phdl.refuse_change('delete drafts one by one');
CREATE OR REPLACE TRIGGER immutable_all BEFORE TRUNCATE ON phdl.calibration_offset
    FOR EACH STATEMENT EXECUTE FUNCTION phdl.refuse_change('delete those of a draft');
CREATE OR REPLACE TRIGGER immutable_all BEFORE TRUNCATE ON phdl.calibration_member
    FOR EACH STATEMENT EXECUTE FUNCTION phdl.refuse_change('delete those of a draft');
CREATE OR REPLACE TRIGGER immutable_all BEFORE TRUNCATE ON phdl.calibration_cell
    FOR EACH STATEMENT EXECUTE FUNCTION phdl.refuse_change('delete those of a draft');
CREATE OR REPLACE TRIGGER immutable_all BEFORE TRUNCATE ON phdl.calibration_polynomial
    FOR EACH STATEMENT EXECUTE FUNCTION phdl.refuse_change('delete those of a draft');
CREATE OR REPLACE TRIGGER immutable_all BEFORE TRUNCATE ON phdl.catalog_release
    FOR EACH STATEMENT EXECUTE FUNCTION phdl.refuse_change('drop drafts one by one');
