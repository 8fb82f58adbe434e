"""``phdl grid synthesize``: here, resumed, and by workers; and what it says if data are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthesis_data import write_decks, write_vald
from typer.testing import CliRunner

from phdl_catalog.cli.main import app
from phdl_catalog.emulator.grid import load_grid
from phdl_catalog.emulator.synthesis.plan import Spectrum, SynthesisFolder
from phdl_catalog.errors import ConflictError, InputError, SynthesisError
from phdl_catalog.services.redis_server import RedisServer
from phdl_catalog.spectra.grid import PixelGrid

pytest.importorskip("pysme", reason="PySME is not installed: pip install 'phdl-catalog[synthesis]'")

#: What the range of the tests can serve, 5167 to 5185 Angstrom.
PIXELS = PixelGrid(37135, 10)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that make a small synthesis: 8 lines, the magnesium triplet, two elements."""
    folder = tmp_path_factory.mktemp("synthesis")
    return [
        "--lines", str(write_vald(folder / "lines.txt")), "--atmospheres", str(write_decks(folder / "decks")),
        "--elements", "Mg,Ti", "--wavelength", "5160", "5192", "--sampling", "100000",
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """PySME writes its settings into the home folder when it is imported."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp() / "home"))


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["grid", "synthesize", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_grid_is_computed_and_grows_without_computing_anything_twice(
    inputs: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "own.h5"
    first = run(*inputs, "--output", str(output), "--stars", "5", "--gradients", "1")
    assert (first["computed"], first["spectra"], first["failed"]) == (12, 12, {})
    grid = load_grid(output, PIXELS)
    assert grid.label_names == ("teff", "logg", "v_micro", "fe_h", "mg_fe", "ti_fe")
    assert grid.flux.shape == (5, PIXELS.size)
    assert 0.1 < grid.flux.min() < 0.9
    assert grid.flux.max() < 1.01
    assert grid.gradients is not None
    # The triplet weakens the flux with magnesium; titanium has no line here.
    gradient = grid.gradients.gradient[0]
    assert gradient[4].min() < -0.02
    assert np.abs(gradient[5]).max() < 0.1 * np.abs(gradient[4]).max()

    times = {path: path.stat().st_mtime_ns for path in Path(first["parts"]).glob("*.npz")}
    with pytest.raises(ConflictError, match="exists already"):
        run(*inputs, "--output", str(output), "--stars", "5", "--gradients", "1")
    second = run(*inputs, "--output", str(output), "--stars", "6", "--gradients", "1", "--overwrite")
    assert second["computed"] == 1
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert np.array_equal(load_grid(output, PIXELS).flux[:5], grid.flux)


def test_a_killed_run_goes_on_where_it_was(inputs: list[str], tmp_path: Path) -> None:
    output = tmp_path / "own.h5"
    command = [sys.executable, "-m", "phdl_catalog.cli.main", "grid", "synthesize", *inputs]
    command += ["--output", str(output), "--stars", "6", "--gradients", "0", "--json"]
    folder = SynthesisFolder(f"{output}.parts")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    while not folder.finished():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, 9)
    process.communicate()
    left = len(folder.finished())
    assert 0 < left < 6
    assert not output.exists()
    assert run(*command[5:-1], "--workers", "2")["computed"] == 6 - left
    assert len(load_grid(output, PIXELS)) == 6


def test_workers_on_the_queue_compute_what_the_command_asks_for(
    inputs: list[str], tmp_path: Path, broker: RedisServer
) -> None:
    command = [sys.executable, "-m", "phdl_catalog.cli.main", "grid", "worker", "--workers", "2"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            output = tmp_path / "own.h5"
            document = run(*inputs, "--output", str(output), "--stars", "4", "--gradients", "0", "--tasks")
        finally:
            process.terminate()
            process.wait(timeout=30)
    assert document["computed"] == 4
    assert len(load_grid(output, PIXELS)) == 4


def test_other_spectra_are_not_mixed_into_a_grid(inputs: list[str], tmp_path: Path) -> None:
    output = str(tmp_path / "own.h5")
    run(*inputs, "--output", output, "--stars", "4", "--gradients", "0")
    with pytest.raises(ConflictError, match="with other seed"):
        run(*inputs, "--output", output, "--stars", "4", "--gradients", "0", "--seed", "1", "--overwrite")


def test_a_star_that_fails_is_named_and_left_out_if_asked_for(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phdl_catalog.emulator.synthesis import computing

    def fails_at_one(folder: Path, spectrum: Spectrum) -> bool:
        if spectrum.index == 1:
            SynthesisFolder(folder).save_failure(spectrum, "no light")
            return False
        return whole(folder, spectrum)

    whole = computing.compute_spectrum
    monkeypatch.setattr(computing, "compute_spectrum", fails_at_one)
    options = [*inputs, "--output", str(tmp_path / "own.h5"), "--stars", "4", "--gradients", "0"]
    with pytest.raises(SynthesisError, match="1 spectra failed; the first, star-000001: no light"):
        run(*options)
    assert run(*options, "--skip-failed")["failed"] == {"star-000001": "no light"}
    assert len(load_grid(tmp_path / "own.h5", PIXELS)) == 3


def test_without_data_it_says_which_are_needed_and_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run("--output", str(tmp_path / "own.h5"))
    for word in (
        "--lines",
        "vald.astro.uu.se",
        "J/A+A/645/A106",
        "gfall",
        "--atmospheres",
        "ATLAS9",
        "kurucz",
    ):
        assert word in str(caught.value)


def test_decks_that_are_missing_are_named_before_anything_is_computed(
    inputs: list[str], tmp_path: Path
) -> None:
    few = write_decks(tmp_path / "decks", (5000.0, 6000.0), (4.0, 5.0), (0.0,))
    options = ["--atmospheres", str(few), "--output", str(tmp_path / "own.h5"), "--stars", "8"]
    with pytest.raises(InputError, match=r"atmospheres of the plan lie outside the 4 decks.*missing are"):
        run(*inputs, *options)
    assert not (tmp_path / "own.h5.parts").exists()
