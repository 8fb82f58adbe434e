"""Wavelengths in air and in vacuum.

Line lists give wavelengths in standard air above 2000 Angstrom; everything else here is in vacuum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Below this wavelength [Angstrom] line lists are in vacuum.
AIR_FROM = 2000.0


def refractive_index(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Refractive index of standard air (Birch & Downs 1994, as in Morton 2000, ApJS 130, 403).

    Parameters
    ----------
    wavelength : (...) array_like
        In vacuum [Angstrom].
    """
    squared = (1e4 / np.asarray(wavelength, dtype=np.float64)) ** 2
    return np.asarray(1.0 + 8.34254e-5 + 2.406147e-2 / (130.0 - squared) + 1.5998e-4 / (38.9 - squared))


def to_air(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Vacuum wavelengths (...) [Angstrom] as they are in standard air."""
    vacuum = np.asarray(wavelength, dtype=np.float64)
    return np.where(vacuum > AIR_FROM, vacuum / refractive_index(vacuum), vacuum)


def to_vacuum(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Wavelengths (...) in standard air [Angstrom] as they are in vacuum; the exact inverse of `to_air`."""
    air = np.asarray(wavelength, dtype=np.float64)
    vacuum = air
    # The index changes by 1e-8 over the shift itself: three rounds reach machine precision.
    for _ in range(4):
        vacuum = air * refractive_index(vacuum)
    return np.where(air > AIR_FROM, vacuum, air)
