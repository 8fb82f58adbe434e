-- Calibrated labels of any fit by query, ten million stars in two minutes.  This file can run again at any time.
--
-- What costs is the number of operators a label: so the correction is a polynomial in the star's cell (see
-- phdl_catalog/calibration/tabulated.py), its powers are made once a star, and the arrays of a cell are taken
-- apart once a cell.

CREATE OR REPLACE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON phdl.calibration_polynomial
    FOR EACH ROW EXECUTE FUNCTION phdl.guard_calibration_content();

-- "array[first] AS name0, array[first + 1] AS name1, ...", each element a column.  The COALESCE of one argument
-- changes nothing; it keeps the planner from moving the expression out of the nullable side of a join, where it
-- would be evaluated for every star instead of every cell.
CREATE OR REPLACE FUNCTION phdl.array_columns(array_name text, first integer, count integer, name text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(format('coalesce(%I[%s]) AS %I', array_name, first + n, name || n), ', ' ORDER BY n)
    FROM generate_series(0, count - 1) AS n
$$;
COMMENT ON FUNCTION phdl.array_columns IS 'SQL that makes columns of an array; used by create_calibration_view';

-- The view calibrated_<set>: every fit of the set's model, corrected.  The rules are those of the catalogue.
-- ORDER BY NULL sorts nothing: it keeps the levels apart, so that what is used twice is computed once, and lets
-- conditions of a query through, so that one star costs one star.
-- SECURITY DEFINER: a worker that computes a set may not make views of its own choice.
CREATE OR REPLACE FUNCTION phdl.create_calibration_view(set_id integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chosen record;
    offsets record;
    basis jsonb;
    grid jsonb;
    cells jsonb;
    axes text := '';
    errors text := '';
    fits text := '';
    surface text := '';
    curve text := '';
    curves text := '';
    known text := '';
    shifts text := '';
    squares text := '';
    columns text := '';
    own_error text;
    calibrated boolean;
    label text;
    n integer := 0;
    place integer;
    terms constant text[] := ARRAY['u', 'v', 'uu', 'uv', 'vv', 'uuu', 'uuv', 'uvv', 'vvv',
                                   'x', 'xu', 'xv', 'xuu', 'xuv', 'xvv'];
    unconstrained constant integer := 4;
    outside constant integer := 1 << 24;
    uncorrected constant integer := 1 << 25;
BEGIN
    SELECT s.*, m.label_names, m.name AS model INTO STRICT chosen
    FROM phdl.calibration_set s JOIN phdl.model_version m USING (model_version_id)
    WHERE s.calibration_set_id = set_id;
    SELECT o.basis INTO STRICT basis FROM phdl.calibration_offset o WHERE o.calibration_set_id = set_id LIMIT 1;
    grid := chosen.configuration -> 'grid';
    cells := chosen.configuration -> 'tabulation';

    -- d: how far from the middle of the box, not beyond its walls; i: number of the cell of errors and validity.
    -- least and greatest pass NULL over: a missing coordinate must stay missing.
    FOR axis IN 0 .. 2 LOOP
        label := (ARRAY['teff', 'logg', 'fe_h'])[axis + 1];
        place := array_position(chosen.label_names, label);
        axes := axes || format($axis$
            , CASE WHEN f.label_values[%1$s] IS NOT NULL THEN
                least(greatest(f.label_values[%1$s]::float8 - %2$L::float8, -%3$L::float8), %3$L::float8) END AS d%4$s
            , floor((f.label_values[%1$s]::float8 - %5$L::float8) / %6$L::float8)::integer AS i%4$s$axis$,
            place, basis -> 'center' -> axis, basis -> 'half_width' -> axis, axis,
            grid -> 'lower' -> axis, grid -> 'cell' -> axis);
        SELECT * INTO STRICT offsets FROM phdl.calibration_offset o
        WHERE o.calibration_set_id = set_id AND o.label = chosen.label_names[place];
        errors := errors || format(', coalesce((e%s * %L::float8 * power(snr_ratio, %L::float8)) ^ 2 + %L::float8, 0) '
                                   'AS v%s', place, offsets.error_scale, offsets.error_slope, offsets.error_floor ^ 2,
                                   axis);
    END LOOP;

    FOREACH label IN ARRAY chosen.label_names LOOP
        n := n + 1;
        SELECT * INTO offsets FROM phdl.calibration_offset o
        WHERE o.calibration_set_id = set_id AND o.label = chosen.label_names[n];
        IF NOT FOUND THEN
            CONTINUE;
        END IF;
        calibrated := (offsets.validity ->> 'calibrated')::boolean;
        fits := fits || format(', label_values[%1$s] AS r%1$s, label_errors[%1$s]::float8 AS e%1$s, '
                               'label_flags[%1$s] AS f%1$s', n);
        own_error := format('e%1$s * e%1$s', n)
            || CASE WHEN offsets.error_scale = 1 THEN '' ELSE format(' * %L::float8', offsets.error_scale ^ 2) END
            || CASE WHEN offsets.error_slope = 0 THEN ''
                ELSE format(' * power(snr_ratio, %L::float8)', 2 * offsets.error_slope) END
            || CASE WHEN offsets.error_floor = 0 THEN '' ELSE format(' + %L::float8', offsets.error_floor ^ 2) END;
        IF calibrated THEN
            known := known || format(', coalesce(error[%1$s] * error[%1$s]) AS ee%1$s, '
                'coalesce(slope_teff[%1$s] * slope_teff[%1$s]) AS st%1$s, '
                'coalesce(slope_logg[%1$s] * slope_logg[%1$s]) AS sl%1$s, '
                'coalesce(slope_fe_h[%1$s] * slope_fe_h[%1$s]) AS sf%1$s, '
                'CASE WHEN valid[%1$s] THEN 0 ELSE %2$s END AS bit%1$s', n, outside);
            surface := surface || ', ' || phdl.array_columns('coefficients', 16 * n - 15, 16, format('s%s_', n));
            curve := curve || ', ' || phdl.array_columns('coefficients', 3 * n - 2, 3, format('m%s_', n));
            curves := curves || format(', m%1$s_0 + w * (m%1$s_1 + w * m%1$s_2) AS m%1$s', n);
            -- s0 stands for itself; s1 to s9 are of the powers, s10 to s15 of x times them.
            shifts := shifts || format(', CASE WHEN f%1$s & %3$s = 0 THEN r%1$s - (s%1$s_0 + m%1$s%2$s) END AS y%1$s', n,
                (SELECT string_agg(format(' + s%s_%s * %s', n, t.number, t.name), '' ORDER BY t.number)
                 FROM unnest(terms) WITH ORDINALITY AS t (name, number)), unconstrained);
            squares := squares || format(', ee%1$s + st%1$s * v0 + sl%1$s * v1 + sf%1$s * v2 AS q%1$s, bit%1$s', n);
        ELSE
            shifts := shifts || format(', CASE WHEN f%1$s & %2$s = 0 THEN r%1$s + 0 * (d0 + d1 + d2) END AS y%1$s',
                                       n, unconstrained);
            squares := squares || format(', 0::float8 AS q%s', n);
        END IF;
        columns := columns || format($column$
            , y%1$s AS %2$I
            , CASE WHEN y%1$s IS NOT NULL THEN sqrt(%3$s + q%1$s) END AS %4$I
            , %5$s AS %6$I
            , f%1$s | %9$s AS %7$I
            , r%1$s AS %8$I$column$,
            n, label, own_error, 'e_' || label,
            CASE WHEN calibrated THEN format('CASE WHEN y%1$s IS NOT NULL THEN sqrt(q%1$s) END', n) ELSE 'NULL::float8' END,
            'e_cal_' || label, 'flag_' || label, 'raw_' || label,
            CASE WHEN calibrated THEN format('coalesce(bit%s, 0) | star_bits', n) ELSE uncorrected::text END);
    END LOOP;

    EXECUTE format($view$
        CREATE OR REPLACE VIEW phdl.%1$I AS
        SELECT obsid, release, gaia_source_id, ra, dec, snr_g, flags, fit_run_id, spectrum_id %2$s
        FROM (
            SELECT shifted.* %3$s
            FROM (
                SELECT powers.* %7$s %8$s
                FROM (
                    SELECT at.*, u * u AS uu, u * v AS uv, v * v AS vv, u * u * u AS uuu, u * u * v AS uuv,
                           u * v * v AS uvv, v * v * v AS vvv, x * u AS xu, x * v AS xv, x * u * u AS xuu,
                           x * u * v AS xuv, x * v * v AS xvv %18$s %25$s
                    FROM (
                        SELECT placed.*, p0 - j0 - 0.5::float8 AS u, p1 - j1 - 0.5::float8 AS v,
                               p2 - j2 - 0.5::float8 AS w, j0 * %10$s + j1 AS surface_cell,
                               CASE WHEN d0 + d1 + d2 IS NULL THEN %26$s
                                   WHEN i0 BETWEEN 0 AND %4$s AND i1 BETWEEN 0 AND %5$s AND i2 BETWEEN 0 AND %6$s
                                   THEN 0 ELSE %27$s END AS star_bits,
                               CASE WHEN d0 + d1 + d2 IS NOT NULL THEN
                                   (least(greatest(i0, 0), %4$s) * (%5$s + 1) + least(greatest(i1, 0), %5$s))
                                   * (%6$s + 1) + least(greatest(i2, 0), %6$s) END AS grid_cell
                        FROM (
                            SELECT moved.*,
                                   CASE WHEN p0 IS NOT NULL THEN least(floor(p0)::integer, %9$s - 1) END AS j0,
                                   CASE WHEN p1 IS NOT NULL THEN least(floor(p1)::integer, %10$s - 1) END AS j1,
                                   CASE WHEN p2 IS NOT NULL THEN least(floor(p2)::integer, %11$s - 1) END AS j2
                            FROM (
                                SELECT raw.*, (d0 + %12$L::float8) / %15$L::float8 AS p0,
                                       (d1 + %13$L::float8) / %16$L::float8 AS p1,
                                       (d2 + %14$L::float8) / %17$L::float8 AS p2, d2 / %14$L::float8 AS x
                                FROM (
                                    SELECT s.obsid, r.name AS release, s.gaia_source_id, s.ra, s.dec, s.snr_g,
                                           f.flags, f.fit_run_id, f.spectrum_id,
                                           least(greatest(coalesce(f.snr, s.snr_g, 50), 5), 500)::float8 / 50
                                               AS snr_ratio, f.label_values, f.label_errors, f.label_flags %19$s
                                    FROM phdl.fit f
                                    JOIN phdl.spectrum s USING (spectrum_id)
                                    JOIN phdl.data_release r USING (release_id)
                                    WHERE f.model_version_id = %20$s
                                    ORDER BY NULL::integer
                                ) AS raw
                                ORDER BY NULL::integer
                            ) AS moved
                            ORDER BY NULL::integer
                        ) AS placed
                        ORDER BY NULL::integer
                    ) AS at
                    LEFT JOIN (SELECT cell %23$s FROM phdl.calibration_polynomial
                               WHERE calibration_set_id = %22$s AND part = 'curve') AS m ON m.cell = j2
                    ORDER BY NULL::integer
                ) AS powers
                LEFT JOIN (SELECT cell %21$s FROM phdl.calibration_polynomial
                           WHERE calibration_set_id = %22$s AND part = 'surface') AS s ON s.cell = surface_cell
                ORDER BY NULL::integer
            ) AS shifted
            LEFT JOIN (SELECT cell %24$s FROM phdl.calibration_cell
                       WHERE calibration_set_id = %22$s) AS c ON c.cell = grid_cell
            ORDER BY NULL::integer
        ) AS known
    $view$,
        chosen.view_name, columns, squares,
        (grid -> 'shape' ->> 0)::integer - 1, (grid -> 'shape' ->> 1)::integer - 1,
        (grid -> 'shape' ->> 2)::integer - 1, shifts, errors,
        cells -> 'shape' -> 0, cells -> 'shape' -> 1, cells -> 'shape' -> 2,
        basis -> 'half_width' -> 0, basis -> 'half_width' -> 1, basis -> 'half_width' -> 2,
        cells -> 'size' -> 0, cells -> 'size' -> 1, cells -> 'size' -> 2,
        fits, axes, chosen.model_version_id, surface, set_id, curve, known, curves,
        uncorrected, outside);
    EXECUTE format('COMMENT ON VIEW phdl.%I IS %L', chosen.view_name,
                   'One row a fit by model ' || chosen.model || ', labels as calibration set ' || chosen.name
                   || ' corrects them');
    -- Without statistics the planner takes the new cells for one row and looks at all of them for each star.
    ANALYZE phdl.calibration_polynomial, phdl.calibration_cell;
END
$$;
COMMENT ON FUNCTION phdl.create_calibration_view IS
    'Makes the view calibrated_<set> of one calibration set; called when a set is stored';

DROP FUNCTION IF EXISTS phdl.correction_expression;
