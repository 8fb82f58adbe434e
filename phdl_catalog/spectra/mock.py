"""Observing a star in simulation: what the telescope, the sky and the pipeline do to a normalised spectrum.

The shapes follow the LAMOST DR10 low-resolution spectra of subgiants: a flux calibration that is wrong by a
smooth factor, two arms that meet near 5,800 A with a step, a signal to noise that falls to a fifth in the
near ultraviolet and doubles in the red, pixels without data, and masks that say which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import make_interp_spline

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.grid import SPEED_OF_LIGHT, SURVEY_GRID, PixelGrid
from phdl_catalog.spectra.masks import MaskBit
from phdl_catalog.spectra.spectrum import Spectrum, SpectrumHeader

#: The grid of almost every DR10 file.
DR10_GRID = PixelGrid(SURVEY_GRID.first, 3909)

#: Where the blue and the red arm meet [Angstrom].
ARM_EDGE = 5800.0

# Medians over LAMOST DR10 subgiants with S/N above 50, at the wavelengths of the first row [Angstrom]: flux
# relative to 4200-5100 A, and signal to noise a pixel relative to that of the g band.
_NODES = np.array([3700, 3900, 4050, 4250, 4500, 4800, 5100, 5500, 5780, 6000, 6600, 7100, 7700, 8300, 9100])
_FLUX_NODES = np.array(
    [0.60, 0.72, 0.94, 0.95, 1.08, 1.05, 1.01, 0.98, 0.95, 0.92, 0.82, 0.74, 0.63, 0.55, 0.46]
)
_SNR_NODES = np.array(
    [0.18, 0.36, 0.62, 0.72, 0.93, 1.12, 1.13, 1.10, 1.03, 1.40, 1.76, 1.83, 1.65, 1.35, 0.85]
)

#: Bands in which the survey states a signal to noise [Angstrom]; approximately those of SDSS.
_BANDS = {
    "u": (3700.0, 4000.0),
    "g": (4000.0, 5500.0),
    "r": (5500.0, 7000.0),
    "i": (7000.0, 8200.0),
    "z": (8200.0, 9100.0),
}

#: Level of the flux in the file's own units, and the scatter of log10 of it.
_FLUX_LEVEL, _FLUX_SPREAD = 3000.0, 0.4

#: Share of pixels that have no data, blue and red of `_SKY_LINES` [Angstrom], as in DR10.
_DEAD_BLUE, _DEAD_RED = 0.012, 0.025
_SKY_LINES = 7300.0


@dataclass(frozen=True)
class Conditions:
    """What one exposure was like.

    Parameters
    ----------
    snr_g : float
        Signal to noise a pixel wanted in the g band.
    rv : float
        Radial velocity of the star [km/s].
    calibration_error : float
        Size of the smooth, wrong factor that the flux calibration leaves (0.1: ten per cent).
    """

    snr_g: float
    rv: float = 0.0
    calibration_error: float = 0.08

    def __post_init__(self) -> None:
        if not (self.snr_g > 0 and abs(self.rv) < 2000 and 0 <= self.calibration_error < 0.5):
            raise InputError(f"conditions that no exposure has: {self}")


def shift_velocity(
    wavelength: ArrayLike, flux: ArrayLike, rv: float, target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Doppler-shift a spectrum and sample it at other wavelengths.

    Parameters
    ----------
    wavelength, flux : (P,) array_like
        In the star's frame [Angstrom].
    rv : float
        Radial velocity, positive away from us [km/s].
    target : (N,) ndarray
        Wavelengths wanted, in the observer's frame [Angstrom].

    Returns
    -------
    (N,) ndarray
        NaN where the spectrum does not reach.
    """
    source = np.log(np.asarray(wavelength, dtype=np.float64))
    values = np.asarray(flux, dtype=np.float64)
    if source.shape != values.shape or source.ndim != 1:
        raise InputError(
            f"wavelength and flux must have one shape (P,), not {source.shape} and {values.shape}"
        )
    # At R = 1800 there are 2.4 pixels a resolution element: degree 9 errs by 0.4 % of a line's depth.
    spline = make_interp_spline(source, values, k=9)
    position = np.log(target) - np.log(np.sqrt((1 + rv / SPEED_OF_LIGHT) / (1 - rv / SPEED_OF_LIGHT)))
    inside = (position >= source[0]) & (position <= source[-1])
    return np.where(inside, spline(np.clip(position, source[0], source[-1])), np.nan)


