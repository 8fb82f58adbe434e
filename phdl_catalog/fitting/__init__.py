"""Fitting spectra: velocity, optimiser, noise model, Fisher information, quality flags."""

from phdl_catalog.fitting.fit import Fitter, fit_spectra
from phdl_catalog.fitting.flags import FitFlag, LabelFlag, flag_names
from phdl_catalog.fitting.options import FitOptions
from phdl_catalog.fitting.result import FitResult, FittedPixels

__all__ = [
    "FitFlag",
    "FitOptions",
    "FitResult",
    "FittedPixels",
    "Fitter",
    "LabelFlag",
    "fit_spectra",
    "flag_names",
]
