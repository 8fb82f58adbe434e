from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace as replace_fields
from pathlib import Path

import h5py
import numpy as np
import pytest

from phdl_catalog.emulator.grid import AbInitioGrid, load_grid
from phdl_catalog.errors import GridError, InputError
from phdl_catalog.labels import declare_label
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


Damage = Callable[[h5py.File], None]


def names(*given: str) -> np.ndarray:
    return np.array(given, dtype=h5py.string_dtype())


def attribute(name: str, value: object, of: str = "/") -> Damage:
    """Sets an attribute; None removes it."""

    def damage(file: h5py.File) -> None:
        if value is None:
            del file[of].attrs[name]
        else:
            file[of].attrs[name] = value

    return damage


def values(name: str, where: object, change: Callable[[np.ndarray], object]) -> Damage:
    """Changes a part of a data set."""

    def damage(file: h5py.File) -> None:
        array = file[name][()]
        array[where] = change(array)
        file[name][...] = array

    return damage


def without(name: str) -> Damage:
    return lambda file: file.__delitem__(name)


def cut(name: str) -> Damage:
    """Takes away the last row of a data set."""

    def damage(file: h5py.File) -> None:
        kept, attributes = file[name][:-1], dict(file[name].attrs)
        del file[name]
        file[name] = kept
        file[name].attrs.update(attributes)

    return damage


DAMAGES: tuple[tuple[Damage, str], ...] = (
    (without("labels"), "'/labels' is missing"),
    (without("gradients/step"), "'/gradients/step' is missing"),
    (attribute("label_names", None), "'label_names' is missing"),
    (attribute("label_names", names("teff", "logg", "feh", "mg_fe")), "use 'fe_h' instead"),
    (attribute("label_names", names("teff", "logg", "fe_h", "mg_h")), "'mg_fe' = mg_h - fe_h"),
    (attribute("label_names", names("teff", "logg", "fe_h", "fe_h")), "fe_h twice"),
    (attribute("label_names", names("teff", "v_micro", "fe_h", "mg_fe")), "logg is missing from label_names"),
    (attribute("label_names", names("teff", "logg", "fe_h")), r"\(180, 4\), expected \(N, 3\)"),
    (attribute("label_units", names("K", "dex(m.s**-2)", "dex", "dex")), "logg is in 'dex.m"),
    (attribute("label_definitions", '{"vsini": {}}'), "'vsini' lacks unit, lower"),
    (attribute("label_definitions", "vsini"), "not a JSON table"),
    (attribute("resolution", None), "'resolution' is missing"),
    (attribute("resolution", "high"), "'resolution' must be a number, not 'high'"),
    (attribute("resolution", 1500.0), "R = 1500 to R = 1800: the new one must be lower"),
    (attribute("medium", "air"), "vacuum"),
    (values("labels", (3, 1), lambda _: np.nan), "labels holds values that are not finite"),
    (values("labels", (3, 0), lambda _: 5.5e4), "teff must lie between 3000 and 10000 K.*55000 in row 3"),
    (values("labels", 3, lambda old: old[0]), "same labels are in training and in validation .rows 0 and 3"),
    (cut("flux"), r"flux has shape \(179, 450\), expected \(180, 450\)"),
    (attribute("scale", 1.0, "flux"), "normalised flux must lie between 0 and 2.*'scale'"),
    (values("flux", 9, lambda _: 0), "flux never rises above 0.3 in row 9"),
    (cut("star"), r"star has shape \(179,\), expected \(180,\)"),
    (values("split", 0, lambda _: 0), "star 0 is in training and in validation"),
    (values("split", 0, lambda _: 7), "split must be 0 .* row 0"),
    (values("wavelength", 5, lambda old: old[4]), "wavelength must increase.*pixel 4"),
    (values("wavelength", 7, lambda _: np.nan), "not finite and positive .pixel 7"),
    (values("wavelength", ..., lambda old: old[::-1]), "it falls: reverse it"),
    (values("wavelength", ..., lambda old: old / 10), "must be in Angstrom"),
    (values("wavelength", ..., lambda old: old + 30), "needs the source to cover"),
    (values("gradients/labels", (1, 2), lambda _: 3.0), "gradients/labels: fe_h must lie between -5 and 1"),
    (values("gradients/flux", (1, 3), lambda _: np.nan), "gradients/flux holds values that are not finite"),
    (values("gradients/gradient", (1, 2, 3), lambda _: np.inf), "not finite .star 1"),
    (values("gradients/step", 2, lambda _: 0.0), "step must be positive, but that of fe_h is 0"),
    (values("gradients/step", 1, lambda _: 50.0), "step of logg is 50 .*more than the 1.7"),
    (cut("gradients/gradient"), r"gradients/gradient has shape \(3, 4, 450\), expected \(4, 4, 450\)"),
    (attribute("teff_scale", None, "gradients/gradient"), "by teff, times its step.*'teff_scale'"),
    (attribute("teff_scale", -1.0, "gradients/gradient"), "teff_scale must be positive"),
    (attribute("label_names", names("teff", "logg"), "gradients"), "must be the same"),
    (lambda file: file.__setitem__("gradients/star", [0, 1, 2, 3]), "disagrees with split for stars 3, 0"),
)


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_a_damaged_grid_is_refused_with_what_is_wrong(grid_file: Path, damage: Damage, message: str) -> None:
    with h5py.File(grid_file, "a") as file:
        damage(file)
    with pytest.raises(GridError, match=message) as caught:
        load_grid(grid_file, PIXELS)
    assert len(caught.value.problems) == 1


