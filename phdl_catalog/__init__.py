"""From a spectroscopic data release to a calibrated catalogue of stellar abundances.

The names below are the library's face; they load on first use, so that ``import phdl_catalog`` is cheap and
needs no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phdl_catalog.calibration import CalibrationSolution, calibrate
    from phdl_catalog.emulator import Emulator, load_model
    from phdl_catalog.fitting import FitResult, fit_spectra

__version__ = "0.1.0"

_FACE = {
    "calibrate": "phdl_catalog.calibration",
    "CalibrationSolution": "phdl_catalog.calibration",
    "Emulator": "phdl_catalog.emulator",
    "load_model": "phdl_catalog.emulator",
    "FitResult": "phdl_catalog.fitting",
    "fit_spectra": "phdl_catalog.fitting",
}

__all__ = [
    "CalibrationSolution",
    "Emulator",
    "FitResult",
    "__version__",
    "calibrate",
    "fit_spectra",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(import_module(_FACE[name]), name)
    raise AttributeError(f"module 'phdl_catalog' has no attribute '{name}'")
