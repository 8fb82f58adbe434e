"""Fitting spectra: velocity, optimiser, noise model, Fisher information, quality flags.

The flags are needed by every command, the fit by few: what brings torch with it loads on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from phdl_catalog.fitting.flags import FitFlag, LabelFlag, flag_names

if TYPE_CHECKING:
    from phdl_catalog.fitting.fit import Fitter, fit_spectra
    from phdl_catalog.fitting.options import FitOptions
    from phdl_catalog.fitting.prior import KnownLabels, LabelPrior
    from phdl_catalog.fitting.result import FitResult, FittedPixels

_ON_FIRST_USE = {
    "FitOptions": "options",
    "FitResult": "result",
    "FittedPixels": "result",
    "KnownLabels": "prior",
    "LabelPrior": "prior",
    "Fitter": "fit",
    "fit_spectra": "fit",
}

__all__ = [
    "FitFlag",
    "FitOptions",
    "FitResult",
    "FittedPixels",
    "Fitter",
    "KnownLabels",
    "LabelFlag",
    "LabelPrior",
    "fit_spectra",
    "flag_names",
]


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
