"""The face of a model, on the packaged one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from phdl_catalog import Emulator, load_model
from phdl_catalog.emulator.grid import load_grid
from phdl_catalog.emulator.registry import find_model, keep_model
from phdl_catalog.errors import ConflictError, InputError, ModelError, NotFoundError


@pytest.fixture(scope="module")
def model() -> Emulator:
    return load_model("default")


@pytest.fixture(scope="module")
def labels(model: Emulator) -> np.ndarray:
    """Three ordinary stars, [X/Fe] = 0."""
    rows = np.zeros((3, len(model.label_names)))
    rows[:, :4] = [[5772.0, 4.44, 1.0, 0.0], [5200.0, 3.6, 1.2, -0.5], [6300.0, 4.1, 1.4, -0.2]]
    return rows


def test_wavelengths_are_on_the_survey_grid_in_vacuum(model: Emulator) -> None:
    steps = np.diff(np.log10(model.wavelength))
    np.testing.assert_allclose(steps, 1e-4, atol=1e-10)
    assert model.resolution == 1800.0


def test_numpy_in_numpy_out_and_tensor_in_tensor_out(model: Emulator, labels: np.ndarray) -> None:
    flux = model.predict(labels)
    assert isinstance(flux, np.ndarray)
    assert flux.shape == (3, model.wavelength.size)
    tensor = model.predict(torch.as_tensor(labels))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), flux)
    assert model.predict(labels[0]).shape == (model.wavelength.size,)


def test_the_spectrum_of_a_solar_twin_has_the_magnesium_triplet(model: Emulator, labels: np.ndarray) -> None:
    """Mg I b at 5174.1 A in vacuum is deep, the region redward of it is near the continuum."""
    flux = model.predict(labels[0])
    triplet = flux[np.abs(model.wavelength - 5174.1) < 2].min()
    assert triplet < 0.75
    assert np.median(flux[(model.wavelength > 6600) & (model.wavelength < 6800)]) > 0.93


@pytest.mark.parametrize("form", ["transformer", "compiled"])
def test_the_jacobian_is_that_of_finite_differences(model: Emulator, labels: np.ndarray, form: str) -> None:
    emulator = model if form == "transformer" else model.compiled
    jacobian = emulator.jacobian(labels)
    assert jacobian.shape == (3, model.wavelength.size, len(model.label_names))
    for name, step in (("teff", 20.0), ("logg", 0.05), ("fe_h", 0.02), ("mg_fe", 0.02), ("eu_fe", 0.05)):
        index = model.label_names.index(name)
        shift = step * np.eye(len(model.label_names))[index]
        difference = (emulator.predict(labels + shift) - emulator.predict(labels - shift)) / (2 * step)
        scale = np.abs(difference).max()
        np.testing.assert_allclose(jacobian[:, :, index], difference, atol=0.02 * scale + 2e-5 / step)


def test_the_compiled_form_is_as_close_as_its_file_says(model: Emulator, labels: np.ndarray) -> None:
    error = model.compiled.predict(labels) - model.predict(labels)
    stated = model.metadata["compile_error"]
    assert np.sqrt(np.mean(error**2)) < 2 * stated["rms"]
    assert stated["rms_basis"] <= stated["rms"]


def test_a_batch_does_not_change_a_prediction(model: Emulator, labels: np.ndarray) -> None:
    alone = np.stack([model.compiled.predict(row) for row in labels])
    np.testing.assert_allclose(model.compiled.predict(labels), alone, atol=2e-6)


def test_distance_is_below_one_for_ordinary_stars_and_above_outside(
    model: Emulator, labels: np.ndarray
) -> None:
    assert np.all(model.distance(labels) < 1)
    hot_supergiant = labels[0].copy()
    hot_supergiant[:2] = [6800.0, 1.0]
    alpha_monster = labels[0].copy()
    alpha_monster[model.label_names.index("mg_fe")] = 1.5
    assert np.all(model.distance([hot_supergiant, alpha_monster]) > 1)
    assert model.atmosphere_distance(alpha_monster)[0] < 1
    assert np.isnan(model.distance(np.full_like(labels[0], np.nan))[0])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((2, 3)), r"\(2, 3\), expected \(N, \d+\)"),
        (np.zeros((1, 2, 3)), r"\(1, 2, 3\)"),
        (np.zeros((0, 32)), "at least one row"),
    ],
)
def test_a_wrong_shape_is_quoted(model: Emulator, bad: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.predict(bad)


def test_nan_labels_are_refused_with_their_row(model: Emulator, labels: np.ndarray) -> None:
    bad = labels.copy()
    bad[1, 5] = np.nan
    with pytest.raises(InputError, match="row 1"):
        model.predict(bad)


def test_an_unknown_model_is_answered_with_those_that_exist() -> None:
    with pytest.raises(NotFoundError, match="default"):
        load_model("defalt")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.safetensors"
    text.write_text("not a model")
    with pytest.raises(ModelError, match="not a model file"):
        load_model(text)
    foreign = tmp_path / "b.safetensors"
    save_file({"x": torch.zeros(2)}, foreign)
    with pytest.raises(ModelError, match="not one of a phdl model"):
        load_model(foreign)


def test_loading_needs_no_server_and_no_settings(tmp_path: Path) -> None:
    program = "from phdl_catalog import load_model; print(len(load_model().label_names))"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PHDL_DATABASE_URL": "postgresql://nowhere/x",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) >= 4


def test_evaluate_prints_the_documented_json(grid_sample: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "phdl_catalog.cli.main",
            "model",
            "evaluate",
            "default",
            "--grid",
            str(grid_sample),
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(done.stdout)
    assert {"n", "rms", "mae", "p99", "rms_core", "gradients"} <= set(document)
    quality = document["gradients"]["fe_h"]
    assert set(quality) == {"correlation", "relative_error", "rms"}
    assert document["rms"] < 0.02
    assert quality["correlation"] > 0.9


@pytest.mark.shared_data
def test_the_stated_error_is_found_again_on_the_grid(model: Emulator, shared_data: Path) -> None:
    """What the model file claims can be measured again with the grid it was trained on."""
    from phdl_catalog.emulator.evaluation import evaluate

    path = shared_data / "grid" / model.metadata["grid"]["file"]
    if not path.exists():
        pytest.skip(f"{path.name}, on which the packaged model was trained, is not there")
    grid = load_grid(path)
    found = evaluate(model.flux, grid)
    stated = model.metadata["metrics"]
    assert found.rms == pytest.approx(stated["rms"], rel=1e-3)
    assert found.rms_core == pytest.approx(stated["rms_core"], rel=1e-3)


def test_a_model_file_from_elsewhere_is_kept_where_workers_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHDL_DATA_DIR", str(tmp_path / "data"))
    elsewhere = tmp_path / "download.safetensors"
    elsewhere.write_bytes(b"weights")
    kept = keep_model(elsewhere, "better")
    assert kept == find_model("better")
    assert kept.read_bytes() == b"weights"
    assert keep_model(elsewhere, "better") == kept
    elsewhere.write_bytes(b"others")
    with pytest.raises(ConflictError, match="another model 'better'"):
        keep_model(elsewhere, "better")
    # The packaged one stays where it is.
    assert keep_model("default", "default") == find_model("default")
    assert {path.name for path in kept.parent.iterdir()} == {"better.safetensors"}
