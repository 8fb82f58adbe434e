"""Wavelengths measured in air, and the same in vacuum.

Line lists and synthesis codes of the optical give wavelengths in air; LAMOST and this package use vacuum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.errors import InputError

#: Below this the dispersion formula does not hold, and tables give vacuum wavelengths anyway [Angstrom].
_SHORTEST = 2000.0


def refractive_index(vacuum_wavelength: ArrayLike) -> NDArray[np.float64]:
    """Index of refraction of standard air, 15 C and 1013.25 hPa (Ciddor 1996, Applied Optics 35, 1566).

    Parameters
    ----------
    vacuum_wavelength : (...) array_like
        [Angstrom]
    """
    wavenumber_2 = (1e4 / np.asarray(vacuum_wavelength, dtype=np.float64)) ** 2  # [1/micrometre^2]
    return np.asarray(1.0 + 0.05792105 / (238.0185 - wavenumber_2) + 0.00167917 / (57.362 - wavenumber_2))


def vacuum_from_air(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Vacuum wavelengths of wavelengths in standard air.

    Parameters
    ----------
    wavelength : (...) array_like
        In air [Angstrom], 2000 and longer.

    Raises
    ------
    InputError
        If a wavelength is shorter or not finite.
    """
    air = np.asarray(wavelength, dtype=np.float64)
    if not np.all(np.isfinite(air) & (air >= _SHORTEST)):
        raise InputError(f"wavelengths in air must be finite and at least {_SHORTEST:g} Angstrom")
    vacuum = air
    for _ in range(3):  # the index changes by 1e-8 between air and vacuum: the second is exact already
        vacuum = air * refractive_index(vacuum)
    return np.asarray(vacuum)
