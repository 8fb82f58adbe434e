"""The Sun as a survey would see it: a flux atlas, degraded to the survey's resolution and pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.resample import degrade, degrading_operator

#: Pixels that are degraded with one resolving power of the source.
_STRETCH = 200

#: Wavelengths beyond which a file cannot be in nanometres.
_LONGEST_NANOMETRES = 3000.0


def read_solar_spectrum(
    path: Path, grid: PixelGrid, resolution: float, fwhm: float = 0.4
) -> NDArray[np.float64]:
    """Solar flux (P,) per wavelength interval, of order one.

    Parameters
    ----------
    path : Path
        Text of two columns, ``#`` for comments, may be compressed: vacuum wavelength [nm or Angstrom] and
        photon flux per wavelength interval, as the composite of Chance & Kurucz (2010) has them.
    grid : PixelGrid
        Where the flux is wanted.
    resolution : float
        Wanted resolving power.
    fwhm : float
        Width of the line-spread function of the file [Angstrom].

    Raises
    ------
    InputError
        If the file is not such a table or does not cover the grid.
    """
    try:
        wavelength, photons = np.loadtxt(path, unpack=True, usecols=(0, 1))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a table of wavelength and flux: {error}") from error
    if wavelength[-1] < _LONGEST_NANOMETRES:
        wavelength = wavelength * 10.0
    target = grid.wavelength
    if wavelength[0] > target[0] - 50 or wavelength[-1] < target[-1] + 50:
        raise InputError(
            f"{path} covers {wavelength[0]:.0f} to {wavelength[-1]:.0f} Angstrom; "
            f"{target[0] - 50:.0f} to {target[-1] + 50:.0f} are needed"
        )
    energy = photons / wavelength
    energy /= np.median(energy)
    parts = []
    for start in range(0, grid.size, _STRETCH):
        part = target[start : start + _STRETCH]
        near = (wavelength > part[0] - 40) & (wavelength < part[-1] + 40)
        # The width of the source is constant in wavelength, so its resolving power is not.
        own = float(np.median(part)) / fwhm
        operator = degrading_operator(wavelength[near], own, part, resolution)
        parts.append(degrade(operator, energy[near]))
    return np.concatenate(parts)
