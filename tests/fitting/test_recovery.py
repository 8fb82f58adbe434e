"""Fits of spectra with known labels: right on average, and as precise as they say."""

from __future__ import annotations

import numpy as np
import pytest
from line_model import NAMES, RANGE, LineModel
from line_survey import Sample, simulate
from numpy.typing import NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.fitting import FitFlag, FitOptions, FitResult, Fitter, LabelFlag


@pytest.fixture(scope="module")
def sample(model: LineModel) -> Sample:
    return simulate(model, 160, snr=60.0, seed=1)


@pytest.fixture(scope="module")
def result(fitter: Fitter, sample: Sample) -> FitResult:
    return fitter.fit(sample.wavelength, sample.flux, sample.ivar)


def test_every_fit_converges(result: FitResult) -> None:
    assert not np.any(result.flags & FitFlag.NOT_CONVERGED)


def width(pull: NDArray[np.float64]) -> float:
    """Half of the central 68 % of a distribution: its standard deviation, if outliers are left out."""
    return float(np.diff(np.percentile(pull, [15.87, 84.13]))[0] / 2)


def test_labels_are_recovered_without_bias_and_with_honest_errors(sample: Sample, result: FitResult) -> None:
    pull = (result.labels - sample.labels) / result.errors
    good = result.label_flags == 0
    assert np.all(good.sum(axis=0) > 80)
    for index, name in enumerate(result.label_names):
        own = pull[good[:, index], index]
        assert 0.75 < width(own) < 1.25, name  # three sigma of so few stars
        assert abs(np.median(own)) < 0.3, name
    assert 0.93 < width(pull[good]) < 1.07
    assert np.mean(np.abs(pull[good]) > 4) < 0.01


def test_velocities_are_recovered_with_honest_errors(sample: Sample, result: FitResult) -> None:
    from_photons = np.sqrt(result.e_rv**2 - FitOptions().velocity_floor ** 2)
    pull = (result.rv - sample.rv) / from_photons
    assert 0.85 < width(pull) < 1.15
    assert abs(pull.mean()) < 0.3


def test_chi2_is_one_and_no_error_floor_is_needed(result: FitResult) -> None:
    assert np.median(result.chi2) == pytest.approx(1.0, abs=0.02)
    assert np.mean(result.error_floor > 0) < 0.05
    assert not np.any(result.flags & FitFlag.POOR_FIT)


def test_scatter_over_noise_realisations_is_the_quoted_error(model: LineModel, fitter: Fitter) -> None:
    # Errors are those of linear theory: at high S/N it holds for every label.
    one = simulate(model, 1, snr=150.0, seed=103, spread=0.3)
    clean = np.repeat(one.flux, 100, axis=0)
    noise = np.random.default_rng(3).normal(size=clean.shape)
    error = np.divide(1.0, np.sqrt(one.ivar), out=np.zeros_like(one.ivar), where=one.ivar > 0)
    result = fitter.fit(one.wavelength, clean + noise * error, np.repeat(one.ivar / 2, 100, axis=0))
    # The first noise is the same in all; twice the variance was quoted, so half of it scatters.
    strong = (result.information > 0.9).all(axis=0)
    ratio = np.std(result.labels, axis=0) / np.median(result.errors, axis=0) * np.sqrt(2.0)
    assert strong.sum() >= 8
    assert np.all(ratio[strong] > 0.75)
    assert np.all(ratio[strong] < 1.25)


