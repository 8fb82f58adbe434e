"""How far a model's spectra are expected to be from ab initio ones, pixel by pixel and star by star.

An emulator errs where lines are crowded and where its grid is sparse: several times more in cool metal-rich
giants than in turn-off stars.  Spectra of validation stars tell both: a profile over pixels, and an amplitude
that follows temperature, gravity and metallicity.  A fit adds the product to its noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from phdl_catalog.emulator.evaluation import FluxFunction
from phdl_catalog.emulator.grid import AbInitioGrid

#: Width over which the squared profile is smoothed, one sigma [pixels]: half a resolution element.
_SMOOTHING = 2.5

#: Ridge on the slopes of the amplitude; a few dozen stars know three slopes, but not at any price.
_RIDGE = 0.03

#: Pixels without a line have no error at all in a simple grid; nothing is promised to be perfect.
_SMALLEST = 1e-3


@dataclass(frozen=True)
class ExpectedError:
    """One sigma of a model's flux error: ``amplitude(labels) * profile``.

    Parameters
    ----------
    label_names : tuple of str
        Length L, of the labels that come in.
    profile : (P,) float64
        Error of a pixel relative to the amplitude.
    trend : (4,) float64
        Natural logarithm of the amplitude, which is the error's rms over pixels: constant, and slopes in
        ``5040 K / teff - 1``, ``logg - 4`` and ``fe_h``.
    limits : (2,) float64
        Smallest and largest amplitude: those of the validation stars.
    """

    label_names: tuple[str, ...]
    profile: NDArray[np.float64]
    trend: NDArray[np.float64]
    limits: NDArray[np.float64]

    @classmethod
    def from_residuals(
        cls,
        label_names: tuple[str, ...],
        labels: NDArray[np.float64],
        residuals: NDArray[np.float64],
        star: NDArray[np.int64],
    ) -> ExpectedError:
        """Learn from spectra that had no part in training.

        Parameters
        ----------
        label_names : tuple of str
        labels : (N, L) ndarray
        residuals : (N, P) ndarray
            Model minus ab initio flux.
        star : (N,) ndarray
            Spectra of one star count as one: they err alike.
        """
        _, which, count = np.unique(star, return_inverse=True, return_counts=True)
        weight = 1.0 / count[which]
        design = _design(label_names, labels)
        size = np.sqrt(np.mean(residuals**2, axis=1))
        target = np.log(np.maximum(size, 1e-12))
        ridge = np.diag([0.0, *np.full(design.shape[1] - 1, _RIDGE)])
        trend = np.linalg.solve(design.T @ (weight[:, None] * design) + ridge, design.T @ (weight * target))
        expected = design @ trend
        limits = np.exp([expected.min(), expected.max()])
        scaled = (residuals / np.exp(expected)[:, None]) ** 2
        profile = np.sqrt(gaussian_filter1d(weight @ scaled / weight.sum(), _SMOOTHING))
        return cls(label_names, np.maximum(profile, _SMALLEST), trend, limits)

    @classmethod
    def from_tensors(cls, label_names: tuple[str, ...], tensors: Mapping[str, Tensor]) -> ExpectedError:
        """From the tensors of a model file, whose names begin with ``expected_error.``."""
        profile, trend, limits = (tensors[name].double().numpy() for name in ("profile", "trend", "limits"))
        return cls(label_names, profile, trend, limits)

    def tensors(self) -> dict[str, Tensor]:
        """For a model file; one dimension each, which keeps full precision."""
        values = {"profile": self.profile, "trend": self.trend, "limits": self.limits}
        return {f"expected_error.{key}": torch.as_tensor(v, dtype=torch.float32) for key, v in values.items()}

    def amplitude(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, L) -> (N,)."""
        return np.clip(np.exp(_design(self.label_names, labels) @ self.trend), *self.limits)

    def at(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """One sigma of the flux (N, P) at labels (N, L)."""
        return self.amplitude(labels)[:, None] * self.profile


def _design(label_names: Sequence[str], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, L) -> (N, 4): one, and what the amplitude follows."""
    teff, logg, fe_h = (labels[:, list(label_names).index(name)] for name in ("teff", "logg", "fe_h"))
    return np.stack([np.ones(len(labels)), 5040.0 / teff - 1.0, logg - 4.0, fe_h], axis=1)


def measure_expected_error(flux_of: FluxFunction, grid: AbInitioGrid) -> tuple[ExpectedError, dict[str, Any]]:
    """The expected error of a model from a grid's validation stars, and how well it predicts them.

    Parameters
    ----------
    flux_of : callable
        Physical labels (N, L) -> flux (N, P), torch.
    grid : AbInitioGrid

    Returns
    -------
    ExpectedError
    dict
        ``stars``, and ``held_out_ratio``: for each star in turn, rms of its residuals over the error that the
        other stars predict for it; median, 16th and 84th percentile.
    """
    rows = grid.is_validation
    labels, star = grid.labels[rows], grid.star[rows]
    with torch.no_grad():
        flux = torch.cat([flux_of(part) for part in torch.as_tensor(labels).split(64)]).cpu().double().numpy()
    residuals = flux - grid.flux[rows].astype(np.float64)
    stars = np.unique(star)
    ratios = []
    for one in stars if len(stars) > 2 else ():
        others = star != one
        learnt = ExpectedError.from_residuals(
            grid.label_names, labels[others], residuals[others], star[others]
        )
        ratios.append(np.sqrt(np.mean((residuals[~others] / learnt.at(labels[~others])) ** 2)))
    summary: dict[str, Any] = {"stars": len(stars)}
    if ratios:
        summary["held_out_ratio"] = [round(float(q), 3) for q in np.percentile(ratios, [50, 16, 84])]
    return ExpectedError.from_residuals(grid.label_names, labels, residuals, star), summary
