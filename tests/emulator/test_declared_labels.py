"""A label that the vocabulary lacks goes from a file through training into the model."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from typer.testing import CliRunner

from phdl_catalog.cli.main import app
from phdl_catalog.emulator.building import build_model
from phdl_catalog.emulator.compiled import CompileConfig
from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.distilling import DistilConfig
from phdl_catalog.emulator.grid import load_grid
from phdl_catalog.emulator.model import Emulator
from phdl_catalog.emulator.network import NetworkConfig
from phdl_catalog.emulator.training import Training
from tests.analytic_grid import PIXELS


def test_a_model_is_trained_on_a_declared_label_and_remembers_what_it_means(
    grid_file: Path, tmp_path: Path
) -> None:
    declaration = {"unit": "mag", "lower": -1.0, "upper": 1.0, "description": "Colour excess"}
    with h5py.File(grid_file, "a") as file:
        names = ["teff", "logg", "fe_h", "reddening"]
        file.attrs["label_names"] = np.array(names, dtype=h5py.string_dtype())
        file.attrs["label_definitions"] = json.dumps({"reddening": declaration})
    grid = load_grid(grid_file, PIXELS)
    config = TrainingConfig(
        network=NetworkConfig(
            patch=32, width=16, depth=1, heads=2, label_features=16, components=20, direct_hidden=16
        ),
        interpolant=None,
        steps=4,
        validate_every=4,
    )
    training = Training(grid, config, tmp_path)
    training.run()
    path = tmp_path / "m.safetensors"
    quick = DistilConfig(spectra=100, derivatives=20, steps=20, batch=40, derivative_batch=10)
    compiling = CompileConfig(components=8, hidden=24, distil=quick)
    build_model(path, "m", training.average, grid, config, 4, compiling)
    model = Emulator.from_file(path)
    assert model.label_names[3] == "reddening"
    assert np.isfinite(model.jacobian(grid.labels[0])).all()
    assert (model.labels[3].description, model.labels[3].upper) == ("Colour excess", 1.0)
    shown = CliRunner().invoke(app, ["model", "show", str(path)])
    assert shown.exit_code == 0, shown.output
    assert "Colour excess" in shown.output
