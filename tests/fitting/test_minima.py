"""Cool stars rich in carbon and nitrogen: fits find them, and say where the grid has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from minima import MISSED, compare, samples
from numpy.typing import NDArray
from precision_samples import Stating, observe_grid, packaged_sample

from phdl_catalog import load_model
from phdl_catalog.emulator import Emulator
from phdl_catalog.fitting import FitFlag, FitOptions, FitResult, Fitter, LabelFlag
from phdl_catalog.fitting.curvature import Curvature
from phdl_catalog.spectra.grid import SURVEY_GRID

#: Cool dwarfs and giants: teff, logg, v_micro, fe_h.
_ATMOSPHERES = (
    (4305.0, 4.84, 0.65, 0.05),
    (4467.0, 4.95, 0.41, 0.0),
    (4511.0, 4.86, 0.87, 0.26),
    (4201.0, 1.7, 1.05, -0.11),
    (4776.0, 4.34, 0.49, 0.42),
    (4472.0, 4.45, 1.08, -0.31),
    (4318.0, 4.89, 0.51, -0.9),
    (4402.0, 4.64, 0.94, -0.69),
)


@pytest.fixture(scope="module")
def packaged() -> Emulator:
    return load_model("default")


def cool_stars(packaged: Emulator, least_carbon: float, most_carbon: float) -> NDArray[np.float64]:
    """Labels of stars with so much more [C/Fe] than [O/Fe], and much nitrogen."""
    generator = np.random.default_rng(2)
    names, (low, high) = list(packaged.label_names), packaged.label_range.T
    carbon, nitrogen, oxygen = (names.index(f"{element}_fe") for element in "cno")
    rows = np.clip(generator.normal(0.0, 0.2, (96, len(names))), low, high)
    rows[:, :4] = np.resize(_ATMOSPHERES, (len(rows), 4))
    rows[:, oxygen] = generator.uniform(0.05, 0.4, len(rows))
    rows[:, carbon] = rows[:, oxygen] + generator.uniform(least_carbon, most_carbon, len(rows))
    rows[:, nitrogen] = generator.uniform(0.2, 0.8, len(rows))
    return rows


@pytest.fixture(scope="module")
def labels(packaged: Emulator) -> NDArray[np.float64]:
    """Stars with nearly as much carbon as oxygen."""
    return cool_stars(packaged, 0.05, 0.2)


def fit(packaged: Emulator, labels: NDArray[np.float64]) -> FitResult:
    """Of spectra with these labels, S/N 100."""
    flux = packaged.predict(labels)
    noise = np.random.default_rng(52).normal(0.0, 0.01, flux.shape)
    fitter = Fitter(packaged, FitOptions(correct_model=False))
    return fitter.fit(packaged.wavelength, flux + noise, np.full(flux.shape, 1e4))


@pytest.fixture(scope="module")
def result(packaged: Emulator, labels: NDArray[np.float64]) -> FitResult:
    return fit(packaged, labels)


def test_molecules_of_carbon_and_nitrogen_do_not_lead_astray(
    result: FitResult, labels: NDArray[np.float64]
) -> None:
    assert not np.any(result.flags & (FitFlag.NOT_CONVERGED | FitFlag.BAD_VELOCITY))
    assert np.max(np.abs(result.labels - labels)[:, 0]) < 60.0
    assert np.max(np.abs(result.labels - labels)[:, 3]) < 0.3


@pytest.mark.parametrize("kind", ["any", "cool, rich in C and N"])
def test_fits_end_where_those_from_the_true_labels_do(packaged: Emulator, kind: str) -> None:
    sample = samples(packaged, packaged_sample(), stars=150, seed=2)[kind]
    fitter = Fitter(Stating(packaged, None), FitOptions(correct_model=False))
    excess, trials = compare(fitter, observe_grid(sample, stars=150, repeats=1, snr=100.0, seed=2))
    assert np.max(excess) < MISSED
    # Without templates of their own, those rich in C and N take half a trial more.
    assert np.mean(trials) < 12.3


def test_what_was_found_far_from_the_end_is_found_again(packaged: Emulator) -> None:
    kind = "cool, rich in C and N"
    observed = observe_grid(samples(packaged, packaged_sample(), 400, 7)[kind], 400, 1, snr=100.0, seed=7)
    fitter = Fitter(Stating(packaged, None), FitOptions(correct_model=False))
    # This one leaves where its floors and outliers are found by more than its errors.
    one = (rows[[294]] for rows in (observed.flux, observed.ivar, observed.bad))
    result = fitter.fit(SURVEY_GRID.wavelength, *one)
    assert result.error_floor[0] < 1e-3


def test_rough_curvatures_lead_down(packaged: Emulator) -> None:
    observed = observe_grid(samples(packaged, packaged_sample(), 150, 2)["any"], 150, 1, snr=30.0, seed=2)
    fitter = Fitter(Stating(packaged, None), FitOptions(correct_model=False))
    given = (SURVEY_GRID.wavelength, observed.flux, observed.ivar, observed.bad)
    fitted = fitter.solve(*given, labels=observed.labels)
    assert fitted is not None
    rough = Curvature(fitter.objective).rough(fitted.solution.point, fitted.solution.weights)
    scale = rough.diagonal(dim1=1, dim2=2).clamp_min(1e-30).rsqrt()
    least = torch.linalg.eigvalsh(rough * scale[:, :, None] * scale[:, None, :]).amin(dim=1)
    # With continua of other pixels than the derivatives are from, three of these had less than nothing.
    assert least.min() > 0.0


def test_floors_and_outliers_are_those_of_the_end(result: FitResult) -> None:
    # The model is right, so that every floor and every outlier is an error of the fit.
    sigma = np.sqrt(2.0 / result.n_pixels)
    assert np.max(result.error_floor) < 3e-3
    assert np.max((result.chi2 - 1.0) / sigma) < 4.0


def test_carbon_stars_are_outside_the_grid(packaged: Emulator, result: FitResult) -> None:
    def outside(fits: FitResult) -> NDArray[np.bool_]:
        return (fits.flags & FitFlag.OUTSIDE_GRID) != 0

    assert np.mean(outside(result)) < 0.2
    of_carbon_stars = fit(packaged, cool_stars(packaged, 0.35, 0.55))
    assert np.mean(outside(of_carbon_stars)) > 0.9
    # Its labels are not to be used either.
    flagged = of_carbon_stars.label_flags[outside(of_carbon_stars)] & LabelFlag.OUTSIDE_GRID
    assert np.all(flagged != 0)
