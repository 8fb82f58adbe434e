"""Stretches of wavelength that are not the star's: the Earth's air, interstellar gas, and the arms' seam.

All lists are in vacuum wavelengths and apply in the observer's frame.  LAMOST spectra are heliocentric, so
the atmosphere's bands move by up to 30 km/s (0.7 Angstrom at 7000), which the limits allow for; interstellar
clouds move with up to some 100 km/s (2 Angstrom at 6000).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Absorption by molecular oxygen (B, A) and water that is deep enough to matter at R = 1800 [Angstrom].
TELLURIC_BANDS: tuple[tuple[float, float], ...] = (
    (6277.0, 6322.0),  # O2 gamma
    (6860.0, 6965.0),  # O2 B
    (7160.0, 7340.0),  # H2O
    (7590.0, 7720.0),  # O2 A
    (8100.0, 8350.0),  # H2O
    (8930.0, 9126.0),  # H2O
)

#: Cores of the strong interstellar lines [Angstrom]: narrow, so that the wings stay in the fit.
INTERSTELLAR_LINES: tuple[tuple[float, float], ...] = (
    (3932.8, 3936.8),  # Ca II K 3934.77
    (3967.6, 3971.6),  # Ca II H 3969.59
    (5889.0, 5900.2),  # Na I D 5891.58, 5897.56
)


#: Where the two arms are glued together [Angstrom]: responses differ by several per cent and change within
#: a few tens of Angstrom, faster than the pseudo-continuum may.
ARM_OVERLAP: tuple[tuple[float, float], ...] = ((5750.0, 5900.0),)


def avoided(
    wavelength: NDArray[np.float64], telluric: bool, interstellar: bool, overlap: bool
) -> NDArray[np.bool_]:
    """Which pixels to leave out.

    Parameters
    ----------
    wavelength : (P,) float64
        Vacuum wavelengths in the observer's frame [Angstrom].
    telluric, interstellar, overlap : bool
        Which of the lists to apply.

    Returns
    -------
    (P,) bool
        True where a pixel is to be left out.
    """
    out = np.zeros(wavelength.shape, dtype=bool)
    ranges = (TELLURIC_BANDS if telluric else ()) + (INTERSTELLAR_LINES if interstellar else ())
    ranges += ARM_OVERLAP if overlap else ()
    for lower, upper in ranges:
        out |= (wavelength >= lower) & (wavelength <= upper)
    return out