def test_all_that_is_wrong_is_said_at_once(grid_file: Path) -> None:
    with h5py.File(grid_file, "a") as file:
        file["labels"][3, 1] = np.nan
        file["wavelength"][5] = -1.0
        file["gradients/step"][2] = 0.0
        file["split"][0] = 0
        file.attrs["medium"] = "air"
    with pytest.raises(GridError, match="for 5 reasons") as caught:
        load_grid(grid_file, PIXELS)
    for part in ("labels holds", "wavelength holds", "step of|step must", "star 0", "vacuum"):
        assert any(re.search(part, problem) for problem in caught.value.problems), part


def test_spectra_are_all_looked_at_before_the_grid_is_refused(grid_file: Path) -> None:
    with h5py.File(grid_file, "a") as file:
        file["flux"][4], file["flux"][9] = np.zeros((2, 450))
        file["gradients/gradient"][3, 1, 7] = np.nan
    with pytest.raises(GridError, match="rows 4, 9") as caught:
        load_grid(grid_file, PIXELS)
    assert len(caught.value.problems) == 2


def test_a_label_beyond_the_vocabulary_is_read_if_the_file_declares_it(grid_file: Path) -> None:
    declaration = {"unit": "km/s", "lower": -1, "upper": 100, "description": "Projected rotation velocity"}
    with h5py.File(grid_file, "a") as file:
        file.attrs["label_names"] = names("teff", "logg", "fe_h", "vsini")
        file.attrs["label_definitions"] = json.dumps({"vsini": declaration})
    grid = load_grid(grid_file, PIXELS)
    assert grid.label_names[3] == "vsini"
    assert (grid.definitions[3].unit, grid.definitions[3].upper) == ("km/s", 100.0)
    assert grid.definitions[0].name == "teff"
    assert grid.source["declared_labels"]["vsini"]["description"] == "Projected rotation velocity"
    with h5py.File(grid_file, "a") as file:
        file.attrs["label_definitions"] = json.dumps({"vsini": {**declaration, "upper": 0.1}})
    with pytest.raises(GridError, match=r"vsini must lie between -1 and 0.1 km/s"):
        load_grid(grid_file, PIXELS)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mg_fe", {}, "the vocabulary has it"),
        ("feh", {}, "call the label 'fe_h'"),
        ("v sin i", {}, "small letters"),
        ("vsini", {"upper": -3}, "lower must be below upper"),
        ("vsini", {"upper": "high"}, "must be numbers"),
        ("vsini", {"uper": 3}, "unknown entry uper"),
    ],
)
def test_a_declaration_without_sense_is_refused(name: str, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        declare_label(name, {"unit": "km/s", "lower": 0, "upper": 9, "description": "x", **change})


def test_a_grid_that_teaches_nothing_about_a_label_is_no_training_grid(small_grid: AbInitioGrid) -> None:
    small_grid.require_trainable()
    constant = small_grid.labels.copy()
    constant[:, 3] = 0.1
    with pytest.raises(GridError, match="mg_fe has the same value"):
        replace_fields(small_grid, labels=constant).require_trainable()
    with pytest.raises(GridError, match="both training and validation"):
        replace_fields(small_grid, is_validation=np.zeros(180, bool)).require_trainable()


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