def test_errors_are_the_square_roots_of_the_covariance(result: FitResult) -> None:
    diagonal = np.diagonal(result.covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(np.sqrt(diagonal), result.errors, rtol=1e-6)


def test_errors_shrink_with_the_noise(model: LineModel, fitter: Fitter) -> None:
    faint = simulate(model, 8, snr=40.0, seed=4)
    bright = simulate(model, 8, snr=80.0, seed=4)
    errors = [fitter.fit(s.wavelength, s.flux, s.ivar).errors[:, :4] for s in (faint, bright)]
    np.testing.assert_allclose(np.median(errors[0] / errors[1], axis=0), 2.0, rtol=0.15)


def test_a_label_without_information_is_flagged_and_may_have_any_value(
    model: LineModel, fitter: Fitter
) -> None:
    faint = simulate(model, 20, snr=5.0, seed=12)
    result = fitter.fit(faint.wavelength, faint.flux, faint.ivar)
    weak = result.contrast < 5.0
    assert 0.1 < weak.mean() < 0.9
    np.testing.assert_array_equal((result.label_flags & LabelFlag.UNCONSTRAINED) != 0, weak)
    # Where a spectrum changes evenly along the range of a label, its contrast is range over error.
    even = [NAMES.index(name) for name in ("teff", "logg", "v_micro", "fe_h")]
    fifth = np.broadcast_to(np.ptp(RANGE, axis=1) / 5.0, weak.shape)
    np.testing.assert_array_equal(weak[:, even], (result.bounds > fifth)[:, even])
    # Before the data a label is anywhere between its bounds: the variance of an even distribution.
    width = np.diff(fitter.forward.label_bounds, axis=1)[:, 0]
    even_error = np.broadcast_to(width / np.sqrt(12.0), weak.shape)
    np.testing.assert_allclose(result.information, 1.0 / (1.0 + (result.bounds / even_error) ** 2), atol=1e-4)
    # With them it is known no worse than by either alone.
    assert np.all(result.errors <= np.minimum(result.bounds, even_error) * (1.0 + 1e-6))
    hardly = result.information < 0.1
    assert hardly.any()
    assert np.all(result.errors[hardly] > 0.75 * even_error[hardly])


def test_a_velocity_is_right_at_low_signal_to_noise(model: LineModel, fitter: Fitter) -> None:
    sample = simulate(model, 120, snr=20.0, seed=5)
    result = fitter.fit(sample.wavelength, sample.flux, sample.ivar)
    # Metal-poor hot stars have few lines; the error says so.
    normal = sample.labels[:, 3] > -1.5
    difference = result.rv - sample.rv
    assert np.std(difference[normal]) < 5.0
    good = (result.flags & FitFlag.BAD_VELOCITY) == 0
    assert good[normal].mean() > 0.98
    assert np.all(np.abs(difference[good]) < 60.0)


def test_a_wider_line_spread_is_found_and_does_not_change_the_labels(
    model: LineModel, fitter: Fitter
) -> None:
    from scipy.ndimage import gaussian_filter1d

    sharp = simulate(model, 20, snr=1000.0, seed=6, spread=0.5)
    wide = gaussian_filter1d(sharp.flux, np.sqrt(0.6), axis=1, mode="nearest", truncate=8)
    edge = np.zeros(sharp.ivar.shape)
    edge[:, 60:-60] = sharp.ivar[:, 60:-60] / 100  # errors of S/N 100; the smoothed noise is far below
    both = [fitter.fit(sharp.wavelength, flux, edge) for flux in (sharp.flux, wide)]
    # The response varies over a pixel by far less than a line.
    assert np.median(both[0].line_variance) == pytest.approx(0.0, abs=0.03)
    assert np.median(both[1].line_variance) == pytest.approx(0.6, abs=0.05)
    strong = (both[0].information > 0.9).all(axis=0)
    moved = np.abs(both[1].labels - both[0].labels) / both[0].errors
    assert np.median(moved[:, strong]) < 0.5


def test_cosmic_rays_do_not_change_the_labels(model: LineModel, fitter: Fitter) -> None:
    sample = simulate(model, 20, snr=60.0, seed=7)
    spoiled = sample.flux.copy()
    generator = np.random.default_rng(8)
    for row in spoiled:
        row[generator.integers(100, len(row) - 100, 40)] += 3000.0
    clean = fitter.fit(sample.wavelength, sample.flux, sample.ivar)
    result = fitter.fit(sample.wavelength, spoiled, sample.ivar)
    moved = np.abs(result.labels - clean.labels) / clean.errors
    strong = clean.information > 0.9
    assert np.median(moved[strong]) < 0.25


def test_an_error_floor_is_found_where_the_model_is_wrong(model: LineModel, fitter: Fitter) -> None:
    sample = simulate(model, 10, snr=200.0, seed=9)
    wrong = 1.0 + 0.03 * np.random.default_rng(10).normal(size=sample.flux.shape[1])
    result = fitter.fit(sample.wavelength, sample.flux * wrong, sample.ivar)
    assert np.median(result.error_floor) == pytest.approx(0.03, rel=0.35)
    clean = fitter.fit(sample.wavelength, sample.flux, sample.ivar)
    assert np.all(np.median(result.errors / clean.errors, axis=0)[:4] > 2.0)


def test_the_optimisers_view_is_that_of_the_fit_wherever_it_begins(
    sample: Sample, result: FitResult, fitter: Fitter
) -> None:
    some = slice(0, 12)
    given = (sample.wavelength, sample.flux[some], sample.ivar[some])
    for labels in (None, sample.labels[some], RANGE.mean(axis=1)):
        fitted = fitter.solve(*given, labels=labels)
        assert fitted is not None
        found = fitter.forward.labels(fitter.estimate(fitted.solution).values).numpy()
        off = np.abs(found - result.labels[some]) / result.errors[some]
        # Batches of other sizes round differently.
        assert np.max(off) < (0.02 if labels is None else 0.3)
    with pytest.raises(InputError, match=r"labels has shape \(3,\)"):
        fitter.solve(*given, labels=[1.0, 2.0, 3.0])
    assert fitter.solve(sample.wavelength, np.zeros_like(given[1]), np.zeros_like(given[2])) is None
