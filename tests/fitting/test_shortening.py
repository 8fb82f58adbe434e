"""A model in fewer basis spectra is the same model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from line_model import LineModel
from torch import Tensor

from phdl_catalog import load_model
from phdl_catalog.emulator import Emulator
from phdl_catalog.fitting import FitOptions, Fitter
from phdl_catalog.fitting.forward import CompiledModel
from phdl_catalog.fitting.shortening import shortened
from phdl_catalog.fitting.starts import template_labels
from phdl_catalog.labels import is_abundance
from phdl_catalog.spectra.grid import SURVEY_GRID


@pytest.fixture(scope="module")
def model() -> Emulator:
    return load_model("default")


def _labels(model: Emulator, number: int) -> Tensor:
    """Stars like templates with random abundances, others than those that tell what to keep."""
    generator = np.random.default_rng(99)
    templates = template_labels(model)
    low, high = model.label_range.T
    labels = templates[generator.integers(len(templates), size=number)]
    abundances = [is_abundance(name) for name in model.label_names]
    labels = np.where(abundances, generator.uniform(low, high, labels.shape), labels)
    return torch.as_tensor(labels, dtype=torch.float32)


def _derivatives(compiled: CompiledModel, labels: Tensor) -> Tensor:
    _, jacobian = compiled.coefficients_and_jacobian(labels)
    return jacobian.mT @ compiled.basis[1:]


def test_it_is_shorter_and_loses_next_to_nothing(model: Emulator) -> None:
    random = torch.get_rng_state()
    whole, short = model.compiled, shortened(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert len(short.basis) < 0.8 * len(whole.basis)
    labels = _labels(model, 60)
    with torch.no_grad():
        flux, other = (x.coefficients(labels) @ x.basis[1:] + x.basis[0] for x in (whole, short))
        assert (flux - other).square().mean().sqrt() < 7e-5
        slopes, others = _derivatives(whole, labels), _derivatives(short, labels)
    lost = (slopes - others).square().sum(dim=(0, 2)) / slopes.square().sum(dim=(0, 2))
    assert torch.all(lost.sqrt() < 0.015)


def test_fits_are_the_same(model: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    labels = _labels(model, 12).double().numpy()
    flux = np.ones((12, SURVEY_GRID.size))
    first = model.pixels.first - SURVEY_GRID.first
    flux[:, first : first + model.pixels.size] = model.predict(labels)
    ivar = np.full(flux.shape, 60.0**2)
    flux += generator.normal(size=flux.shape) / 60.0
    options = FitOptions(correct_model=False)
    short = Fitter(model, options).fit(SURVEY_GRID.wavelength, flux, ivar)
    monkeypatch.setattr("phdl_catalog.fitting.fit.shortened", lambda model: model.compiled)
    whole = Fitter(model, options).fit(SURVEY_GRID.wavelength, flux, ivar)
    assert np.all(whole.flags == short.flags)
    free = (whole.label_flags == 0) & (short.label_flags == 0)
    assert free.mean() > 0.3
    off = np.abs(short.labels - whole.labels)[free] / whole.errors[free]
    assert np.percentile(off, 95) < 0.1
    ratio = short.errors[free] / whole.errors[free]
    assert np.all(np.abs(np.percentile(ratio, [2, 98]) - 1.0) < 0.03)


def test_a_model_that_cannot_be_turned_stays_as_it_is() -> None:
    lines = LineModel()
    assert shortened(lines) is lines.compiled
