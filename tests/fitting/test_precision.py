"""Fits of ab initio spectra that trained no model, seen as the survey would: against the Cramer-Rao bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from precision import SHOWN, Precision, fit, measure
from precision_samples import observe_grid, packaged_sample, unseen

from phdl_catalog import load_model
from phdl_catalog.emulator import packaged_models

pytestmark = pytest.mark.skipif("default" not in packaged_models(), reason="there is no packaged model")

#: What is asked of every label: scatter of repeats over the bound of photons, spread of (fit - truth) over
#: the error, and its median.
LARGEST_SCATTER, PULL, LARGEST_BIAS = 1.15, (0.85, 1.15), 0.3

#: How far two or three dozen stars may be from it: two standard errors of a spread, and of a median.
UNSURE_SPREAD, UNSURE_MEDIAN = 0.3, 0.35


def _check(found: list[Precision]) -> None:
    shown = [item for item in found if item.label in SHOWN and item.fits > 20]
    scatter, pull, bias = (np.array([getattr(item, name) for item in shown]) for name in _COLUMNS)
    # What a label's own stars leave open, all labels together do not.
    assert 0.8 < np.median(scatter) <= LARGEST_SCATTER
    assert PULL[0] <= np.median(pull) <= PULL[1]
    assert np.median(np.abs(bias)) < LARGEST_BIAS
    said = {(item.label, item.snr): (item.scatter, item.pull, item.bias) for item in shown}
    assert scatter.max() < 1.4, said
    assert PULL[0] - UNSURE_SPREAD <= pull.min() <= pull.max() <= PULL[1] + UNSURE_SPREAD, said
    assert np.abs(bias).max() < LARGEST_BIAS + UNSURE_MEDIAN, said


_COLUMNS = ("scatter", "pull", "bias")


def test_fits_of_ab_initio_spectra_are_as_precise_as_they_say() -> None:
    model = load_model("default")
    grid = unseen(model, packaged_sample())
    # Each star once: one that is drawn twice says nothing new of a spread, and counts twice.
    stars = len(np.unique(grid.star))
    _check(measure([(model, grid)], stars, repeats=4, seed=3, snrs=(30.0, 100.0), ab_initio=True))


def test_the_emulators_error_is_not_taken_for_that_of_independent_pixels() -> None:
    model = load_model("default")
    grid = unseen(model, packaged_sample())
    found = measure([(model, grid)], stars=40, repeats=1, seed=5, snrs=(300.0,), ab_initio=True)
    # Without patterns that pixels err in together it is 1.7, with them 1.1.
    assert np.median([item.pull for item in found if item.label in SHOWN]) < 1.4


def test_ab_initio_spectra_show_themselves_that_they_have_the_models_lines() -> None:
    model = load_model("default")
    grid = unseen(model, packaged_sample())
    observed = observe_grid(grid, stars=len(np.unique(grid.star)), repeats=2, snr=60.0, seed=6)
    told, seen = (fit(model, observed, stated=True, ab_initio=ab_initio) for ab_initio in (True, False))
    assert not told.corrected.any()
    assert np.mean(seen.corrected) < 0.1
    both = ~seen.corrected & (seen.flags == 0)
    assert np.abs((seen.labels - told.labels) / told.errors)[both].max() < 0.05


@pytest.mark.shared_data
def test_fits_of_a_grids_validation_stars_are_as_precise_as_they_say(shared_data: Path) -> None:
    model = load_model("default")
    grid = unseen(model, shared_data / "grid" / "synthe_v1.h5")
    # Each star once, and the scatter of repeats from as many as time allows.
    _check(measure([(model, grid)], stars=36, repeats=3, seed=4, snrs=(30.0, 100.0)))
