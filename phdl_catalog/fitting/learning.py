"""Learning where a model differs from real stars, from stars whose labels are known by other means.

Each star is fitted with its labels held near what is known; what remains is the noise, the faults of the
line list, and what the known labels are wrong by.  The mean over many stars of different temperature and
metallicity leaves the faults of the line list.  The Sun's labels are exact, but it was not observed by the
survey; the survey's stars have the survey's line spread and flux calibration, but labels from a pipeline.
Each of the two has half of the weight, and half of their difference is the error that is stated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter1d

from phdl_catalog.emulator.imperfection import (
    Imperfection,
    absorption_amplitude,
    smooth_absorption,
)
from phdl_catalog.errors import InputError
from phdl_catalog.fitting.fit import Fitter
from phdl_catalog.fitting.forward import ForwardModel, Model
from phdl_catalog.fitting.known_stars import SUN, KnownStars
from phdl_catalog.fitting.microturbulence import MicroturbulenceRange
from phdl_catalog.fitting.options import FitOptions
from phdl_catalog.fitting.prior import KnownLabels
from phdl_catalog.spectra.grid import LOG10_STEP, SPEED_OF_LIGHT, PixelGrid

#: How firmly known labels are held: far more firmly than a spectrum could move them.
_HELD = {"teff": 0.3, "logg": 0.0005, "v_micro": 0.002, "fe_h": 0.0005}

#: Alpha enhancement of the mean star of the Galaxy: slope with [Fe/H], and largest value [dex].
_ALPHA_SLOPE, _LARGEST_ALPHA = -0.25, 0.3
_ALPHA = ("o_fe", "mg_fe", "si_fe", "s_fe", "ca_fe", "ti_fe")

#: No star counts in a pixel as if it were known to better than this, as a fraction of the continuum.
_LEAST_ERROR = 0.004

#: Pixels over which squared errors are averaged: two resolution elements.
_ERROR_WIDTH = 5

#: Fraction of the stars that must have a usable pixel for it to be learnt from.
_LEAST_STARS = 0.3


def held_labels(model: Model, stars: KnownStars) -> KnownLabels:
    """Priors that hold stars at what is known of them, and at the mean star's abundances."""
    names = list(model.label_names)
    values = np.full((len(stars), len(names)), np.nan)
    errors = values.copy()
    for name, known in stars.labels.items():
        values[:, names.index(name)] = known
    alpha = np.clip(_ALPHA_SLOPE * stars.labels["fe_h"], 0.0, _LARGEST_ALPHA)
    for column, name in enumerate(names):
        if name in _HELD:
            errors[:, column] = _HELD[name]
        else:
            values[:, column] = alpha if name in _ALPHA else 0.0
            errors[:, column] = stars.abundance_error
    if "v_micro" in names:
        middle = np.asarray(model.label_range).mean(axis=1)
        values[:, names.index("v_micro")] = middle[names.index("v_micro")]
    relation = MicroturbulenceRange.of(model, torch.device("cpu"))
    if relation is not None:
        lower, upper = relation.limits(torch.as_tensor(np.nan_to_num(values)))
        values[:, relation.column] = ((lower + upper) / 2.0).numpy()
    return KnownLabels(values, errors)


@dataclass(frozen=True)
class MeanResidual:
    """What stars of known labels have and the model has not, on the model's pixels.

    Parameters
    ----------
    correction : (P,) float64
        In units of the smooth absorption around.
    scatter : (P,) float64
        From star to star, beyond the noise, as a fraction of the continuum.
    known : (P,) bool
        Where there were enough data.
    """

    correction: NDArray[np.float64]
    scatter: NDArray[np.float64]
    known: NDArray[np.bool_]


