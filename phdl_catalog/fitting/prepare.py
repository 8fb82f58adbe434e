"""From what a caller gives to what a fit can use: shapes checked, bad pixels out, fluxes of order one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.fitting.flags import FitFlag
from phdl_catalog.spectra.grid import PixelGrid

#: Usable pixels below which there is nothing to fit: 32 labels and a continuum of 30 need more.
LEAST_PIXELS = 300

#: Largest believable absolute flux, in units of the median.
_LARGEST_FLUX = 1e3

#: Largest and smallest believable S/N of a pixel, for a pixel of median flux.
_LARGEST_SNR, _SMALLEST_SNR = 1e3, 1e-3

#: Larger numbers are damage; fluxes of 1e-17 have inverse variances of 1e36.
_ABSURD = 1e60


@dataclass(frozen=True)
class GivenSpectra:
    """Spectra as they were given.

    Parameters
    ----------
    grid : PixelGrid
        Of all.
    flux, ivar : (N, P)
        Any numbers.
    mask : (N, P) or (1, P) bool
        True for a bad pixel.
    """

    grid: PixelGrid
    flux: NDArray[Any]
    ivar: NDArray[Any]
    mask: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.flux)

    def rows(self, index: NDArray[np.int64]) -> GivenSpectra:
        """Some of the spectra."""
        mask = self.mask if len(self.mask) == 1 else self.mask[index]
        return GivenSpectra(self.grid, self.flux[index], self.ivar[index], mask)


@dataclass(frozen=True)
class PreparedSpectra:
    """Spectra on one grid, scaled to a median flux of 1.

    Parameters
    ----------
    grid : PixelGrid
        The pixels they were given on.
    flux, ivar : (N, P) float32
        Scaled; `ivar` is 0 where a pixel is not used.
    scale : (N,) float64
        What the flux was divided by; NaN where `flags` is not 0.
    snr : (N,) float64
        Median S/N of the used pixels; NaN without any.
    n_pixels : (N,) int64
        Usable pixels.
    flags : (N,) int64
        `FitFlag.NO_DATA` or `FitFlag.FAILED` for spectra that cannot be fitted, else 0.
    """

    grid: PixelGrid
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    scale: NDArray[np.float64]
    snr: NDArray[np.float64]
    n_pixels: NDArray[np.int64]
    flags: NDArray[np.int64]


def _array(values: Any, name: str) -> NDArray[Any]:
    """A numpy array of an array-like or a torch tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} must be an array of numbers, not of {array.dtype}")
    return array


def _rows(values: Any, name: str, pixels: int) -> NDArray[Any]:
    array = _array(values, name)
    if array.ndim not in (1, 2) or array.shape[-1] != pixels:
        raise InputError(
            f"{name} has shape {array.shape} but wavelength has shape ({pixels},): "
            f"{name} must be ({pixels},) or (N, {pixels})"
        )
    return np.atleast_2d(array)


def check_spectra(
    wavelength: ArrayLike, flux: ArrayLike, ivar: ArrayLike, mask: ArrayLike | None
) -> GivenSpectra:
    """Check shapes.

    Raises
    ------
    InputError
        With both shapes, if they do not belong together.
    """
    grid = PixelGrid.from_wavelength(_array(wavelength, "wavelength"))
    rows = _rows(flux, "flux", grid.size)
    weights = _rows(ivar, "ivar", grid.size)
    if weights.shape != rows.shape:
        raise InputError(
            f"ivar has shape {weights.shape} but flux has shape {rows.shape}: they must be equal"
        )
    if mask is None:
        return GivenSpectra(grid, rows, weights, np.zeros((1, grid.size), dtype=bool))
    bad = _rows(mask, "mask", grid.size)
    if bad.dtype != bool:
        raise InputError(f"mask must be boolean, True for a bad pixel, not of type {bad.dtype}")
    if len(bad) not in (1, len(rows)):
        raise InputError(
            f"mask has shape {bad.shape} but flux has shape {rows.shape}: "
            f"mask must be ({grid.size},) or {rows.shape}"
        )
    return GivenSpectra(grid, rows, weights, bad)


def prepare_spectra(given: GivenSpectra, leave_out: NDArray[np.bool_]) -> PreparedSpectra:
    """Put bad pixels out of use and scale spectra; never fails, whatever the numbers are.

    Parameters
    ----------
    given : GivenSpectra
    leave_out : (P,) bool
        True for pixels that no fit uses.
    """
    flux, ivar = given.flux, given.ivar
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are expected and taken out here
        use = (np.abs(flux) < _ABSURD) & (ivar > 0) & (ivar < _ABSURD) & ~given.mask & ~leave_out
    values = np.where(use, flux, 0.0).astype(np.float64)
    weights = np.where(use, ivar, 0.0).astype(np.float64)

    enough = use.sum(axis=1) >= LEAST_PIXELS
    scale = np.where(enough, _median(values, use), np.nan)
    snr = np.where(enough, _median(values * np.sqrt(weights), use), np.nan)
    highest = np.where(use, values, -np.inf).max(axis=1)
    lowest = np.where(use, values, np.inf).min(axis=1)
    flags = np.where(enough, 0, int(FitFlag.NO_DATA)).astype(np.int64)
    flags[enough & (~(scale > 0) | (highest == lowest))] = FitFlag.FAILED
    fit = flags == 0
    divisor = np.where(fit, scale, 1.0)[:, None]
    values /= divisor
    weights *= divisor**2
    with np.errstate(over="ignore"):
        use &= fit[:, None] & (np.abs(values) < _LARGEST_FLUX) & (weights > _SMALLEST_SNR**2)
    n_pixels = use.sum(axis=1)
    flags[fit & (n_pixels < LEAST_PIXELS)] = FitFlag.NO_DATA
    return PreparedSpectra(
        grid=given.grid,
        flux=np.where(use, values, 0.0).astype(np.float32),
        ivar=np.where(use, np.minimum(weights, _LARGEST_SNR**2), 0.0).astype(np.float32),
        scale=np.where(flags == 0, scale, np.nan),
        snr=snr,
        n_pixels=n_pixels,
        flags=flags,
    )


def _median(values: NDArray[np.float64], use: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Medians (N,) of the used ones of values (N, P); NaN without any."""
    used = torch.from_numpy(np.where(use, values, np.nan))
    return np.asarray(torch.nanmedian(used, dim=1).values.numpy())


def place(values: NDArray[np.float32], source: PixelGrid, target: PixelGrid) -> NDArray[np.float32]:
    """Copy spectra (N, P) from one grid to another, 0 where the target has pixels that the source has not."""
    out = np.zeros((len(values), target.size), dtype=np.float32)
    first, stop = max(source.first, target.first), min(source.stop, target.stop)
    if first < stop:
        out[:, first - target.first : stop - target.first] = values[
            :, first - source.first : stop - source.first
        ]
    return out
