"""Labels whose lines grow along them: what is possible is not even to both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from line_model import NAMES, RANGE, LineModel
from line_survey import simulate
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.fitting import FitOptions, Fitter, LabelFlag
from phdl_catalog.fitting.box import moments_between
from phdl_catalog.fitting.fit import Fitted
from phdl_catalog.fitting.growth import REACH, growth, moments_with_growth
from phdl_catalog.fitting.prior import LabelPrior

_ELEMENT = NAMES.index("eu_fe")
_LOW, _HIGH = RANGE[_ELEMENT]


class WeakLines(LineModel):
    """The line model, with lines of one element whose depth is its abundance: ten times as much a dex."""

    def __init__(self) -> None:
        super().__init__()
        # All that depends on the element but what is linear in it is taken out.
        own = (self._first == _ELEMENT + 1) | (self._second == _ELEMENT + 1)
        self._weight[own & ~((self._first == 0) & (self._second == _ELEMENT + 1))] = 0.0

    def _warped(self, labels: Tensor) -> Tensor:
        """Labels with an abundance that is linear in the element's number of atoms."""
        amount = torch.pow(10.0, labels[:, _ELEMENT])
        scale = (_HIGH - _LOW) / (10.0**_HIGH - 10.0**_LOW)
        warped = labels.clone()
        warped[:, _ELEMENT] = _LOW + (amount - 10.0**_LOW) * scale
        return warped

    def coefficients(self, labels: Tensor) -> Tensor:
        return super().coefficients(self._warped(labels))

    def coefficients_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        _, jacobian = super().coefficients_and_jacobian(self._warped(labels))
        scale = (_HIGH - _LOW) / (10.0**_HIGH - 10.0**_LOW)
        jacobian[:, :, _ELEMENT] *= scale * np.log(10.0) * torch.pow(10.0, labels[:, _ELEMENT])[:, None]
        return self.coefficients(labels), jacobian


@pytest.fixture(scope="module")
def weak() -> WeakLines:
    return WeakLines()


@pytest.fixture(scope="module")
def fitter(weak: WeakLines) -> Fitter:
    return Fitter(weak)


@pytest.mark.parametrize("mean", [-0.7, -0.6, 0.1, 1.1])
@pytest.mark.parametrize("sigma", [0.02, 0.3, 2.0])
@pytest.mark.parametrize("grows", [-0.4, 0.0, 0.1, 0.6, 2.0])
def test_moments_are_sums_over_what_is_possible(mean: float, sigma: float, grows: float) -> None:
    low, high = -0.7, 1.2
    found = moments_with_growth(
        *(torch.tensor([x], dtype=torch.float64) for x in (mean, sigma, grows, low, high))
    )
    at = np.linspace(max(low, mean - REACH * sigma), min(high, mean + REACH * sigma), 200_001)
    steps = (at - mean) / sigma
    away = np.expm1(np.clip(grows * steps, None, 300.0)) / grows if grows else steps
    density = np.exp(np.min(away**2) / 2.0 - away**2 / 2.0)
    centre = np.trapezoid(at * density) / np.trapezoid(density)
    spread = np.sqrt(np.trapezoid((at - centre) ** 2 * density) / np.trapezoid(density))
    assert found[0].item() == pytest.approx(centre, abs=0.01 * spread)
    assert found[1].item() == pytest.approx(spread, rel=0.02)


def test_without_growth_moments_are_those_of_a_gaussian() -> None:
    generator = torch.Generator().manual_seed(3)
    mean = 1.5 * torch.rand(200, generator=generator, dtype=torch.float64) - 0.6
    sigma = 0.05 + torch.rand(200, generator=generator, dtype=torch.float64)
    low, high = torch.full_like(mean, -0.6), torch.full_like(mean, 0.9)
    found = moments_with_growth(mean, sigma, torch.zeros_like(mean), low, high)
    middle, variance = moments_between(mean, sigma, low, high)
    torch.testing.assert_close(found[0], middle, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(found[1], variance.sqrt(), rtol=1e-3, atol=0.0)


def _growth(fitter: Fitter, fitted: Fitted, label: int) -> tuple[float, float]:
    """The growth of a label, and the error that it is for."""
    solution = fitted.solution
    with torch.no_grad():
        estimate = fitter.conclude(replace(solution, noise=solution.curvature)).estimate
        found = growth(
            fitter.forward,
            fitter.curvature,
            (solution.point, solution.weights),
            estimate.values,
            estimate.covariance,
            solution.box,
            (torch.tensor([0]), torch.tensor([label])),
        )
    return found.item(), estimate.errors[0, label].item() * float(fitter.forward.half_range[label])


def test_weak_lines_grow_tenfold_a_dex(weak: WeakLines, fitter: Fitter) -> None:
    sample = simulate(weak, 6, snr=100.0, seed=21, spread=0.3)
    for row in range(6):
        fitted = fitter.solve(sample.wavelength, sample.flux[row], sample.ivar[row])
        assert fitted is not None
        found, error = _growth(fitter, fitted, _ELEMENT)
        assert found == pytest.approx(error * np.log(10.0), rel=0.1)
        found, error = _growth(fitter, fitted, NAMES.index("ni_fe"))
        assert 0.0 < found < 0.9 * error * np.log(10.0)


def test_abundances_of_weak_lines_have_no_bias(
    weak: WeakLines, fitter: Fitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = simulate(weak, 800, snr=20.0, seed=22, spread=1.0, largest_rv=100.0)

    def pulls() -> NDArray[np.float64]:
        result = fitter.fit(sample.wavelength, sample.flux, sample.ivar)
        free = result.label_flags[:, _ELEMENT] == 0
        return ((result.labels - sample.labels) / result.errors)[free, _ELEMENT]

    grown = pulls()
    assert len(grown) > 400
    assert abs(grown.mean()) < 0.15
    assert 0.9 < grown.std() < 1.15
    # The same as if they did not grow.
    monkeypatch.setattr("phdl_catalog.fitting.conclusion._LEAST_ERROR", np.inf)
    even = pulls()
    assert len(even) == len(grown)
    assert even.mean() > 0.3


def test_a_label_with_a_prior_or_at_a_bound_keeps_what_linear_theory_says(
    weak: WeakLines, fitter: Fitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = simulate(weak, 40, snr=20.0, seed=23, spread=1.0, largest_rv=100.0)
    asked: list[tuple[Tensor, Tensor]] = []

    def watch(*given: object) -> Tensor:
        which = given[-1]
        assert isinstance(which, tuple)
        asked.append(which)
        return torch.zeros(len(which[0]), dtype=torch.float64)

    monkeypatch.setattr("phdl_catalog.fitting.conclusion.growth", watch)
    result = fitter.fit(sample.wavelength, sample.flux, sample.ivar)
    ((star, label),) = asked
    assert _ELEMENT in label.tolist()
    assert np.all(result.label_flags[star, label] & int(LabelFlag.AT_BOUND | LabelFlag.UNCONSTRAINED) == 0)
    assert np.all(result.errors[star, label] > 0.06)
    known = FitOptions(priors=(LabelPrior("eu_fe", 0.0, 0.2),))
    asked.clear()
    Fitter(weak, known).fit(sample.wavelength, sample.flux, sample.ivar)
    assert _ELEMENT not in asked[0][1].tolist()
