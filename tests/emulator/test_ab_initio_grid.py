from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from phdl_catalog.emulator.grid import AbInitioGrid, load_grid
from phdl_catalog.errors import GridError, InputError
from phdl_catalog.spectra.resample import degrade, degrading_operator
from tests.analytic_grid import NAMES, PIXELS, analytic_flux


def test_labels_and_shapes_are_those_of_the_file(small_grid: AbInitioGrid) -> None:
    assert small_grid.label_names == NAMES
    assert small_grid.flux.shape == (180, PIXELS.size)
    assert small_grid.gradients is not None
    assert small_grid.gradients.gradient.shape == (4, 4, PIXELS.size)


def test_a_gradient_times_its_step_is_the_difference_of_two_spectra(small_grid: AbInitioGrid) -> None:
    """The scale of teff, per 100 K in the file, is undone: every gradient is per label unit."""
    gradients = small_grid.gradients
    assert gradients is not None
    fine = np.arange(3.6985, 3.7165, 4e-5)
    operator = degrading_operator(10**fine, 5000.0, PIXELS.wavelength, 1800.0)
    for index in range(4):
        moved = gradients.labels + gradients.step * np.eye(4)[index]
        difference = degrade(operator, analytic_flux(moved, fine) - analytic_flux(gradients.labels, fine))
        predicted = gradients.gradient[:, index] * gradients.step[index]
        np.testing.assert_allclose(predicted, difference, atol=2e-6)


def test_no_star_is_in_training_and_in_validation(small_grid: AbInitioGrid) -> None:
    rows = small_grid.is_validation
    assert not set(small_grid.star[rows]) & set(small_grid.star[~rows])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.__delitem__("labels"), "'/labels' is missing"),
        (lambda f: f["labels"].__setitem__((3, 1), np.nan), "labels holds values that are not finite"),
        (lambda f: f["split"].__setitem__(0, 0), "are in training and in validation"),
        (lambda f: f["wavelength"].__setitem__(5, f["wavelength"][4]), "wavelength must increase"),
        (lambda f: f["flux"].attrs.__setitem__("scale", 1.0), "normalised flux must lie between"),
        (lambda f: f["gradients/step"].__setitem__(2, 0.0), "step must be positive"),
        (lambda f: f.attrs.__setitem__("medium", "air"), "vacuum"),
    ],
)
def test_a_damaged_grid_is_refused_with_what_is_wrong(grid_file: Path, damage, message: str) -> None:
    with h5py.File(grid_file, "a") as file:
        damage(file)
    with pytest.raises(GridError, match=message):
        load_grid(grid_file, PIXELS)


def test_an_unknown_label_is_refused_with_the_right_name(grid_file: Path) -> None:
    with h5py.File(grid_file, "a") as file:
        file.attrs["label_names"] = np.array(["teff", "logg", "feh", "mg_fe"], dtype=h5py.string_dtype())
    with pytest.raises(InputError, match="use 'fe_h' instead"):
        load_grid(grid_file, PIXELS)


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grid.h5"
    path.write_text("teff logg fe_h")
    with pytest.raises(GridError, match="not an HDF5 file"):
        load_grid(path)


@pytest.mark.shared_data
def test_the_real_grid_has_its_families_and_labels(shared_data: Path) -> None:
    for path in sorted((shared_data / "grid").glob("*.h5")):
        grid = load_grid(path)
        assert grid.label_names[:4] == ("teff", "logg", "v_micro", "fe_h")
        assert grid.is_validation.any()
        assert (~grid.is_validation).any()
        assert grid.flux.min() >= 0
        assert grid.flux.max() <= 1.001
