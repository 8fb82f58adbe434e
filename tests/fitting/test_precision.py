"""Fits of ab initio spectra that trained no model, seen as the survey would: against the Cramer-Rao bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.precision import SHOWN, Precision, measure, packaged_sample, unseen
from phdl_catalog import load_model
from phdl_catalog.emulator import packaged_models

pytestmark = pytest.mark.skipif("default" not in packaged_models(), reason="there is no packaged model")


def _check(found: list[Precision]) -> None:
    shown = [item for item in found if item.label in SHOWN and np.isfinite(item.pull)]
    scatter = np.array([item.scatter for item in shown])
    # The bound holds within what this few spectra can tell.
    assert 0.8 < np.median(scatter) < 1.15
    assert scatter.max() < 1.4
    pull = np.array([item.pull for item in shown if item.snr <= 50])
    assert 0.85 < np.median(pull) < 1.25
    assert np.median(np.abs([item.bias for item in shown])) < 0.3


def test_fits_of_ab_initio_spectra_reach_the_bound() -> None:
    model = load_model("default")
    _check(measure(model, unseen(model, packaged_sample()), stars=16, repeats=4, seed=3, snrs=(50.0,)))


@pytest.mark.shared_data
def test_fits_of_a_grids_validation_stars_reach_the_bound(shared_data: Path) -> None:
    model = load_model("default")
    grid = unseen(model, shared_data / "grid" / "synthe_v1.h5")
    _check(measure(model, grid, stars=20, repeats=3, seed=4, snrs=(30.0, 100.0)))
