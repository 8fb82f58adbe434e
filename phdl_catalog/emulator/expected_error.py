"""How far a model's spectra are expected to be from ab initio ones, star by star: a profile, and patterns.

An emulator errs where lines are crowded and where its grid is sparse: several times more in cool metal-rich
giants than in turn-off stars, and several times more far from the stars that taught it than near them.
And it errs by whole elements and bands, all lines of iron or of CH at a time, so that its errors of distant
pixels are correlated: a fit that took them for independent would believe its carbon too much.  Spectra that
had no part in a model tell all three: an amplitude that follows temperature, gravity, metallicity and what
the known stars do not say (`error_size`), a profile over pixels, and patterns that move together.  A fit
weighs pixels by the profile and finds the errors of labels from the patterns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from phdl_catalog.emulator.error_size import ErrorSize, Novelty, size_terms
from phdl_catalog.emulator.evaluation import FluxFunction
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.left_out import Residuals

#: Width over which the squared profile is smoothed, one sigma [pixels]: half a resolution element.
_SMOOTHING = 2.5

#: Ridge on the slopes of the amplitude; a few dozen stars know a few slopes, but not at any price.
_RIDGE = 0.03

#: Pixels without a line have no error at all in a simple grid; nothing is promised to be perfect.
_SMALLEST = 1e-3

#: Patterns kept at most.  Of 329 stars left out, forty hold 94 % of the squared error, but what the others
#: hold together counts for labels: with forty, errors were stated too small by a tenth.
_MODES = 80

#: Stars that a pattern needs to be more than one star's error.
_STARS_A_MODE = 4


@dataclass(frozen=True)
class ExpectedError:
    """Covariance of a model's flux error: ``amplitude(labels)^2 * (modes^T modes + diag(rest^2))``.

    Parameters
    ----------
    label_names : tuple of str
        Length L, of the labels that come in.
    profile : (P,) float64
        Error of a pixel relative to the amplitude, modes and rest together.
    trend : (4,) or (5,) float64
        Natural logarithm of the amplitude, which is the error's rms over pixels: constant, and slopes in
        ``5040 K / teff - 1``, ``logg - 4``, ``fe_h`` and, with one, the `novelty`.
    limits : (2,) float64
        Smallest and largest amplitude: those of the stars it was learnt from.
    modes : (M, P) float64
        Patterns that pixels err by together, each one sigma relative to the amplitude; M may be 0.
    novelty : Novelty, optional
        How little the stars that taught the model say of another.
    """

    label_names: tuple[str, ...]
    profile: NDArray[np.float64]
    trend: NDArray[np.float64]
    limits: NDArray[np.float64]
    modes: NDArray[np.float64]
    novelty: Novelty | None = None

    @classmethod
    def from_residuals(cls, label_names: tuple[str, ...], residuals: Residuals) -> ExpectedError:
        """Learn from spectra that had no part in training; those of one star count as one, they err alike."""
        flux, labels = residuals.flux, residuals.labels
        _, which, count = np.unique(residuals.star, return_inverse=True, return_counts=True)
        weight = 1.0 / count[which]
        novelty = own = None
        if residuals.rate is not None:
            novelty, own = Novelty.of_stars(label_names, labels, residuals.star, residuals.rate)
        design = size_terms(label_names, torch.as_tensor(labels), own).numpy()
        size = np.sqrt(np.mean(flux**2, axis=1))
        target = np.log(np.maximum(size, 1e-12))
        ridge = np.diag([0.0, *np.full(design.shape[1] - 1, _RIDGE)])
        trend = np.linalg.solve(design.T @ (weight[:, None] * design) + ridge, design.T @ (weight * target))
        expected = design @ trend
        limits = np.exp([expected.min(), expected.max()])
        scaled = flux * (np.sqrt(weight / weight.sum()) / np.exp(expected))[:, None]
        profile = np.sqrt(gaussian_filter1d((scaled**2).sum(axis=0), _SMOOTHING))
        modes = _principal(scaled, min(_MODES, len(count) // _STARS_A_MODE))
        return cls(label_names, np.maximum(profile, _SMALLEST), trend, limits, modes, novelty)

    @classmethod
    def from_tensors(cls, label_names: tuple[str, ...], tensors: Mapping[str, Tensor]) -> ExpectedError:
        """From the tensors of a model file, whose names begin with ``expected_error.``."""
        profile, trend, limits = (tensors[name].double().numpy() for name in ("profile", "trend", "limits"))
        modes = tensors.get("modes", torch.zeros(0, len(profile))).double().numpy()
        novelty = None
        if "known" in tensors:
            novelty = Novelty(label_names, tensors["known"].numpy(), tensors["rate"].numpy())
        return cls(label_names, profile, trend, limits, modes, novelty)

    def tensors(self) -> dict[str, Tensor]:
        """For a model file; the modes in half precision."""
        values = {"profile": self.profile, "trend": self.trend, "limits": self.limits}
        tensors = {
            f"expected_error.{key}": torch.as_tensor(v, dtype=torch.float32) for key, v in values.items()
        }
        if len(self.modes):
            tensors["expected_error.modes"] = torch.as_tensor(self.modes, dtype=torch.float16)
        if self.novelty is not None:
            # Double precision, which a file does not halve.
            tensors["expected_error.known"] = self.novelty.known
            tensors["expected_error.rate"] = self.novelty.rate
        return tensors

    @property
    def rest(self) -> NDArray[np.float64]:
        """(P,) error of a pixel, relative to the amplitude, that is not in the modes."""
        together = gaussian_filter1d((self.modes**2).sum(axis=0), _SMOOTHING)
        # A tenth: patterns are found from the errors that they are to explain.
        return np.asarray(np.sqrt(np.maximum(self.profile**2 - together, 0.01 * self.profile**2)))

    @cached_property
    def size(self) -> ErrorSize:
        """The amplitude as a module, for a device of one's own."""
        return ErrorSize(self.label_names, self.trend, self.limits, self.novelty)

    def amplitude(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, L) -> (N,)."""
        return np.asarray(self.size(torch.as_tensor(labels)).numpy())

    def amplitude_without_own(self, residuals: Residuals) -> NDArray[np.float64]:
        """(N,) of spectra that it was learnt from, each as if its own star were not known."""
        labels, own = torch.as_tensor(residuals.labels), None
        if residuals.rate is not None:
            _, own = Novelty.of_stars(self.label_names, residuals.labels, residuals.star, residuals.rate)
        return np.asarray(self.size.at(labels, own).numpy())

    def at(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """One sigma of the flux (N, P) at labels (N, L)."""
        return self.amplitude(labels)[:, None] * self.profile

    def scaled(self, factor: float) -> ExpectedError:
        """The same, with errors that are larger by `factor`."""
        trend = self.trend.copy()
        trend[0] += np.log(factor)
        return replace(self, trend=trend, limits=self.limits * factor)


def _principal(rows: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """(N, P) -> (M, P) whose products are nearest to those of the rows, ``rows.T @ rows``."""
    if not number:
        return np.zeros((0, rows.shape[1]))
    if len(rows) < rows.shape[1]:
        # Eigenvectors of the smaller of the two matrices of products.
        _, vectors = eigh(rows @ rows.T, subset_by_index=(len(rows) - number, len(rows) - 1))
        return np.asarray(vectors[:, ::-1].T @ rows)
    pixels = rows.shape[1]
    values, vectors = eigh(rows.T @ rows, subset_by_index=(pixels - number, pixels - 1))
    return np.asarray(np.sqrt(np.maximum(values, 0.0))[::-1, None] * vectors[:, ::-1].T)


def measure_expected_error(
    flux_of: FluxFunction, grid: AbInitioGrid, left_out: Residuals | None = None
) -> tuple[ExpectedError, dict[str, Any]]:
    """The expected error of a model, and how well it predicts that of a grid's validation stars.

    Parameters
    ----------
    flux_of : callable
        Physical labels (N, L) -> flux (N, P), torch.
    grid : AbInitioGrid
    left_out : Residuals, optional
        Errors at training stars, each as if the model had not seen it (`left_out_residuals`).  Profile,
        patterns, trend and size are theirs, but the size is that of the validation stars where that is
        larger: a few of those that happen to lie well do not show that a model errs less.  Without them all
        is learnt from the validation stars.

    Returns
    -------
    ExpectedError
    dict
        ``stars`` that it was learnt from, ``validation_stars``, and ``held_out_ratio``: rms of a validation
        star's residuals over the error expected of it (from the other stars alone); median, 16th and 84th
        percentile.
    """
    own = validation_residuals(flux_of, grid)
    number = len(np.unique(own.star))
    summary: dict[str, Any] = {"stars": number, "validation_stars": number}
    if left_out is not None:
        learnt = ExpectedError.from_residuals(grid.label_names, left_out)
        ratio = _ratios(learnt, own, learnt.amplitude(own.labels))
        # Medians: a few stars carry the mean.
        among_themselves = np.median(_ratios(learnt, left_out, learnt.amplitude_without_own(left_out)))
        own_size = float(np.median(ratio) / among_themselves)
        summary |= {"stars": len(np.unique(left_out.star)), "validation_over_left_out": round(own_size, 3)}
        size = max(own_size, 1.0)
        expected, ratio = learnt.scaled(size), ratio / size
    else:
        expected = ExpectedError.from_residuals(grid.label_names, own)
        ratio = np.array([])
        for star in np.unique(own.star) if number > 2 else ():
            others = ExpectedError.from_residuals(grid.label_names, own.of(own.star != star))
            one = own.of(own.star == star)
            ratio = np.append(ratio, _ratios(others, one, others.amplitude(one.labels)))
    if len(ratio):
        summary["held_out_ratio"] = [round(float(q), 3) for q in np.percentile(ratio, [50, 16, 84])]
    return expected, summary


def validation_residuals(flux_of: FluxFunction, grid: AbInitioGrid) -> Residuals:
    """Model minus ab initio flux of a grid's validation stars."""
    rows = grid.is_validation
    labels = grid.labels[rows]
    with torch.no_grad():
        flux = torch.cat([flux_of(part) for part in torch.as_tensor(labels).split(64)]).cpu().double().numpy()
    return Residuals(labels, flux - grid.flux[rows].astype(np.float64), grid.star[rows])


def _ratios(
    expected: ExpectedError, residuals: Residuals, amplitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    """rms over pixels of residuals over what is expected of them with an amplitude (N,), of each star."""
    _, which = np.unique(residuals.star, return_inverse=True)
    square = np.mean((residuals.flux / expected.profile) ** 2, axis=1)
    square /= amplitude**2
    return np.asarray(np.sqrt(np.bincount(which, square) / np.bincount(which)))
