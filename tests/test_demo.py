"""The demo, small: every part of the chain in one run, and the truth comes out at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phdl_catalog.spectra.mock_release import Manifest, ReleaseFolder

pytestmark = pytest.mark.slow

#: As the demo comes: with fewer stars its pairs and references are too few to fix a trend.
STARS = 400


def phdl(directory: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, in an environment without settings of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PHDL_")}
    environment["PHDL_DATA_DIR"] = str(directory)
    done = subprocess.run(
        [sys.executable, "-m", "phdl_catalog.cli.main", *arguments],
        cwd=directory.parent, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"phdl {arguments}\n{done.stdout}\n{done.stderr}"
    return done


def run_demo(directory: Path) -> dict[str, Any]:
    done = phdl(directory, "demo", "--directory", str(directory), "--stars", str(STARS), "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("demo") / "data"
    yield made
    phdl(made, "down", check=False)


@pytest.fixture(scope="module")
def first(directory: Path) -> dict[str, Any]:
    return run_demo(directory)


def sql(directory: Path, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(phdl(directory, "sql", query, "--json").stdout)["rows"]
    return rows


def test_the_catalogue_has_most_subgiants_and_hardly_anything_else(first: dict[str, Any]) -> None:
    assert first["subgiants_true"] >= 0.6 * STARS
    assert first["subgiants_published"] > 0.8 * first["subgiants_true"]
    assert first["subgiants_published"] > 0.9 * first["published"]


def test_calibration_takes_out_most_of_the_injected_trend(first: dict[str, Any]) -> None:
    assert first["trend_before"] > 0.06
    assert first["trend_after"] < 0.3 * first["trend_before"]


def test_stellar_parameters_are_recovered(first: dict[str, Any]) -> None:
    found = {row["name"]: row for row in first["recovery"]}
    assert abs(found["teff"]["calibrated"]["bias"]) < 50.0
    assert abs(found["logg"]["calibrated"]["bias"]) < 0.1
    assert abs(found["fe_h"]["calibrated"]["bias"]) < 0.05


def test_three_queries_are_answered(first: dict[str, Any]) -> None:
    assert len(first["queries"]) == 3
    assert all(query["rows"] for query in first["queries"])


def test_what_the_demo_leaves_can_be_started_again_and_counts_add_up(
    first: dict[str, Any], directory: Path
) -> None:
    manifest = Manifest.read(ReleaseFolder(directory / "release"))
    assert manifest is not None
    status = json.loads(phdl(directory, "status", "--json").stdout)
    assert not any(service["running"] for service in status["services"])
    phdl(directory, "up")
    try:
        release = json.loads(phdl(directory, "release", "show", "demo", "--json").stdout)
        assert release["reasons"] == manifest.broken
        assert release["accepted"] == manifest.spectra
        (run,) = json.loads(phdl(directory, "fit", "status", "--json").stdout)["runs"]
        assert run["state"] == "done"
        assert run["done"] + run["failed"] == run["spectra"] == manifest.spectra
        rows = sql(
            directory, "SELECT count(*) AS n, count(DISTINCT spectrum_id) AS m FROM phdl.labels_default"
        )
        assert rows == [{"n": manifest.spectra, "m": manifest.spectra}]
    finally:
        phdl(directory, "down")


def test_a_second_run_goes_on_with_what_is_there(first: dict[str, Any], directory: Path) -> None:
    second = run_demo(directory)
    assert second["spectra"] == first["spectra"]
    assert second["published"] == first["published"]
    names = {row["name"]: row["calibrated"] for row in second["recovery"]}
    assert names == {row["name"]: row["calibrated"] for row in first["recovery"]}
