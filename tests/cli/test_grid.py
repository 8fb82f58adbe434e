"""``phdl grid``: arrays to a grid file, and what it covers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from phdl_catalog.cli.main import app
from phdl_catalog.errors import GridError
from tests.analytic_grid import NAMES, analytic_flux


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """24 spectra over all that the survey sees, at R = 2500."""
    log_wavelength = np.arange(3.572, 3.957, 6e-5)
    labels = np.random.default_rng(3).uniform([4500, 3, -1.5, -0.4], [6500, 4.8, 0.4, 0.5], (24, 4))
    path = tmp_path / "mine.npz"
    np.savez(
        path,
        wavelength=10**log_wavelength,
        labels=labels,
        flux=analytic_flux(labels, log_wavelength).astype(np.float32),
        star=np.arange(24) // 2,
    )
    return path


def phdl(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_arrays_with_our_names_need_two_options(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.h5"
    command = [
        "grid",
        "import",
        source,
        "--label-names",
        ",".join(NAMES),
        "--resolution",
        "2500",
        "-o",
        output,
    ]
    made = phdl(*command, "--validation-share", "0.25", "--json")
    assert made.exit_code == 0, made.output
    document = json.loads(made.stdout)
    assert (document["spectra"], document["families"], document["label_names"]) == (24, 12, list(NAMES))

    told = json.loads(phdl("grid", "info", output, "--json").stdout)
    assert (told["spectra"], told["stars"], told["gradient_stars"]) == (24, 12, 0)
    assert told["validation_spectra"] == document["validation_spectra"]
    assert told["labels"]["teff"]["max"] < 6500
    assert told["attributes"]["sources"] == "mine.npz"

    plot = tmp_path / "mine.png"
    shown = phdl("grid", "info", output, "--plot", plot)
    assert shown.exit_code == 0
    assert "log g" in shown.stdout
    assert "mg_fe" in shown.stdout
    assert plot.stat().st_size > 10_000


def test_a_source_that_does_not_fit_fails_and_says_why(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.h5"
    failed = phdl(
        "grid", "import", source, "--label-names", "teff,logg,fe_h", "--resolution", "2500", "-o", output
    )
    assert isinstance(failed.exception, GridError)
    assert "'labels' in mine.npz has shape (24, 4), expected (N, 3)" in str(failed.exception)
    assert not output.exists()


def test_options_of_the_command_line_win_over_the_mapping(source: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(f"resolution = 9000\n[labels]\nnames = {list(NAMES)}\n[split]\nshare = 0.4\n")
    output = tmp_path / "mine.h5"
    made = phdl("grid", "import", source, "--mapping", mapping, "--resolution", "2500", "-o", output)
    assert made.exit_code == 0, made.output
    assert json.loads(phdl("grid", "info", output, "--json").stdout)["resolution"] == 2500.0
