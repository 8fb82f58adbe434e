"""From calibrators and fits in the database to a certified set, and back to corrections of any fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from database_rows import add_spectrum, fit_values
from simulated_fits import GAIA, add_fits, write_calibrators
from sqlalchemy import Engine, insert, text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from phdl_catalog.calibration import calibrate
from phdl_catalog.calibration.simulation import SimulatedCalibrators, simulate_calibrators
from phdl_catalog.cli.main import app
from phdl_catalog.database.calibration_diff import diff_sets
from phdl_catalog.database.calibration_inputs import CalibratorCuts, collect_inputs
from phdl_catalog.database.calibration_run import CalibrationRequest, run_calibration
from phdl_catalog.database.calibration_sets import (
    certified_set,
    certify_set,
    find_set,
    latest_set,
    list_sets,
    load_solution,
)
from phdl_catalog.database.calibrators import import_pairs, import_references
from phdl_catalog.database.model_versions import find_model
from phdl_catalog.database.models import Fit
from phdl_catalog.errors import CalibrationError, ConflictError, NotFoundError, StateError
from phdl_catalog.fitting.flags import FitFlag, LabelFlag

NAMES = ("teff", "logg", "fe_h", "mg_fe", "ca_fe")
PAIRS, REFERENCES, TARGETS = 40, 60, 40


@pytest.fixture(scope="module")
def simulated() -> SimulatedCalibrators:
    return simulate_calibrators(
        NAMES,
        pairs=PAIRS,
        references=REFERENCES,
        targets=TARGETS,
        bad_fraction=0.0,
        failed_fraction=0.0,
        seed=4,
    )


@pytest.fixture
def survey(database: Engine, simulated: SimulatedCalibrators, tmp_path: Path) -> Engine:
    """A database with calibrators and the fits of one model."""
    with database.begin() as connection:
        add_fits(connection, simulated, "default")
    pairs, references = write_calibrators(simulated, tmp_path)
    import_pairs(database, pairs)
    import_references(database, references, "survey_0")
    return database


def test_a_stored_set_corrects_exactly_as_the_solution_did(
    survey: Engine, simulated: SimulatedCalibrators
) -> None:
    outcome = run_calibration(survey, CalibrationRequest("default"))
    assert (outcome.name, outcome.new) == ("default-cal1", True)
    with survey.connect() as connection:
        inputs = collect_inputs(connection, find_model(connection, "default"), CalibratorCuts())
        stored = load_solution(connection, outcome.name)
        row = find_set(connection, outcome.name)
    direct = calibrate(
        inputs.label_names, inputs.labels, inputs.errors, pairs=inputs.pairs, pair_chance=inputs.pair_chance,
        reference_rows=inputs.reference_rows, reference_labels=inputs.reference_labels,
        reference_errors=inputs.reference_errors, surveys=inputs.surveys, snr=inputs.snr,
        repeats=inputs.repeats, coordinate_covariance=inputs.coordinate_covariance,
    )  # fmt: skip
    for face in ("correction", "error", "valid"):
        assert np.array_equal(
            getattr(stored, face)(simulated.labels), getattr(direct, face)(simulated.labels)
        )
    assert stored.report() == direct.report()
    assert row.state == "draft"
    assert row.report["calibrators"]["pairs"]["usable"] == PAIRS
    assert row.report["calibrators"]["references"]["usable"] == REFERENCES


def test_corrections_from_the_database_are_the_injected_ones(
    survey: Engine, simulated: SimulatedCalibrators
) -> None:
    name = run_calibration(survey, CalibrationRequest("default")).name
    with survey.connect() as connection:
        solution = load_solution(connection, name)
    targets = (simulated.truth + simulated.injected)[-TARGETS:]
    valid = solution.valid(targets)
    pulls = (solution.correction(targets) - simulated.injected[-TARGETS:]) / solution.error(targets)
    assert valid.mean() > 0.5
    assert 0.5 < np.std(pulls[valid]) < 1.6


def test_every_equation_is_a_member(survey: Engine) -> None:
    name = run_calibration(survey, CalibrationRequest("default")).name
    with survey.connect() as connection:
        counts = connection.execute(
            text(
                "SELECT label, kind, count(*), count(*) FILTER (WHERE held_out), "
                "max(weight) FILTER (WHERE held_out), min(error) FROM phdl.calibration_member "
                "GROUP BY label, kind"
            )
        ).all()
        used = load_solution(connection, name).report()["mg_fe"]
        matched = connection.scalar(
            text(
                "SELECT count(*) FROM phdl.calibration_member AS m "
                "JOIN phdl.wide_binary AS w USING (wide_binary_id) "
                "JOIN phdl.spectrum AS a ON a.spectrum_id = m.spectrum_id_a "
                "JOIN phdl.spectrum AS b ON b.spectrum_id = m.spectrum_id_b "
                "WHERE a.gaia_source_id = w.gaia_source_id_a AND b.gaia_source_id = w.gaia_source_id_b"
            )
        )
    by_kind = {(label, kind): rest for label, kind, *rest in counts}
    # Siblings share abundances, not temperature or gravity.
    assert set(by_kind) == {
        *((name, "reference") for name in NAMES), *((name, "pair") for name in ("fe_h", "mg_fe", "ca_fe"))
    }  # fmt: skip
    assert by_kind["mg_fe", "pair"][:3] == [PAIRS, 8, 0.0]
    assert by_kind["teff", "reference"][:3] == [REFERENCES, 12, 0.0]
    assert used.pairs.count == PAIRS - 8
    assert matched == 3 * PAIRS


def test_the_same_request_again_gives_the_same_set(survey: Engine) -> None:
    first = run_calibration(survey, CalibrationRequest("default"))
    again = run_calibration(survey, CalibrationRequest("default"))
    assert (again.name, again.new) == (first.name, False)
    other = run_calibration(survey, CalibrationRequest("default", seed=1))
    assert (other.name, other.new) == ("default-cal2", True)
    with survey.connect() as connection:
        assert latest_set(connection, "default").name == "default-cal2"
        assert [row.name for row in list_sets(connection)] == ["default-cal1", "default-cal2"]


def test_a_certified_set_is_never_edited_and_the_next_one_supersedes_it(survey: Engine) -> None:
    first = run_calibration(survey, CalibrationRequest("default")).name
    second = run_calibration(survey, CalibrationRequest("default", name="better", seed=1)).name
    with survey.begin() as connection:
        assert certified_set(connection, "default") is None
        assert certify_set(connection, first) is None
        assert certified_set(connection, "default").name == first
    with survey.begin() as connection:
        assert certify_set(connection, second) == first
    with survey.connect() as connection:
        assert certified_set(connection, "default").name == "better"
        assert find_set(connection, first).state == "superseded"
        with pytest.raises(StateError, match="superseded"):
            certify_set(connection, first)
    with survey.begin() as connection, pytest.raises(IntegrityError, match="never edited"):
        connection.execute(text("UPDATE phdl.calibration_offset SET n_pairs = 0"))


@pytest.mark.parametrize("flag", [FitFlag.POOR_FIT, FitFlag.DOUBLE_LINED])
def test_flagged_fits_and_labels_are_not_used(survey: Engine, flag: FitFlag) -> None:
    with survey.begin() as connection:
        connection.execute(text("UPDATE phdl.fit SET flags = :poor WHERE spectrum_id IN "
                                "(SELECT spectrum_id FROM phdl.spectrum WHERE gaia_source_id = :star)"),
                           {"poor": int(flag), "star": GAIA})  # fmt: skip
        connection.execute(text("UPDATE phdl.fit SET label_flags[4] = :bound WHERE spectrum_id IN "
                                "(SELECT spectrum_id FROM phdl.spectrum WHERE gaia_source_id = :star)"),
                           {"bound": int(LabelFlag.AT_BOUND), "star": GAIA + 2})  # fmt: skip
        connection.execute(text("UPDATE phdl.fit SET snr = 5 WHERE spectrum_id IN "
                                "(SELECT spectrum_id FROM phdl.spectrum WHERE gaia_source_id = :star)"),
                           {"star": GAIA + 2 * PAIRS})  # fmt: skip
        inputs = collect_inputs(connection, find_model(connection, "default"), CalibratorCuts())
    assert inputs.counts["pairs"]["one star has no usable fit"] == 1
    assert inputs.counts["pairs"]["usable"] == len(inputs.pairs) == PAIRS - 1
    assert inputs.counts["references"]["no usable fit"] == 1
    assert np.isnan(inputs.labels).sum() == 1


def test_likely_chance_pairs_are_cut(survey: Engine) -> None:
    with survey.begin() as connection:
        connection.execute(
            text("UPDATE phdl.wide_binary SET chance_probability = 0.4 WHERE gaia_source_id_a < :star"),
            {"star": GAIA + 6},
        )
        inputs = collect_inputs(connection, find_model(connection, "default"), CalibratorCuts())
    assert inputs.counts["pairs"]["chance probability too large"] == 3
    assert len(inputs.pairs) == PAIRS - 3


def test_of_several_fits_of_a_star_the_best_is_used(survey: Engine, simulated: SimulatedCalibrators) -> None:
    with survey.begin() as connection:
        release, model, run = connection.execute(
            text("SELECT release_id, model_version_id, fit_run_id FROM phdl.fit_run")
        ).one()
        again = add_spectrum(connection, release, 99, gaia_source_id=GAIA, snr_g=200.0)
        values = (simulated.labels[0] + 0.01).tolist()
        connection.execute(
            insert(Fit).values(
                **fit_values(
                    again, model, run, snr=200.0, label_values=values, label_errors=[1.0] * 5,
                    label_flags=[0] * 5, label_covariance=b"\0" * 20,
                )
            )
        )  # fmt: skip
        inputs = collect_inputs(connection, find_model(connection, "default"), CalibratorCuts())
    assert again in inputs.spectrum_ids
    # The other one is a repeat: it says how right the errors are.
    assert len(inputs.spectrum_ids) == 2 * PAIRS + REFERENCES + 1
    assert sorted(inputs.spectrum_ids[inputs.repeats[0]].tolist()) == [1, again]
    assert again in inputs.spectrum_ids[inputs.pairs]
    assert 1 not in inputs.spectrum_ids[inputs.pairs]


def test_without_calibrators_the_error_says_what_to_do(survey: Engine) -> None:
    with survey.begin() as connection:
        connection.execute(text("DELETE FROM phdl.wide_binary"))
        connection.execute(text("DELETE FROM phdl.reference_label"))
    with pytest.raises(CalibrationError, match="phdl pairs import"):
        run_calibration(survey, CalibrationRequest("default"))
    with pytest.raises(NotFoundError, match="no model 'nobody'"):
        run_calibration(survey, CalibrationRequest("nobody"))
    with pytest.raises(NotFoundError, match="no release 'dr99'"):
        run_calibration(survey, CalibrationRequest("default", cuts=CalibratorCuts(release="dr99")))


def test_a_name_is_used_once(survey: Engine) -> None:
    run_calibration(survey, CalibrationRequest("default", name="mine"))
    with pytest.raises(ConflictError, match="mine"):
        run_calibration(survey, CalibrationRequest("default", name="mine", seed=1))


def test_two_models_are_compared_on_the_same_stars(survey: Engine, simulated: SimulatedCalibrators) -> None:
    with survey.begin() as connection:
        add_fits(connection, simulated, "new", shift=0.1)
    old = run_calibration(survey, CalibrationRequest("default")).name
    new = run_calibration(survey, CalibrationRequest("new")).name
    with survey.connect() as connection:
        differences = diff_sets(connection, old, new)
        same = diff_sets(connection, old, old)
    assert {"all", "dwarfs", "subgiants", "-0.5 to 0"} <= {entry.population for entry in differences}
    shifted = [entry for entry in differences if entry.label in ("mg_fe", "ca_fe")]
    # The raw labels moved by 0.1 dex; calibration takes it out again.
    assert all(entry.raw == pytest.approx(0.1, abs=1e-3) for entry in shifted)
    assert all(abs(entry.calibrated) < 0.03 for entry in shifted)
    assert all(entry.raw == entry.correction == entry.scatter == 0 for entry in same)


def test_the_commands_go_through_and_speak_json(survey: Engine) -> None:
    runner = CliRunner()

    def phdl(*words: str) -> dict:
        result = runner.invoke(app, [*words, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    made = phdl("calibrate", "--model", "default", "--local")
    assert made["set"] == "default-cal1"
    assert made["new"] is True
    assert {entry["label"] for entry in made["labels"]} == set(NAMES)
    assert phdl("calibration", "list")["sets"][0]["state"] == "draft"
    assert phdl("calibration", "certify", "default-cal1") == {
        "set": "default-cal1", "state": "certified", "superseded": None
    }  # fmt: skip
    assert phdl("calibration", "show", "default-cal1")["state"] == "certified"
    assert phdl("calibration", "diff", "default-cal1", "default-cal1")["differences"]
    table = runner.invoke(app, ["calibration", "show", "default-cal1"])
    assert table.exit_code == 0
    assert "mg_fe" in table.stdout
