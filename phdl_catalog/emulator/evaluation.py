"""How well a model predicts ab initio spectra, and derivatives, that it never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.emulator.grid import AbInitioGrid, GradientSet
from phdl_catalog.emulator.losses import derivative, label_directions, label_scale
from phdl_catalog.errors import InputError

FluxFunction = Callable[[Tensor], Tensor]

#: The part of the grid where most survey stars are: 4500 <= teff <= 7000 K and fe_h >= -1.
CORE_TEFF, CORE_FE_H = (4500.0, 7000.0), -1.0

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class GradientQuality:
    """One label's derivative against the ab initio one, over all reference stars and pixels.

    Parameters
    ----------
    correlation : float
        Pearson correlation over pixels, mean over stars.
    relative_error : float
        rms of the error over rms of the derivative.
    rms : float
        rms of the ab initio derivative, per dex (per 100 K for teff, per km/s for v_micro).
    """

    correlation: float
    relative_error: float
    rms: float


@dataclass(frozen=True)
class Evaluation:
    """Errors of normalised flux, and of its derivatives.

    Parameters
    ----------
    n : int
        Spectra compared.
    rms, mae, p99 : float
        Root mean square, mean absolute and 99th percentile of the absolute flux error.
    rms_core, n_core : float, int
        rms and number of spectra with 4500 <= teff <= 7000 K and fe_h >= -1; NaN where there are none.
    gradients : dict
        Label name to `GradientQuality`; empty without gradients.
    """

    n: int
    rms: float
    mae: float
    p99: float
    rms_core: float
    n_core: int
    gradients: dict[str, GradientQuality]

    @property
    def median_correlation(self) -> float:
        """Median over labels of the derivative's correlation; NaN without gradients."""
        values = [quality.correlation for quality in self.gradients.values()]
        return float(np.median(values)) if values else float("nan")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def is_core(label_names: tuple[str, ...], labels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) which label vectors lie in the core."""
    teff, fe_h = labels[:, label_names.index("teff")], labels[:, label_names.index("fe_h")]
    return np.asarray((teff >= CORE_TEFF[0]) & (teff <= CORE_TEFF[1]) & (fe_h >= CORE_FE_H))


def evaluate(flux_of: FluxFunction, grid: AbInitioGrid, whole: bool = False) -> Evaluation:
    """Compare a model with a grid's validation split, or with all of it.

    Parameters
    ----------
    flux_of : callable
        Physical labels (N, L) -> flux (N, P), torch.
    grid : AbInitioGrid
    whole : bool
        Take every spectrum: for a grid that had no part in training.

    Raises
    ------
    InputError
        If the grid has no validation split and `whole` is not set.
    """
    rows = np.ones(len(grid), bool) if whole else grid.is_validation
    if not rows.any():
        raise InputError("the grid has no validation stars; compare with all of it (--all)")
    labels = grid.labels[rows]
    errors = np.empty((len(labels), grid.pixels.size), np.float32)
    with torch.no_grad():
        for start in range(0, len(labels), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            errors[part] = flux_of(torch.as_tensor(labels[part])).cpu().numpy() - grid.flux[rows][part]
    core = is_core(grid.label_names, labels)
    gradients = grid.gradients
    if gradients is not None and not whole:
        gradients = gradients.select(gradients.is_validation)
    return Evaluation(
        n=len(labels),
        rms=float(np.sqrt(np.mean(errors.astype(np.float64) ** 2))),
        mae=float(np.mean(np.abs(errors))),
        p99=float(np.percentile(np.abs(errors), 99)),
        rms_core=float(np.sqrt(np.mean(errors[core].astype(np.float64) ** 2)))
        if core.any()
        else float("nan"),
        n_core=int(core.sum()),
        gradients=(
            _evaluate_gradients(flux_of, gradients, grid.label_names)
            if gradients is not None and len(gradients)
            else {}
        ),
    )


def _evaluate_gradients(
    flux_of: FluxFunction, gradients: GradientSet, names: tuple[str, ...]
) -> dict[str, GradientQuality]:
    scale = label_scale(names)
    truth = gradients.gradient.astype(np.float64) * scale.numpy()[:, None]  # (G, L, P)
    predicted = np.empty_like(truth)
    every_label = torch.arange(len(names))
    directions = label_directions(every_label, scale)
    # A forward difference is the derivative half a step on.
    half_steps = label_directions(every_label, torch.as_tensor(0.5 * gradients.step))
    with torch.no_grad():
        for star, labels in enumerate(gradients.labels):
            at = torch.as_tensor(labels) + half_steps
            predicted[star] = derivative(flux_of, at, directions)[1].cpu().numpy()
    error = predicted - truth
    result = {}
    for index, name in enumerate(names):
        a, b = truth[:, index], predicted[:, index]
        result[name] = GradientQuality(
            correlation=float(np.mean([_correlation(x, y) for x, y in zip(a, b, strict=True)])),
            relative_error=float(np.sqrt(np.mean(error[:, index] ** 2) / max(np.mean(a**2), 1e-30))),
            rms=float(np.sqrt(np.mean(a**2))),
        )
    return result


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson correlation; 0 where one side is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0
