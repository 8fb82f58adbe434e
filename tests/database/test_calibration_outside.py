"""What is done with a set: figures, checks against clusters and the Sun, comparison of models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from simulated_fits import GAIA, add_fits, write_calibrators
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from phdl_catalog.calibration.simulation import SimulatedCalibrators, simulate_calibrators
from phdl_catalog.cli.main import app
from phdl_catalog.database.calibration_run import CalibrationRequest, run_calibration
from phdl_catalog.database.calibrators import import_pairs, import_references
from phdl_catalog.database.model_comparison import compare_models
from phdl_catalog.errors import InputError, NotFoundError

NAMES = ("teff", "logg", "fe_h", "mg_fe")
PAIRS, REFERENCES, TARGETS = 40, 60, 40


@pytest.fixture(scope="module")
def simulated() -> SimulatedCalibrators:
    return simulate_calibrators(
        NAMES, pairs=PAIRS, references=REFERENCES, targets=TARGETS, failed_fraction=0.0, seed=4
    )


@pytest.fixture
def survey(database: Engine, simulated: SimulatedCalibrators, tmp_path: Path) -> Engine:
    with database.begin() as connection:
        add_fits(connection, simulated, "default")
        add_fits(connection, simulated, "new", shift=0.1)
    pairs, references = write_calibrators(simulated, tmp_path)
    import_pairs(database, pairs)
    import_references(database, references, "survey_0")
    run_calibration(database, CalibrationRequest("default"))
    return database


def phdl(*words: str) -> dict:
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("survey")
def test_a_set_is_drawn(tmp_path: Path) -> None:
    made = phdl("calibration", "plot", "default-cal1", "-l", "mg_fe", "-l", "teff", "-o", str(tmp_path / "f"))
    assert [Path(name).name for name in made["files"]] == [
        "overview.png", "errors.png", "mg_fe.png", "teff.png",
    ]  # fmt: skip
    assert all(Path(name).read_bytes().startswith(b"\x89PNG") for name in made["files"])
    with pytest.raises(InputError, match="no label 'xx_fe'"):
        phdl("calibration", "plot", "default-cal1", "--label", "xx_fe", "-o", str(tmp_path))


@pytest.mark.usefixtures("survey")
def test_clusters_benchmarks_and_the_sun_are_compared(
    simulated: SimulatedCalibrators, tmp_path: Path
) -> None:
    targets = np.arange(2 * PAIRS + REFERENCES, 2 * PAIRS + REFERENCES + TARGETS)
    clusters, known = tmp_path / "members.csv", tmp_path / "known.csv"
    probability = np.where(np.arange(TARGETS) < 30, 0.9, 0.1)
    Table({"Cluster": ["M67"] * TARGETS, "GaiaDR3": GAIA + targets, "Prob": probability}).write(clusters)
    Table(
        {
            "source_id": GAIA + targets,
            "mg_fe": simulated.truth[targets, 3],
            "teff": simulated.truth[targets, 0],
        }
    ).write(known)
    found = phdl(
        "calibration", "check", "default-cal1", "--clusters", str(clusters), "--benchmarks", str(known),
        "--sun", "1000",
    )  # fmt: skip
    in_cluster = {entry["label"]: entry for entry in found["clusters"]}
    assert in_cluster["mg_fe"]["stars"] + in_cluster["mg_fe"]["outliers"] == 30
    stars = {entry["label"]: entry for entry in found["benchmarks"]}
    assert set(stars) == {"teff", "mg_fe"}
    assert stars["mg_fe"]["corrected_scatter"] < stars["mg_fe"]["raw_scatter"]
    assert stars["mg_fe"]["in_sigma"] < 2
    assert {entry["label"] for entry in found["sun"]} == set(NAMES)
    assert (
        "The Sun" in CliRunner().invoke(app, ["calibration", "check", "default-cal1", "--sun", "1000"]).stdout
    )
    with pytest.raises(NotFoundError, match="none of the 1 stars"):
        phdl("calibration", "check", "default-cal1", "--sun", "5")
    assert CliRunner().invoke(app, ["calibration", "check", "default-cal1"]).exit_code == 2


def test_two_models_are_compared_by_population(survey: Engine) -> None:
    found = phdl("model", "compare", "default", "new", "--label", "mg_fe")
    everything = {move["population"]: move for move in found["moves"]}
    assert {"all", "dwarfs", "subgiants", "-0.5 to 0"} <= set(everything)
    assert everything["all"]["median"] == pytest.approx(0.1, abs=1e-4)
    assert everything["all"]["scatter"] < 1e-4
    assert found["usable_both"] == found["common"] == 2 * PAIRS + REFERENCES + TARGETS
    with survey.begin() as connection:
        connection.execute(text("DELETE FROM phdl.fit WHERE model_version_id = 2"))
        with pytest.raises(NotFoundError, match="no spectrum was fitted by both"):
            compare_models(connection, "default", "new")
