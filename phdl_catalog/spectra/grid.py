"""The pixel grid of the survey: equal steps of 1e-4 in log10 wavelength, pixel numbers that are integers.

Every LAMOST low-resolution release samples its spectra at log10(wavelength / Angstrom) = k * 1e-4 with
integer k.  A spectrum is therefore known by the number of its first pixel, and spectra of different lengths
share one grid without any interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.errors import InputError

#: Step of the grid in log10(wavelength).
LOG10_STEP = 1e-4

#: Velocity of light [km/s].
SPEED_OF_LIGHT = 299792.458

#: Width of one pixel [km/s]: 69.03.
PIXEL_VELOCITY = SPEED_OF_LIGHT * np.log(10.0) * LOG10_STEP

#: How far a wavelength may lie from its pixel, in pixels; those stored as float32 are up to 0.0014 off.
_ALIGNMENT_TOLERANCE = 0.02


@dataclass(frozen=True)
class PixelGrid:
    """A stretch of the survey's wavelength grid.

    Parameters
    ----------
    first : int
        Number of the first pixel: ``log10(wavelength / Angstrom) / 1e-4``.
    size : int
        Number of pixels.
    """

    first: int
    size: int

    @cached_property
    def wavelength(self) -> NDArray[np.float64]:
        """(size,) wavelengths in vacuum [Angstrom]."""
        return np.asarray(10.0 ** (np.arange(self.first, self.first + self.size) * LOG10_STEP))

    @property
    def stop(self) -> int:
        """Number of the pixel after the last."""
        return self.first + self.size

    @classmethod
    def from_wavelength(cls, wavelength: ArrayLike) -> PixelGrid:
        """Recognise the grid on which wavelengths lie.

        Parameters
        ----------
        wavelength : (P,) array_like
            Vacuum wavelengths [Angstrom].

        Raises
        ------
        InputError
            If the wavelengths are not finite, not increasing, or not on the 1e-4 grid.
        """
        values = np.asarray(wavelength, dtype=np.float64)
        if values.ndim != 1 or values.size < 2:
            raise InputError(f"wavelength must have shape (P,) with P > 1, not {values.shape}")
        if not np.all(np.isfinite(values)) or np.any(values <= 0):
            raise InputError("wavelength must be finite and positive [Angstrom]")
        position = np.log10(values) / LOG10_STEP
        first = round(float(position[0]))
        offset = np.abs(position - np.arange(first, first + values.size))
        if offset.max() > _ALIGNMENT_TOLERANCE:
            raise InputError(
                "wavelength is not on the survey's grid of 1e-4 steps in log10: pixel "
                f"{int(offset.argmax())} is {offset.max():.2f} pixels away; resample the spectrum first"
            )
        return cls(first, values.size)

    def slice_of(self, other: PixelGrid) -> slice:
        """Where `other` lies in this grid.

        Raises
        ------
        InputError
            If `other` is not inside this grid.
        """
        start = other.first - self.first
        if start < 0 or start + other.size > self.size:
            raise InputError(
                f"pixels {other.first}..{other.stop} do not lie inside the grid {self.first}..{self.stop}"
            )
        return slice(start, start + other.size)


#: The grid of stored pixels, 3700.1 to 9126 Angstrom: every LAMOST low-resolution spectrum fits in.
SURVEY_GRID = PixelGrid(35682, 3921)
