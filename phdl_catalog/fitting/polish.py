"""A last check against the transformer itself, in place of its compiled form.

The compiled form errs by some 0.1 % of the continuum.  At a star's labels the difference of the two is
computed and added to the compiled form, which is then right there to first order, and the star is fitted
again; twice.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.emulator.model import CompiledEmulator, Emulator
from phdl_catalog.fitting.fit import Fitter
from phdl_catalog.fitting.options import FitOptions
from phdl_catalog.fitting.result import FitResult

#: How often the difference is computed anew.
_TIMES = 2


class _CompiledWith:
    """A compiled emulator whose spectra are all changed by the same difference (P,)."""

    def __init__(self, compiled: CompiledEmulator, difference: NDArray[np.float64]) -> None:
        self._compiled = compiled
        basis = compiled.basis.clone()
        basis[0] += torch.as_tensor(difference, dtype=basis.dtype, device=basis.device)
        self.basis: Tensor = basis

    def coefficients(self, labels: Tensor) -> Tensor:
        return self._compiled.coefficients(labels)

    def coefficients_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self._compiled.coefficients_and_jacobian(labels)


class _ModelWith:
    """An emulator with such a compiled form; all else is its own."""

    def __init__(self, model: Emulator, difference: NDArray[np.float64]) -> None:
        self._model = model
        self.compiled = _CompiledWith(model.compiled, difference)

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)


def polish(
    model: Emulator,
    result: FitResult,
    wavelength: NDArray[np.float64],
    flux: NDArray[np.floating],
    ivar: NDArray[np.floating],
    mask: NDArray[np.bool_],
    options: FitOptions | None = None,
    keep_pixels: bool = False,
) -> tuple[FitResult, NDArray[np.float64]]:
    """Fit stars again, each with the transformer's spectrum at its own labels.

    Parameters
    ----------
    model : Emulator
    result : FitResult
        Of the compiled form.
    wavelength : (P,) float64
    flux, ivar, mask : (N, P) array
        What was fitted.
    options : FitOptions, optional
        That it was fitted with.
    keep_pixels : bool
        As for `fit_spectra`; `result` must have them too.

    Returns
    -------
    FitResult, (N, L) float64
        And by how much labels moved, in units of their errors; NaN where a fit failed.  Takes about a second
        a star.
    """
    polished = deepcopy(result)
    for row in np.flatnonzero(~result.failed):
        only = np.array([row])
        for _ in range(_TIMES):
            labels = polished.labels[only]
            difference = np.asarray(model.predict(labels), dtype=np.float64) - model.compiled.predict(labels)
            choice = replace(options or FitOptions(), correct_model=bool(result.corrected[row]))
            fitter = Fitter(_ModelWith(model, difference[0]), choice, str(model.device))  # type: ignore[arg-type]
            again = fitter.fit(wavelength, flux[only], ivar[only], mask[only], keep_pixels=keep_pixels)
            polished.put(only, again)
    return polished, (polished.labels - result.labels) / result.errors
