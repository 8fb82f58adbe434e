"""Degrading a spectrum to a lower resolving power and sampling it on another grid, in one linear operator.

Both grids are in log10 wavelength, so a constant resolving power R is a Gaussian of constant width.  The
line spread that turns R_in into R_out has the variance of the difference, and because the source is sampled
more finely than the kernel, the kernel may be evaluated directly at the target pixels: no interpolation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from phdl_catalog.errors import InputError

#: Full width at half maximum of a Gaussian over its standard deviation.
FWHM_OVER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))

#: The kernel is cut where it has fallen to 4e-6 of its peak.
_KERNEL_REACH = 5.0


def kernel_sigma(resolution_in: float, resolution_out: float) -> float:
    """Standard deviation, in log10 wavelength, of the Gaussian between two resolving powers.

    Raises
    ------
    InputError
        If the wanted resolving power is not lower than the present one.
    """
    if not 0 < resolution_out < resolution_in:
        raise InputError(
            f"cannot degrade R = {resolution_in:g} to R = {resolution_out:g}: the new one must be lower"
        )
    fwhm = np.sqrt(resolution_out**-2.0 - resolution_in**-2.0)
    return float(fwhm / FWHM_OVER_SIGMA / np.log(10.0))


def degrading_operator(
    wavelength_in: ArrayLike, resolution_in: float, wavelength_out: ArrayLike, resolution_out: float
) -> sparse.csr_array:
    """The matrix that degrades and samples: ``flux_out = operator @ flux_in``.

    Parameters
    ----------
    wavelength_in : (P_in,) array_like
        Increasing wavelengths of the source [Angstrom].
    resolution_in, resolution_out : float
        Resolving powers lambda / FWHM before and after.
    wavelength_out : (P_out,) array_like
        Wavelengths wanted [Angstrom].

    Returns
    -------
    (P_out, P_in) csr_array
        Each row sums to one.

    Raises
    ------
    InputError
        If the source is too coarse for the kernel, or does not reach five kernel widths beyond the target.
    """
    source = np.log10(np.asarray(wavelength_in, dtype=np.float64))
    target = np.log10(np.asarray(wavelength_out, dtype=np.float64))
    if source.ndim != 1 or target.ndim != 1:
        raise InputError(f"wavelengths must be 1-dimensional, not {source.shape} and {target.shape}")
    if np.any(np.diff(source) <= 0):
        raise InputError("wavelength_in must increase strictly")
    sigma = kernel_sigma(resolution_in, resolution_out)
    # Cells of the source, so that an uneven sampling is weighted by its width.
    width = np.gradient(source)
    if width.max() > sigma:
        raise InputError(
            f"the source is sampled too coarsely: steps up to {width.max():.2e} in log10 wavelength "
            f"for a kernel of {sigma:.2e}"
        )
    reach = _KERNEL_REACH * sigma
    if target.min() - reach < source[0] or target.max() + reach > source[-1]:
        raise InputError(
            f"the target {10 ** target.min():.1f}-{10 ** target.max():.1f} A needs the source to cover "
            f"{10 ** (target.min() - reach):.1f}-{10 ** (target.max() + reach):.1f} A, but it covers "
            f"{10 ** source[0]:.1f}-{10 ** source[-1]:.1f} A"
        )
    start = np.searchsorted(source, target - reach)
    stop = np.searchsorted(source, target + reach)
    rows = np.repeat(np.arange(target.size), stop - start)
    columns = np.concatenate([np.arange(a, b) for a, b in zip(start, stop, strict=True)])
    weights = np.exp(-0.5 * ((source[columns] - target[rows]) / sigma) ** 2) * width[columns]
    weights /= np.bincount(rows, weights)[rows]
    return sparse.csr_array((weights, (rows, columns)), shape=(target.size, source.size))


def degrade(operator: sparse.csr_array, flux: ArrayLike) -> NDArray[np.float64]:
    """Apply a degrading operator to spectra.

    Parameters
    ----------
    operator : (P_out, P_in) csr_array
    flux : (..., P_in) array_like

    Returns
    -------
    (..., P_out) ndarray
    """
    values = np.asarray(flux, dtype=np.float64)
    if values.shape[-1] != operator.shape[1]:
        raise InputError(f"flux has shape {values.shape}, but the operator takes (..., {operator.shape[1]})")
    flat = values.reshape(-1, values.shape[-1])
    return np.asarray((operator @ flat.T).T).reshape(*values.shape[:-1], operator.shape[0])
