"""Errors of labels where the emulator errs in many pixels together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from line_model import GRID, NAMES, LineModel
from line_survey import simulate
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.fitting import FitOptions, FitResult, Fitter
from phdl_catalog.fitting.uncertainty import EffectiveFisher

#: Error of the lines of one element in common, as a fraction of their depth.
_COMMON = 0.05


def _pattern(model: LineModel) -> NDArray[np.float64]:
    """(1, P) change of a spectrum when one element's lines are too strong."""
    labels = model.label_range.mean(axis=1)
    more = labels.copy()
    more[NAMES.index("ca_fe")] += 0.2
    change = model.predict(more[None]) - model.predict(labels[None])
    return _COMMON * 5.0 * change.astype(np.float64)


class Erring(LineModel):
    """Spectra that the line model describes wrongly, each by the pattern times a random number."""

    def __init__(self, model: LineModel) -> None:
        self.__dict__.update(model.__dict__)
        self._wrong, self._generator = _pattern(model), np.random.default_rng(5)

    def predict(self, labels: ArrayLike) -> NDArray[np.float32]:
        rows = super().predict(labels)
        return rows + (self._generator.normal(size=(len(rows), 1)) * self._wrong).astype(np.float32)


class Stating(LineModel):
    """The line model, which knows of its error."""

    def __init__(self, model: LineModel, modes: NDArray[np.float64]) -> None:
        self.__dict__.update(model.__dict__)
        profile = np.sqrt((modes**2).sum(axis=0) + 1e-12)
        self.error_model = ExpectedError(NAMES, profile, np.zeros(4), np.array([1.0, 1.0]), modes)


@pytest.fixture(scope="module")
def fits(model: LineModel) -> tuple[FitResult, NDArray[np.float64]]:
    """Fits with the pattern known, and the truth."""
    sample = simulate(Erring(model), 100, snr=150.0, seed=8, largest_rv=100.0, spread=0.4)
    fitter = Fitter(Stating(model, _pattern(model)), FitOptions(velocity_floor=0.0, fit_error_floor=False))
    return fitter.fit(sample.wavelength, sample.flux, sample.ivar), sample.labels


class Following(LineModel):
    """The line model, with an error that grows with [Fe/H]."""

    def __init__(self, model: LineModel) -> None:
        self.__dict__.update(model.__dict__)
        profile = np.linspace(0.5, 1.5, GRID.size)
        trend, limits = np.array([np.log(0.01), 0.0, 0.0, 1.5]), np.array([1e-4, 0.1])
        self.error_model = ExpectedError(NAMES, profile, trend, limits, np.zeros((0, GRID.size)))

    def expected_error(self, labels: ArrayLike) -> NDArray[np.float64]:
        return self.error_model.at(np.asarray(labels))


def _spread(values: NDArray[np.float64]) -> float:
    return float(np.diff(np.percentile(values, [15.87, 84.13]))[0] / 2)


def test_errors_contain_what_pixels_err_in_together(fits: tuple[FitResult, NDArray[np.float64]]) -> None:
    result, truth = fits
    column = NAMES.index("ca_fe")
    off = result.labels[:, column] - truth[:, column]
    assert _spread(off / result.bounds[:, column]) > 1.5
    assert 0.8 < _spread(off / result.errors[:, column]) < 1.2


def test_labels_that_the_pattern_does_not_touch_keep_their_errors(
    fits: tuple[FitResult, NDArray[np.float64]],
) -> None:
    result, _ = fits
    column = NAMES.index("mg_fe")
    assert np.median(result.errors[:, column] / result.bounds[:, column]) < 1.05


def test_the_covariance_is_that_of_the_errors(fits: tuple[FitResult, NDArray[np.float64]]) -> None:
    result, _ = fits
    diagonal = np.diagonal(result.covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(diagonal, result.errors**2, rtol=1e-6)
    assert np.linalg.eigvalsh(result.covariance).min() > 0


def test_the_stated_error_is_that_of_the_star_and_not_of_its_template(model: LineModel) -> None:
    following = Following(model)
    sample = simulate(model, 6, snr=80.0, seed=12, largest_rv=100.0)
    fitter = Fitter(following)
    inner = fitter.forward.grid.first - GRID.first
    for flux, ivar in zip(sample.flux, sample.ivar, strict=True):
        fitted = fitter.solve(sample.wavelength, flux, ivar)
        assert fitted is not None
        labels = fitter.forward.labels(fitted.solution.point.parameters).numpy()
        observation = fitted.solution.observation
        amplitude = following.error_model.amplitude(labels)
        np.testing.assert_allclose(observation.amplitude.numpy(), amplitude, rtol=0.05)
        profile = following.error_model.profile[inner:-inner]
        root = np.sqrt(observation.model_variance.numpy())
        np.testing.assert_allclose(root, amplitude[:, None] * profile, rtol=0.05)


def test_without_patterns_errors_are_the_bound(model: LineModel, fitter: Fitter) -> None:
    sample = simulate(model, 3, snr=60.0, seed=9)
    result = fitter.fit(sample.wavelength, sample.flux, sample.ivar)
    low, high = fitter.forward.label_bounds.T
    free = (result.labels - 5.0 * result.bounds > low) & (result.labels + 5.0 * result.bounds < high)
    assert free.mean() > 0.5
    np.testing.assert_allclose(result.errors[free], result.bounds[free], rtol=1e-4)
    assert np.all(result.errors <= result.bounds)


def test_an_effective_curvature_has_the_covariance_of_the_sandwich() -> None:
    generator = torch.Generator().manual_seed(1)
    root = torch.rand(4, 6, 9, generator=generator, dtype=torch.float64)
    curvature = root @ root.mT
    more = torch.rand(4, 6, 2, generator=generator, dtype=torch.float64)
    noise = curvature + 3.0 * more @ more.mT
    gradient = torch.rand(4, 6, generator=generator, dtype=torch.float64)
    inverse = torch.linalg.inv(curvature)
    effective = EffectiveFisher.of(curvature, noise)
    slope, covariance = effective.slope(gradient), torch.linalg.inv(effective.matrix)
    torch.testing.assert_close(covariance, inverse @ noise @ inverse, rtol=1e-3, atol=1e-3)
    # The minimum is where it was.
    torch.testing.assert_close(
        covariance @ slope[:, :, None], inverse @ gradient[:, :, None], rtol=1e-3, atol=1e-3
    )


def test_patterns_of_other_pixels_than_the_models_are_refused(model: LineModel) -> None:
    from phdl_catalog.errors import ModelError

    with pytest.raises(ModelError, match="3801"):
        Fitter(Stating(model, _pattern(model)[:, :-1]))
    assert GRID.size == 3801
