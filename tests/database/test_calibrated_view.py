"""Labels as a set corrects them, by query: the same numbers as the solution gives, for any fit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated_fits import add_fits, write_calibrators
from sqlalchemy import Connection, Engine, text

from phdl_catalog.calibration.simulation import SimulatedCalibrators, simulate_calibrators
from phdl_catalog.catalog.corrected import apply_calibration
from phdl_catalog.database.calibration_run import CalibrationRequest, run_calibration
from phdl_catalog.database.calibration_sets import certify_set, find_set, load_solution
from phdl_catalog.database.calibrators import import_pairs, import_references
from phdl_catalog.database.migrate import sql_file
from phdl_catalog.database.queries import run_script
from phdl_catalog.errors import InputError
from phdl_catalog.fitting.flags import LabelFlag

NAMES = ("teff", "logg", "v_micro", "fe_h", "mg_fe", "ca_fe")
FAR = {"teff": 9000.0, "logg": 1.0, "fe_h": -3.0}


@pytest.fixture(scope="module")
def simulated() -> SimulatedCalibrators:
    return simulate_calibrators(NAMES, pairs=40, references=60, targets=200, failed_fraction=0.0, seed=6)


@pytest.fixture
def survey(database: Engine, simulated: SimulatedCalibrators, tmp_path: Path) -> Engine:
    """Fits, calibrators, repeats, and a few stars that are odd; one set."""
    labels = simulated.labels.astype(np.float32).astype(np.float64)
    for row, (name, value) in zip((-1, -2, -3), FAR.items(), strict=True):
        labels[row, NAMES.index(name)] = value
    odd = replace(simulated, labels=labels)
    with database.begin() as connection:
        add_fits(connection, odd, "default")
        missing = "UPDATE phdl.fit SET label_values[1] = NULL WHERE spectrum_id = :spectrum"
        last = connection.scalar(text("SELECT max(spectrum_id) FROM phdl.spectrum"))
        connection.execute(text(missing), {"spectrum": last - 5})
        connection.execute(
            text("UPDATE phdl.fit SET label_flags[5] = :bit WHERE spectrum_id = :spectrum"),
            {"bit": int(LabelFlag.UNCONSTRAINED), "spectrum": last - 6},
        )
        connection.execute(
            text(
                "UPDATE phdl.fit SET label_values = NULL, label_errors = NULL, label_flags = NULL, "
                "label_covariance = NULL, flags = 2 WHERE spectrum_id = :spectrum"
            ),
            {"spectrum": last - 7},
        )
        # Half of the targets are observed twice.
        connection.execute(
            text(
                "UPDATE phdl.spectrum SET gaia_source_id = gaia_source_id - 1 WHERE spectrum_id > :first "
                "AND spectrum_id % 2 = 0"
            ),
            {"first": last - 100},
        )
        connection.execute(text("UPDATE phdl.fit SET snr = 20 + spectrum_id % 150"))
    pairs, references = write_calibrators(simulated, tmp_path)
    import_pairs(database, pairs)
    import_references(database, references, "survey_0")
    run_calibration(database, CalibrationRequest("default"))
    return database


def fits(connection: Connection) -> tuple[np.ndarray, ...]:
    """Values, errors, flags and S/N of every fit, by spectrum; a failed fit has none."""
    rows = connection.execute(
        text("SELECT label_values, label_errors, label_flags, snr FROM phdl.fit ORDER BY spectrum_id")
    ).all()
    size = len(NAMES)
    # Single precision is what is stored; text has other digits beyond it.
    values, errors = (
        np.array([row[number] or [None] * size for row in rows], dtype=np.float32).astype(np.float64)
        for number in (0, 1)
    )
    flags = np.array([row[2] or [0] * size for row in rows], dtype=np.int64)
    return values, errors, flags, np.array([row[3] for row in rows], dtype=np.float64)


def test_the_view_gives_what_the_catalogue_would_publish(survey: Engine) -> None:
    with survey.connect() as connection:
        row = find_set(connection, "default-cal1")
        solution = load_solution(connection, row.name)
        values, errors, flags, snr = fits(connection)
        published = apply_calibration(NAMES, values, errors, flags, solution, snr)
        found = connection.execute(text("SELECT * FROM phdl.calibrated_default_cal1 ORDER BY spectrum_id"))
        view = dict(zip(found.keys(), zip(*found, strict=True), strict=True))
    assert row.view_name == "calibrated_default_cal1"
    fitted = np.isfinite(values).any(axis=1)
    assert np.count_nonzero(~fitted) == 1
    for column, name in enumerate(NAMES):
        for prefix, expected in (
            ("", published.values), ("e_", published.errors), ("e_cal_", published.calibration_errors),
            ("raw_", published.raw),
        ):  # fmt: skip
            given = np.array(view[prefix + name], dtype=np.float64)
            # The catalogue publishes single precision.
            wanted = expected[:, column]
            assert np.allclose(given, wanted, rtol=2e-7, atol=2e-7, equal_nan=True), prefix + name
        bits = np.array([bit if bit is not None else -1 for bit in view[f"flag_{name}"]])
        assert np.array_equal(bits[fitted], published.flags[fitted, column]), name


def test_the_corrections_agree_to_the_last_digits(survey: Engine) -> None:
    with survey.connect() as connection:
        solution = load_solution(connection, "default-cal1")
        values = fits(connection)[0]
        columns = ", ".join(f"raw_{name}::float8 - {name}" for name in NAMES)
        rows = connection.execute(
            text(f"SELECT {columns} FROM phdl.calibrated_default_cal1 ORDER BY spectrum_id")  # noqa: S608
        )
        found = np.array([tuple(row) for row in rows], dtype=np.float64)
    unit = np.where(np.array(NAMES) == "teff", 1000.0, 1.0)
    shown = np.isfinite(found).all(axis=1)
    assert shown.sum() > 300
    expected = solution.correction(values[shown])
    # A query evaluates polynomials, which are the smooth functions to a millionth of a dex.
    assert np.max(np.abs(found[shown] - expected) / unit) < 1e-6
    places = [NAMES.index(name) for name in ("teff", "logg", "fe_h")]
    tabulated = solution.tabulated().correction(values[np.ix_(shown, places)])
    assert np.max(np.abs(found[shown] - tabulated) / unit) < 1e-12
    assert np.all(np.std(expected / unit, axis=0)[[4, 5]] > 0.02)


def test_one_star_costs_one_star(survey: Engine) -> None:
    query = "EXPLAIN (VERBOSE) SELECT mg_fe, flag_ca_fe FROM phdl.calibrated_default_cal1 WHERE obsid = 7"
    with survey.connect() as connection:
        plan = list(connection.scalars(text(query)))
    # The condition is on the table itself; arrays of a cell are taken apart where they are read, not a star.
    place = next(number for number, line in enumerate(plan) if "on phdl.spectrum" in line)
    assert any("obsid = 7)" in line for line in plan[place : place + 3])
    cells = [number for number, line in enumerate(plan) if "on phdl.calibration_" in line]
    assert len(cells) == 3
    assert all(
        "[5]" in plan[number + 1]
        or "[6]" in plan[number + 1]
        or "[13]" in plan[number + 1]
        or "[65]" in plan[number + 1]
        for number in cells
    )


def test_some_stars_are_outside_and_some_inside(survey: Engine) -> None:
    with survey.connect() as connection:
        counts = connection.execute(
            text(
                "SELECT count(*) FILTER (WHERE flag_mg_fe & 16777216 = 0), "
                "count(*) FILTER (WHERE flag_mg_fe & 16777216 <> 0), min(flag_v_micro & 33554432) "
                "FROM phdl.calibrated_default_cal1"
            )
        ).one()
    assert min(counts[:2]) > 2


def test_repeats_are_found_used_and_stored(survey: Engine) -> None:
    with survey.connect() as connection:
        row = find_set(connection, "default-cal1")
        kinds = dict(
            connection.execute(
                text("SELECT kind, count(*) FROM phdl.calibration_member WHERE label = 'mg_fe' GROUP BY kind")
            ).all()
        )
        scale = load_solution(connection, "default-cal1").corrections[NAMES.index("mg_fe")].error_scale
    assert row.report["calibrators"]["repeats"]["usable"] == pytest.approx(49, abs=3)
    # Two different stars stand for two observations of one: their differences are far beyond the errors.
    assert kinds["repeat"] == scale.count > 30
    assert np.hypot(scale.scale, scale.floor / 0.05) > 1.3


def test_the_same_query_gives_the_same_bytes(survey: Engine) -> None:
    def digest() -> str:
        total = hashlib.sha256()
        with survey.connect() as connection, connection.connection.cursor() as cursor:
            query = "COPY (SELECT * FROM phdl.calibrated_default_cal1 ORDER BY spectrum_id) TO STDOUT"
            with cursor.copy(query) as rows:
                for block in rows:
                    total.update(block)
        return total.hexdigest()

    assert digest() == digest()


def test_the_reader_sees_a_set_once_it_is_certified(survey: Engine) -> None:
    may = text("SELECT has_table_privilege('phdl_reader', 'phdl.calibrated_default_cal1', 'SELECT')")
    with survey.begin() as connection:
        assert not connection.scalar(may)
        certify_set(connection, "default-cal1")
        assert connection.scalar(may)
        # Rights are taken and given again at every upgrade.
        run_script(connection, sql_file("roles.sql"))
        assert connection.scalar(may)


def test_a_name_that_no_view_can_have_is_refused(survey: Engine) -> None:
    with pytest.raises(InputError, match="no name for a calibration set"):
        run_calibration(survey, CalibrationRequest("default", name="best set; really", seed=5))
