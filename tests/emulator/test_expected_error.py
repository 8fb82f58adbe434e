"""The error that a model is expected to have."""

from __future__ import annotations

import numpy as np

from phdl_catalog.emulator.expected_error import ExpectedError, measure_expected_error
from phdl_catalog.emulator.grid import AbInitioGrid

NAMES = ("teff", "logg", "fe_h")


def simulated(generator: np.random.Generator, n_stars: int) -> tuple[np.ndarray, ...]:
    """Residuals of known size: larger in cool metal-rich stars and in the first half of the pixels."""
    labels = np.repeat(generator.uniform([4200, 1.0, -2.0], [6800, 5.0, 0.4], (n_stars, 3)), 4, axis=0)
    star = np.repeat(np.arange(n_stars), 4)
    amplitude = np.exp(3.0 * (5040.0 / labels[:, 0] - 1.0) + 0.5 * labels[:, 2])
    profile = np.where(np.arange(200) < 100, 0.004, 0.001)
    sigma = amplitude[:, None] * profile
    return labels, star, sigma, sigma * generator.normal(size=sigma.shape)


def test_profile_and_amplitude_of_known_residuals_are_found() -> None:
    labels, star, sigma, residuals = simulated(np.random.default_rng(1), 60)
    expected = ExpectedError.from_residuals(NAMES, labels, residuals, star)
    ratio = expected.at(labels) / sigma
    inner = np.r_[10:90, 110:190]
    assert np.all(np.abs(np.log(ratio[:, inner])) < 0.35)
    assert np.median(ratio[:, inner]) == np.clip(np.median(ratio[:, inner]), 0.95, 1.05)


def test_new_residuals_have_the_size_that_was_expected() -> None:
    generator = np.random.default_rng(2)
    labels, star, _, residuals = simulated(generator, 40)
    expected = ExpectedError.from_residuals(NAMES, labels, residuals, star)
    fresh, _, _, others = simulated(generator, 40)
    pull = np.sqrt(np.mean((others / expected.at(fresh)) ** 2, axis=1))
    assert 0.9 < np.median(pull) < 1.1


def test_no_star_is_promised_better_than_the_best_that_was_seen() -> None:
    labels, star, _, residuals = simulated(np.random.default_rng(3), 40)
    expected = ExpectedError.from_residuals(NAMES, labels, residuals, star)
    far = np.array([[9000.0, 4.0, -4.0], [3000.0, 4.0, 1.0]])
    np.testing.assert_allclose(expected.amplitude(far), expected.limits)


def test_a_model_is_measured_on_validation_stars_alone(small_grid: AbInitioGrid) -> None:
    import torch

    wrong = np.where(small_grid.is_validation, 0.01, 5.0)
    rows = {tuple(label): shift for label, shift in zip(small_grid.labels, wrong, strict=True)}
    truth = {tuple(label): flux for label, flux in zip(small_grid.labels, small_grid.flux, strict=True)}

    def flux_of(labels: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.as_tensor(truth[k] + rows[k]) for k in map(tuple, labels.numpy())])

    expected, summary = measure_expected_error(flux_of, small_grid)
    at = expected.at(small_grid.labels[small_grid.is_validation])
    np.testing.assert_allclose(at, 0.01, rtol=1e-3)
    assert summary["stars"] == len(np.unique(small_grid.star[small_grid.is_validation]))
    np.testing.assert_allclose(summary["held_out_ratio"], 1.0, atol=1e-2)
