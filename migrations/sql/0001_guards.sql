-- What a CHECK cannot say: rows that are never edited.

CREATE OR REPLACE FUNCTION phdl.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'phdl.% is never edited: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', HINT = TG_ARGV[0];
END
$$;
COMMENT ON FUNCTION phdl.refuse_change IS 'Trigger: refuses every change of a row';

CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE ON phdl.model_version
    FOR EACH ROW EXECUTE FUNCTION phdl.refuse_change('register the model under another name');
CREATE OR REPLACE TRIGGER immutable_all BEFORE TRUNCATE ON phdl.model_version
    FOR EACH STATEMENT EXECUTE FUNCTION phdl.refuse_change('register the model under another name');

CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON phdl.event
    FOR EACH ROW EXECUTE FUNCTION phdl.refuse_change('record another event');
CREATE OR REPLACE TRIGGER append_only_all BEFORE TRUNCATE ON phdl.event
    FOR EACH STATEMENT EXECUTE FUNCTION phdl.refuse_change('record another event');

-- A calibration set that left its draft changes its state only, and never goes back to draft.
CREATE OR REPLACE FUNCTION phdl.guard_calibration_set() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changing constant text[] := ARRAY['state', 'certified_at', 'superseded_at'];
BEGIN
    IF OLD.state = 'draft' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'DELETE' OR NEW.state = 'draft' OR to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing THEN
        RAISE EXCEPTION 'calibration set % is %, it is never edited: % refused', OLD.name, OLD.state, TG_OP
            USING ERRCODE = 'restrict_violation', HINT = 'compute another set with phdl calibrate';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION phdl.guard_calibration_set IS 'Trigger: a calibration set that is no draft changes its state only';

CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE ON phdl.calibration_set
    FOR EACH ROW EXECUTE FUNCTION phdl.guard_calibration_set();

CREATE OR REPLACE FUNCTION phdl.guard_calibration_content() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    row_set integer := CASE TG_OP WHEN 'DELETE' THEN OLD.calibration_set_id ELSE NEW.calibration_set_id END;
    set_state text;
BEGIN
    SELECT state INTO set_state FROM phdl.calibration_set WHERE calibration_set_id = row_set;
    IF set_state <> 'draft' THEN
        RAISE EXCEPTION 'calibration set % is %, it is never edited: % of phdl.% refused',
            row_set, set_state, TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation', HINT = 'compute another set with phdl calibrate';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;
COMMENT ON FUNCTION phdl.guard_calibration_content IS 'Trigger: offsets and members change in a draft only';

CREATE OR REPLACE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON phdl.calibration_offset
    FOR EACH ROW EXECUTE FUNCTION phdl.guard_calibration_content();
CREATE OR REPLACE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON phdl.calibration_member
    FOR EACH ROW EXECUTE FUNCTION phdl.guard_calibration_content();

-- What was published stays what it was; only its state changes.
CREATE OR REPLACE FUNCTION phdl.guard_catalog_release() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changing constant text[] := ARRAY['state', 'published_at', 'superseded_at'];
BEGIN
    IF OLD.published_at IS NULL THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'DELETE' OR NEW.published_at IS NULL OR to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing THEN
        RAISE EXCEPTION 'catalogue release % was published, it is never edited: % refused', OLD.name, TG_OP
            USING ERRCODE = 'restrict_violation', HINT = 'build another release with phdl catalog build';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION phdl.guard_catalog_release IS 'Trigger: a release that was published changes its state only';

CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE ON phdl.catalog_release
    FOR EACH ROW EXECUTE FUNCTION phdl.guard_catalog_release();

-- A bit of a flag column means the same in every release that ever used it.
CREATE OR REPLACE FUNCTION phdl.guard_flag_definition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    known text;
BEGIN
    SELECT name INTO known FROM phdl.flag_definition
    WHERE column_name = NEW.column_name AND bit = NEW.bit AND name <> NEW.name LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'bit % of % already means %, it cannot mean %', NEW.bit, NEW.column_name, known, NEW.name
            USING ERRCODE = 'restrict_violation', HINT = 'use a bit that was never used';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION phdl.guard_flag_definition IS 'Trigger: a bit is never re-used for another meaning';

CREATE OR REPLACE TRIGGER never_reused BEFORE INSERT OR UPDATE ON phdl.flag_definition
    FOR EACH ROW EXECUTE FUNCTION phdl.guard_flag_definition();
