"""The error that a model is expected to have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from phdl_catalog.emulator.expected_error import ExpectedError, measure_expected_error
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.interpolant import GridInterpolant, InterpolantConfig
from phdl_catalog.emulator.left_out import Residuals, left_out_residuals
from phdl_catalog.emulator.principal import project, spectrum_basis, training_rows
from phdl_catalog.emulator.transforms import LabelTransform

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
    expected = ExpectedError.from_residuals(NAMES, Residuals(labels, residuals, star))
    ratio = expected.at(labels) / sigma
    inner = np.r_[10:90, 110:190]
    assert np.all(np.abs(np.log(ratio[:, inner])) < 0.35)
    assert np.median(ratio[:, inner]) == np.clip(np.median(ratio[:, inner]), 0.95, 1.05)


def test_new_residuals_have_the_size_that_was_expected() -> None:
    generator = np.random.default_rng(2)
    labels, star, _, residuals = simulated(generator, 40)
    expected = ExpectedError.from_residuals(NAMES, Residuals(labels, residuals, star))
    fresh, _, _, others = simulated(generator, 40)
    pull = np.sqrt(np.mean((others / expected.at(fresh)) ** 2, axis=1))
    assert 0.9 < np.median(pull) < 1.1


def test_no_star_is_promised_better_than_the_best_that_was_seen() -> None:
    labels, star, _, residuals = simulated(np.random.default_rng(3), 40)
    expected = ExpectedError.from_residuals(NAMES, Residuals(labels, residuals, star))
    far = np.array([[9000.0, 4.0, -4.0], [3000.0, 4.0, 1.0]])
    np.testing.assert_allclose(expected.amplitude(far), expected.limits)


def test_a_model_is_measured_on_validation_stars_alone(small_grid: AbInitioGrid) -> None:
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


def test_pixels_that_err_together_are_found() -> None:
    generator = np.random.default_rng(4)
    lines = np.zeros((2, 200))
    lines[0, 20:100:8], lines[1, 100:180:8] = 1.0, 1.0
    labels = generator.uniform([4200, 1.0, -2.0], [6800, 5.0, 0.4], (400, 3))
    strength = generator.normal(size=(400, 2)) * np.array([3e-3, 1e-3])
    noise = 3e-4 * generator.normal(size=(400, 200))
    expected = ExpectedError.from_residuals(
        NAMES, Residuals(labels, strength @ lines + noise, np.arange(400))
    )
    at = expected.amplitude(np.array([[5500.0, 4.0, -0.5]]))[0]
    covariance = at**2 * expected.modes.T @ expected.modes
    first, second = lines @ covariance @ lines.T / 10**2
    np.testing.assert_allclose([first[0], second[1]], [9e-6, 1e-6], rtol=0.3)
    assert abs(first[1]) < 0.2 * 3e-6
    total2 = (expected.modes**2).sum(axis=0) + expected.rest**2
    np.testing.assert_allclose(total2.mean(), (expected.profile**2).mean(), rtol=0.1)


def test_patterns_survive_a_model_file() -> None:
    labels, star, _, residuals = simulated(np.random.default_rng(5), 40)
    expected = ExpectedError.from_residuals(NAMES, Residuals(labels, residuals, star))
    tensors = {key.removeprefix("expected_error."): value for key, value in expected.tensors().items()}
    read = ExpectedError.from_tensors(NAMES, tensors)
    assert len(read.modes) == 10
    np.testing.assert_allclose(read.modes, expected.modes, atol=2e-3)
    before = {key: value for key, value in tensors.items() if key != "modes"}
    assert ExpectedError.from_tensors(NAMES, before).modes.shape == (0, 200)


@pytest.fixture(scope="module")
def taught(
    small_grid: AbInitioGrid,
) -> tuple[LabelTransform, torch.Tensor, GridInterpolant, InterpolantConfig]:
    """An interpolant of a grid and what it is made with."""
    transform = LabelTransform.fitted(small_grid.label_names, small_grid.labels[~small_grid.is_validation])
    basis, config = spectrum_basis(small_grid, 12), InterpolantConfig(groups=(3,), ranges=(2,), iterations=5)
    return transform, basis, GridInterpolant.fit(small_grid, transform, basis, config), config


def test_a_star_left_out_is_predicted_as_by_an_interpolant_of_the_others(
    small_grid: AbInitioGrid,
    taught: tuple[LabelTransform, torch.Tensor, GridInterpolant, InterpolantConfig],
) -> None:
    _, basis, whole, _ = taught
    number = int((~small_grid.is_validation).sum())
    _, flux = training_rows(small_grid)
    known = project(torch.as_tensor(flux), basis.double())
    star = np.concatenate([small_grid.star[~small_grid.is_validation], np.full(len(known) - number, -1)])
    one = torch.as_tensor(star == star[0])
    others, predicted, parts = whole.inputs[~one], torch.zeros(()), []
    for kernel, weight in zip(whole._kernels, whole._weights, strict=True):
        parts.append(kernel.with_noise(whole.inputs) @ weight)
        told = torch.linalg.solve(kernel.with_noise(others), parts[-1][~one])
        predicted = predicted + kernel(whole.inputs[one], others) @ told
    # Two groups of components and two ranges of pixels, each half of everything.
    assert len(parts) == 4
    for half in (parts[0] + parts[1], parts[2] + parts[3]):
        np.testing.assert_allclose(2.0 * half, known, atol=1e-6)
    np.testing.assert_allclose(whole.left_out(star)[one], known[one] - predicted, atol=1e-6)


def test_the_error_of_a_model_is_learnt_from_its_training_stars_and_sized_by_the_others(
    small_grid: AbInitioGrid,
    taught: tuple[LabelTransform, torch.Tensor, GridInterpolant, InterpolantConfig],
) -> None:
    transform, basis, interpolant, config = taught

    def flux_of(labels: torch.Tensor) -> torch.Tensor:
        return (basis[0].double() + interpolant.coefficients(labels) @ basis[1:].double()).float()

    left_out = left_out_residuals(flux_of, small_grid, transform, basis, config)
    assert left_out is not None
    training = np.unique(small_grid.star[~small_grid.is_validation])
    np.testing.assert_array_equal(np.unique(left_out.star), training)
    expected, summary = measure_expected_error(flux_of, small_grid, left_out)
    assert summary["stars"] == len(training)
    # Errors of stars left out are those of stars never seen, not the much smaller ones of the fit.
    assert 0.5 < summary["validation_over_left_out"] < 2.0
    assert 0 < len(expected.modes) <= len(training) // 4
    # As large as that of the stars left out, or of the others where theirs is larger; never smaller.
    alone = ExpectedError.from_residuals(small_grid.label_names, left_out)
    labels = small_grid.labels[:5]
    size = expected.amplitude(labels) / alone.amplitude(labels)
    np.testing.assert_allclose(size, max(summary["validation_over_left_out"], 1.0), rtol=2e-3)
    smaller = replace(left_out, flux=0.1 * left_out.flux)
    larger, summary = measure_expected_error(flux_of, small_grid, smaller)
    assert summary["validation_over_left_out"] > 5.0
    alone = ExpectedError.from_residuals(small_grid.label_names, smaller)
    size = larger.amplitude(labels) / alone.amplitude(labels)
    np.testing.assert_allclose(size, summary["validation_over_left_out"], rtol=2e-3)
    # Ten times the errors of the stars left out: the validation stars seem to err a tenth of that.
    wrong = replace(left_out, flux=10.0 * left_out.flux)
    stated, summary = measure_expected_error(flux_of, small_grid, wrong)
    assert summary["validation_over_left_out"] < 0.2
    alone = ExpectedError.from_residuals(small_grid.label_names, wrong)
    np.testing.assert_allclose(stated.amplitude(labels), alone.amplitude(labels), rtol=1e-6)
    some = InterpolantConfig(groups=(), iterations=2, largest=50)
    assert left_out_residuals(flux_of, small_grid, transform, basis, some) is None