def observe(
    wavelength: ArrayLike,
    flux: ArrayLike,
    header: SpectrumHeader,
    conditions: Conditions,
    rng: np.random.Generator,
    grid: PixelGrid = DR10_GRID,
) -> Spectrum:
    """Observe a star.

    Parameters
    ----------
    wavelength : (P,) array_like
        Wavelengths of the star's spectrum, in vacuum [Angstrom].
    flux : (P,) array_like
        Its continuum-normalised flux at the survey's resolving power.
    header : SpectrumHeader
        Facts of the file; the signal to noise in the five bands is filled in from the pixels.
    conditions : Conditions
        What the exposure was like.
    rng : numpy.random.Generator
        Source of the noise.
    grid : PixelGrid
        Pixels of the file.

    Returns
    -------
    Spectrum
        Pixels that the star's spectrum does not reach have no data, and the mask says so.
    """
    target = grid.wavelength
    normalised = shift_velocity(wavelength, flux, conditions.rv, target)
    covered = np.isfinite(normalised)
    if not covered.any():
        raise InputError(
            f"a spectrum of {np.min(wavelength):.0f}-{np.max(wavelength):.0f} A has no pixel on the grid "
            f"{target[0]:.0f}-{target[-1]:.0f} A"
        )
    clean = np.where(covered, normalised, 0.0) * _continuum(target, conditions.calibration_error, rng)
    # Noise follows the light that arrives, not the lines: in a deep line it falls by the root of the flux.
    noise = clean / np.maximum(normalised, 0.05, where=covered, out=np.ones_like(clean))
    noise *= np.sqrt(np.clip(normalised, 0.05, 1.5, where=covered, out=np.ones_like(clean)))
    relative = np.exp(np.interp(target, _NODES, np.log(_SNR_NODES)))
    noise /= conditions.snr_g * relative
    usable = covered & (noise > 0)
    noise = np.where(usable, noise, 1.0)
    observed = clean + noise * rng.standard_normal(target.size)
    ivar = noise**-2.0
    andmask, ormask = _masks(target, covered, rng)
    dead = (ormask != 0) | ~usable
    observed[dead], ivar[dead] = 0.0, 0.0
    spectrum = Spectrum(
        header, grid.first, observed.astype(np.float32), ivar.astype(np.float32), andmask, ormask
    )
    return _with_snr(spectrum)


def _continuum(
    wavelength: NDArray[np.float64], error: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Flux of a line-free star as this exposure records it, (N,)."""
    level = _FLUX_LEVEL * 10 ** (_FLUX_SPREAD * rng.standard_normal())
    shape = np.exp(np.interp(wavelength, _NODES, np.log(_FLUX_NODES)))
    # The nodes are joined by straight lines; the survey's response has no corners.
    width = 120
    kernel = np.hanning(width + 1)
    padded = np.pad(shape, width // 2, mode="edge")
    shape = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    position = 2 * (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0]) - 1
    tilt = np.polynomial.chebyshev.chebval(position, [0.0, *(error * rng.standard_normal(5))])
    step = np.where(wavelength < ARM_EDGE, 1.0, 1.0 + 0.3 * error * rng.standard_normal())
    return np.asarray(level * shape * np.exp(tilt) * step)


def _masks(
    wavelength: NDArray[np.float64], covered: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """ANDMASK and ORMASK: short runs of dead pixels, more of them under the red sky lines."""
    andmask = np.zeros(wavelength.size, dtype=np.uint8)
    ormask = np.zeros(wavelength.size, dtype=np.uint8)
    share = np.where(wavelength < _SKY_LINES, _DEAD_BLUE, _DEAD_RED)
    starts = np.flatnonzero(rng.random(wavelength.size) < share / 4)
    for start, length in zip(starts, rng.integers(1, 8, starts.size), strict=True):
        stretch = slice(start, start + length)
        ormask[stretch] |= np.uint8(MaskBit.BAD_PIXEL)
        if wavelength[start] > _SKY_LINES:
            andmask[stretch] |= np.uint8(MaskBit.BAD_PIXEL)
    andmask[~covered] |= np.uint8(MaskBit.NO_DATA)
    ormask[~covered] |= np.uint8(MaskBit.NO_DATA)
    return andmask, ormask


def _with_snr(spectrum: Spectrum) -> Spectrum:
    """State the signal to noise of the five bands in the header, from the pixels."""
    wavelength = spectrum.wavelength
    snr = spectrum.flux * np.sqrt(spectrum.ivar)
    stated: dict[str, float | None] = {}
    for band, (start, stop) in _BANDS.items():
        chosen = (wavelength >= start) & (wavelength < stop) & (spectrum.ivar > 0)
        stated[band] = round(float(np.median(snr[chosen])), 2) if chosen.any() else None
    header = replace(
        spectrum.header,
        snr_u=stated["u"],
        snr_g=stated["g"],
        snr_r=stated["r"],
        snr_i=stated["i"],
        snr_z=stated["z"],
    )
    return replace(spectrum, header=header)
