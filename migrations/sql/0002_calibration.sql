-- Calibrated labels of any fit by query.  CREATE OR REPLACE throughout: this file can run again at any time.

-- A generated column has no value yet when a trigger looks at it before the update: view_name is left out.
CREATE OR REPLACE FUNCTION phdl.guard_calibration_set() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changing constant text[] := ARRAY['state', 'certified_at', 'superseded_at', 'view_name'];
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

CREATE OR REPLACE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON phdl.calibration_cell
    FOR EACH ROW EXECUTE FUNCTION phdl.guard_calibration_content();

-- One label's correction as an expression of the columns that the view below makes: x0 x1 x2 (-1 to 1 across the
-- box) and the sines a<i> b<j> c<k>.  Sums are nested, sum_i a_i (sum_j (s_ij + t_ij x2) b_j), to save products.
CREATE OR REPLACE FUNCTION phdl.correction_expression(basis jsonb, coefficients double precision[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    surface integer := jsonb_array_length(basis -> 'surface');
    curve integer := jsonb_array_length(basis -> 'frequencies' -> 2);
    result text := format('%L::float8 + %L::float8 * x0 + %L::float8 * x1 + %L::float8 * x2',
                          coefficients[1], coefficients[2], coefficients[3], coefficients[4]);
    line record;
BEGIN
    FOR line IN
        WITH term AS (
            SELECT (e.pair ->> 0)::integer AS i, (e.pair ->> 1)::integer AS j,
                   format('%L::float8', coefficients[4 + e.place]) ||
                   CASE WHEN n.place IS NULL THEN ''
                       ELSE format(' + %L::float8 * x2', coefficients[4 + surface + curve + n.place]) END AS factor
            FROM jsonb_array_elements(basis -> 'surface') WITH ORDINALITY AS e (pair, place)
            LEFT JOIN jsonb_array_elements(basis -> 'interaction') WITH ORDINALITY AS n (number, place)
                ON n.number::integer = e.place - 1
        )
        SELECT i, string_agg(format('(%s) * b%s', factor, j), ' + ' ORDER BY j) AS inner_sum
        FROM term GROUP BY i ORDER BY i
    LOOP
        result := result || format(' + a%s * (%s)', line.i, line.inner_sum);
    END LOOP;
    FOR number IN 0 .. curve - 1 LOOP
        result := result || format(' + %L::float8 * c%s', coefficients[5 + surface + number], number);
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION phdl.correction_expression IS 'SQL expression of one correction; used by create_calibration_view';

-- The view calibrated_<set>: every fit of the set's model, corrected.  The rules are those of the catalogue.
-- SECURITY DEFINER: a worker that computes a set may not make views of its own choice.
CREATE OR REPLACE FUNCTION phdl.create_calibration_view(set_id integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chosen record;
    basis jsonb;
    grid jsonb;
    sines text;
    errors text;
    columns text := '';
    squares text := '';
    label text;
    position integer := 0;
    offsets record;
    place integer[];
    letter text[] := ARRAY['a', 'b', 'c'];
    unconstrained constant integer := 4;
    outside constant integer := 1 << 24;
    uncorrected constant integer := 1 << 25;
    -- least and greatest pass NULL over: a missing coordinate must stay missing.
    coordinate constant text := 'CASE WHEN f.label_values[%s] IS NOT NULL THEN '
        'least(greatest(f.label_values[%s]::float8 - %s::float8, -%s::float8), %s::float8) END';
BEGIN
    SELECT s.*, m.label_names, m.name AS model INTO STRICT chosen
    FROM phdl.calibration_set s JOIN phdl.model_version m USING (model_version_id)
    WHERE s.calibration_set_id = set_id;
    SELECT o.basis INTO STRICT basis FROM phdl.calibration_offset o WHERE o.calibration_set_id = set_id LIMIT 1;
    grid := chosen.configuration -> 'grid';
    place := ARRAY[array_position(chosen.label_names, 'teff'), array_position(chosen.label_names, 'logg'),
                   array_position(chosen.label_names, 'fe_h')];

    SELECT string_agg(format('sin((u%s + %s::float8) * %s::float8) / sqrt(%s::float8) AS %s%s', axis,
                             basis -> 'wall' -> axis, f.frequency, basis -> 'wall' -> axis, letter[axis + 1],
                             f.number - 1), ', ' ORDER BY axis, f.number)
    INTO sines
    FROM generate_series(0, 2) AS axis
    CROSS JOIN LATERAL jsonb_array_elements(basis -> 'frequencies' -> axis) WITH ORDINALITY AS f (frequency, number);

    SELECT string_agg(format('coalesce((label_errors[%s] * %L::float8 * power(snr_ratio, %L::float8)) ^ 2 '
                             '+ %L::float8 ^ 2, 0) AS v%s', place[axis + 1], o.error_scale, o.error_slope,
                             o.error_floor, axis), ', ')
    INTO errors
    FROM generate_series(0, 2) AS axis
    JOIN phdl.calibration_offset o
        ON o.calibration_set_id = set_id AND o.label = chosen.label_names[place[axis + 1]];

    FOREACH label IN ARRAY chosen.label_names LOOP
        position := position + 1;
        SELECT * INTO offsets FROM phdl.calibration_offset o
        WHERE o.calibration_set_id = set_id AND o.label = chosen.label_names[position];
        IF NOT FOUND THEN
            CONTINUE;
        END IF;
        -- Squares as products: a power costs ten times as much.  What is used twice is computed below, once.
        squares := squares || format($column$
            , error[%1$s]::float8 * error[%1$s] + slope_teff[%1$s]::float8 * slope_teff[%1$s] * v0
                + slope_logg[%1$s]::float8 * slope_logg[%1$s] * v1
                + slope_fe_h[%1$s]::float8 * slope_fe_h[%1$s] * v2 AS q%1$s
            , CASE WHEN label_flags[%1$s] & %2$s = 0 THEN label_values[%1$s] END AS y%1$s$column$,
            position, unconstrained);
        columns := columns || format($column$
            , y%1$s - (%2$s) AS %3$I
            , CASE WHEN y%1$s IS NOT NULL AND x0 + x1 + x2 IS NOT NULL THEN
                sqrt(label_errors[%1$s]::float8 * label_errors[%1$s] * %4$s + %5$L::float8 + coalesce(q%1$s, 0))
                END AS %6$I
            , CASE WHEN y%1$s IS NOT NULL THEN sqrt(q%1$s) END AS %7$I
            , label_flags[%1$s] | CASE WHEN q%1$s IS NULL THEN %8$s
                WHEN inside AND valid[%1$s] THEN 0 ELSE %9$s END AS %10$I
            , label_values[%1$s] AS %11$I$column$,
            position,
            CASE WHEN (offsets.validity ->> 'calibrated')::boolean
                THEN phdl.correction_expression(offsets.basis, offsets.coefficients) ELSE '0 * x0' END,
            label,
            format('%L::float8', offsets.error_scale ^ 2)
                || CASE WHEN offsets.error_slope = 0 THEN ''
                    ELSE format(' * power(snr_ratio, %L::float8)', 2 * offsets.error_slope) END,
            offsets.error_floor ^ 2, 'e_' || label, 'e_cal_' || label, uncorrected, outside, 'flag_' || label,
            'raw_' || label);
    END LOOP;

    EXECUTE format($view$
        CREATE OR REPLACE VIEW phdl.%1$I AS
        SELECT obsid, release, gaia_source_id, ra, dec, snr_g, flags, fit_run_id, spectrum_id %2$s
        FROM (
            SELECT at.*, %3$s, c.valid %28$s,
                   i0 BETWEEN 0 AND n0 - 1 AND i1 BETWEEN 0 AND n1 - 1 AND i2 BETWEEN 0 AND n2 - 1 AS inside
            FROM (
                SELECT moved.*, d0 / %4$s::float8 AS x0, d1 / %5$s::float8 AS x1, d2 / %6$s::float8 AS x2,
                       d0 / %7$s::float8 AS u0, d1 / %8$s::float8 AS u1, d2 / %9$s::float8 AS u2,
                       %10$s AS n0, %11$s AS n1, %12$s AS n2, %27$s
                FROM (
                    SELECT s.obsid, r.name AS release, s.gaia_source_id, s.ra, s.dec, s.snr_g, f.flags,
                           f.fit_run_id, f.spectrum_id, f.label_values, f.label_errors, f.label_flags,
                           least(greatest(coalesce(f.snr, s.snr_g, 50), 5), 500)::float8 / 50 AS snr_ratio,
                           %13$s AS d0, %14$s AS d1, %15$s AS d2,
                           floor((f.label_values[%16$s]::float8 - %19$s::float8) / %22$s::float8)::integer AS i0,
                           floor((f.label_values[%17$s]::float8 - %20$s::float8) / %23$s::float8)::integer AS i1,
                           floor((f.label_values[%18$s]::float8 - %21$s::float8) / %24$s::float8)::integer AS i2
                    FROM phdl.fit f
                    JOIN phdl.spectrum s USING (spectrum_id)
                    JOIN phdl.data_release r USING (release_id)
                    WHERE f.model_version_id = %25$s
                    OFFSET 0
                ) AS moved
                OFFSET 0
            ) AS at
            LEFT JOIN phdl.calibration_cell c ON c.calibration_set_id = %26$s AND c.cell =
                CASE WHEN i0 + i1 + i2 IS NOT NULL THEN
                    (least(greatest(i0, 0), n0 - 1) * n1 + least(greatest(i1, 0), n1 - 1)) * n2
                    + least(greatest(i2, 0), n2 - 1) END
            OFFSET 0
        ) AS known
    $view$,
        chosen.view_name, columns, sines,
        basis -> 'half_width' -> 0, basis -> 'half_width' -> 1, basis -> 'half_width' -> 2,
        basis -> 'unit' -> 0, basis -> 'unit' -> 1, basis -> 'unit' -> 2,
        grid -> 'shape' -> 0, grid -> 'shape' -> 1, grid -> 'shape' -> 2,
        format(coordinate, place[1], place[1], quote_literal(basis -> 'center' ->> 0), basis -> 'half_width' -> 0,
               basis -> 'half_width' -> 0),
        format(coordinate, place[2], place[2], quote_literal(basis -> 'center' ->> 1), basis -> 'half_width' -> 1,
               basis -> 'half_width' -> 1),
        format(coordinate, place[3], place[3], quote_literal(basis -> 'center' ->> 2), basis -> 'half_width' -> 2,
               basis -> 'half_width' -> 2),
        place[1], place[2], place[3],
        quote_literal(grid -> 'lower' ->> 0), quote_literal(grid -> 'lower' ->> 1), quote_literal(grid -> 'lower' ->> 2),
        grid -> 'cell' -> 0, grid -> 'cell' -> 1, grid -> 'cell' -> 2,
        chosen.model_version_id, set_id, errors, squares);
    EXECUTE format('COMMENT ON VIEW phdl.%I IS %L', chosen.view_name,
                   'One row a fit by model ' || chosen.model || ', labels as calibration set ' || chosen.name
                   || ' corrects them');
END
$$;
COMMENT ON FUNCTION phdl.create_calibration_view IS
    'Makes the view calibrated_<set> of one calibration set; called when a set is stored';

-- A draft is its makers' business; once certified, a set's view is read by everybody.
CREATE OR REPLACE FUNCTION phdl.show_calibration_view(set_id integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    chosen text;
BEGIN
    SELECT view_name INTO STRICT chosen FROM phdl.calibration_set WHERE calibration_set_id = set_id;
    IF to_regclass(format('phdl.%I', chosen)) IS NOT NULL
       AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'phdl_reader') THEN
        EXECUTE format('GRANT SELECT ON phdl.%I TO phdl_reader', chosen);
    END IF;
END
$$;
COMMENT ON FUNCTION phdl.show_calibration_view IS 'Lets the reader see the view of a certified calibration set';