def mean_residual(model: Model, stars: KnownStars, options: FitOptions | None = None) -> MeanResidual:
    """Fit stars with their labels held, and average what remains.

    Parameters
    ----------
    model : Model
        Without regard to an imperfection it may have.
    stars : KnownStars
    options : FitOptions, optional
    """
    fitter = Fitter(model, options or FitOptions(correct_model=False, mask_interstellar=False))
    result = fitter.fit(
        stars.grid.wavelength, stars.flux, stars.ivar, stars.bad, known=held_labels(model, stars),
        keep_pixels=True,
    )  # fmt: skip
    fitted = ~result.failed
    pixels = result.pixels
    if pixels is None or not fitted.any():
        raise InputError("none of the stars to learn from could be fitted")
    used = np.isfinite(pixels.error) & (pixels.weight > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.where(used, stars.flux / pixels.continuum - pixels.model, 0.0)
        variance = np.where(used, (pixels.error / pixels.continuum) ** 2, np.inf)
        photons = np.where(used, 1.0 / (stars.ivar * pixels.continuum**2), 0.0)
    spectra = np.where(np.isfinite(pixels.model), pixels.model, 1.0)
    shift = np.round(np.log10(1.0 + np.where(fitted, result.rv, 0.0) / SPEED_OF_LIGHT) / LOG10_STEP)
    target = PixelGrid.from_wavelength(model.wavelength)

    def at_rest(rows: NDArray[np.float64], fill: float) -> NDArray[np.float64]:
        return _moved(rows, stars.grid, target, -shift.astype(int), fill)

    weight = fitted[:, None] / np.maximum(at_rest(variance, np.inf), _LEAST_ERROR**2)
    own = smooth_absorption(target.wavelength, 1.0 - at_rest(spectra, 1.0))
    difference = at_rest(residual, 0.0)
    total = weight.sum(axis=0)
    known = at_rest(used.astype(float), 0.0)[fitted].mean(axis=0) >= _LEAST_STARS
    norm = np.where(known, (weight * own**2).sum(axis=0), 1.0)
    correction = np.where(known, (weight * own * difference).sum(axis=0) / norm, 0.0)
    spread = (difference - own * correction) ** 2 - at_rest(photons, 0.0)
    scatter2 = (weight * spread).sum(axis=0) / np.where(known, total, 1.0)
    scatter2 = uniform_filter1d(np.where(known, scatter2, 0.0), _ERROR_WIDTH)
    return MeanResidual(correction, np.sqrt(np.clip(scatter2, 0.0, None)), known)


def _moved(
    rows: NDArray[np.float64], source: PixelGrid, target: PixelGrid, shift: NDArray[np.int64], fill: float
) -> NDArray[np.float64]:
    """Spectra (N, P) moved by whole pixels, from one grid to another."""
    out = np.full((len(rows), target.size), fill)
    for row, (values, step) in enumerate(zip(rows, shift, strict=True)):
        first, stop = max(source.first + step, target.first), min(source.stop + step, target.stop)
        out[row, first - target.first : stop - target.first] = values[
            first - source.first - step : stop - source.first - step
        ]
    return out


def solar_absorption(model: Model, imperfect: ArrayLike | None = None) -> tuple[NDArray[np.float64], float]:
    """Smooth absorption (P,) of the model's Sun, and its mean."""
    empty = np.zeros((1, 1))
    sun = KnownStars(PixelGrid(0, 1), empty, empty, empty > 0, {k: np.array([v]) for k, v in SUN.items()})
    labels = torch.as_tensor(held_labels(model, sun).values)
    flux = ForwardModel(model).full_template(labels).double().numpy()
    wavelength = np.asarray(model.wavelength)
    return smooth_absorption(wavelength, 1.0 - flux)[0], float(absorption_amplitude(wavelength, flux)[0])


def learn_imperfection(model: Model, sun: MeanResidual | None, survey: MeanResidual | None) -> Imperfection:
    """Put together what the Sun and the survey's stars say.

    Parameters
    ----------
    model : Model
    sun, survey : MeanResidual, optional
        One of them is enough; then the whole correction is also its error.

    Raises
    ------
    InputError
        If both are missing.
    """
    absorption, reference = solar_absorption(model)
    if sun is None and survey is None:
        raise InputError("there is nothing to learn from: give the Sun, or spectra, or both")
    if sun is None or survey is None:
        one = sun or survey
        assert one is not None
        correction, difference = one.correction, one.correction
        scatter = one.scatter
    else:
        both = sun.known & survey.known
        first = np.where(sun.known, sun.correction, survey.correction)
        second = np.where(survey.known, survey.correction, sun.correction)
        correction = (first + second) / 2.0
        difference = np.where(both, (first - second) / 2.0, correction)
        scatter = survey.scatter
    error2 = uniform_filter1d((difference * absorption) ** 2, _ERROR_WIDTH) + scatter**2
    return Imperfection(np.asarray(model.wavelength), correction, np.sqrt(np.maximum(error2, 0.0)), reference)
