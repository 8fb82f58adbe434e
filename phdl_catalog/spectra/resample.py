"""Degrading a spectrum to a lower resolving power and sampling it on another grid, in one linear operator.

In log10 wavelength a constant resolving power R is a Gaussian of constant width, and the line spread that
turns R_in into R_out has the variance of the difference.  Source and target may be sampled in any way.  Where
the source is sampled more finely than that kernel, the convolution is a sum over source pixels: exact to 1e-5
of a line's depth.  Where it is not (R_out is not far below R_in), the source is interpolated by polynomials
and the kernel integrated by Gauss and Hermite's rule: what is then lost, 2 % of the depth of an unresolved
line at 2.2 pixels a resolution element and 0.01 % at five, is what the sampling of the source does not hold.
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

#: Source pixels a resolution element, at least, for a source that is interpolated; less is undersampled.
_PIXELS_PER_ELEMENT = 1.9

#: Points of the interpolating polynomial, and of the rule that integrates the kernel.
_STENCIL, _NODES = 10, 9


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
        Increasing wavelengths of the source [Angstrom], in any steps.
    resolution_in, resolution_out : float
        Resolving powers lambda / FWHM before and after.
    wavelength_out : (P_out,) array_like
        Wavelengths wanted [Angstrom], in any order: the degraded spectrum is sampled there, not averaged.

    Returns
    -------
    (P_out, P_in) csr_array
        Each row sums to one.

    Raises
    ------
    InputError
        If wavelengths are not finite, positive and (the source's) increasing; if the source is undersampled,
        or does not reach five kernel widths beyond the target.
    """
    source, target = _logarithm(wavelength_in, "wavelength_in"), _logarithm(wavelength_out, "wavelength_out")
    if np.any(np.diff(source) <= 0):
        raise InputError("wavelength_in must increase strictly")
    sigma = kernel_sigma(resolution_in, resolution_out)
    reach = _KERNEL_REACH * sigma
    if target.min() - reach < source[0] or target.max() + reach > source[-1]:
        raise InputError(
            f"the target {10 ** target.min():.1f}-{10 ** target.max():.1f} A needs the source to cover "
            f"{10 ** (target.min() - reach):.1f}-{10 ** (target.max() + reach):.1f} A, but it covers "
            f"{10 ** source[0]:.1f}-{10 ** source[-1]:.1f} A"
        )
    # Only the part that is used need be sampled well.
    begin = max(0, int(np.searchsorted(source, target.min() - reach)) - _STENCIL)
    end = int(np.searchsorted(source, target.max() + reach)) + _STENCIL
    used = source[begin:end]
    step = float(np.diff(used).max())
    if step <= sigma:
        rows, columns, weights = _summed(used, target, sigma)
    else:
        element = 1.0 / resolution_in / np.log(10.0)
        if used.size < _STENCIL or step > element / _PIXELS_PER_ELEMENT:
            raise InputError(
                f"the source is sampled too coarsely: steps up to {step:.2e} in log10 wavelength, where "
                f"R = {resolution_in:g} needs {element / 2:.2e}, two pixels a resolution element"
            )
        rows, columns, weights = _interpolated(used, target, sigma)
    return sparse.csr_array((weights, (rows, columns + begin)), shape=(target.size, source.size))


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


_Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _logarithm(wavelength: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(wavelength, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"{name} must be 1-dimensional and not empty, but has shape {values.shape}")
    if not np.all(np.isfinite(values) & (values > 0)):
        raise InputError(f"{name} must be finite and positive [Angstrom]")
    return np.asarray(np.log10(values))


def _summed(source: NDArray[np.float64], target: NDArray[np.float64], sigma: float) -> _Entries:
    """Entries of the operator for a finely sampled source: the kernel at the distance of each pixel."""
    # Cells of the source, so that an uneven sampling is weighted by its width.
    width = np.gradient(source)
    start = np.searchsorted(source, target - _KERNEL_REACH * sigma)
    count = np.searchsorted(source, target + _KERNEL_REACH * sigma) - start
    rows = np.repeat(np.arange(target.size), count)
    columns = np.arange(rows.size) + np.repeat(start - np.cumsum(count) + count, count)
    weights = np.exp(-0.5 * ((source[columns] - target[rows]) / sigma) ** 2) * width[columns]
    weights /= np.bincount(rows, weights)[rows]
    return rows, columns, weights


def _interpolated(source: NDArray[np.float64], target: NDArray[np.float64], sigma: float) -> _Entries:
    """Entries of the operator for a coarsely sampled source: interpolation at the nodes of the rule."""
    node, share = np.polynomial.hermite_e.hermegauss(_NODES)
    share /= share.sum()
    at = (target[:, None] + sigma * node).ravel()
    first = np.clip(np.searchsorted(source, at) - _STENCIL // 2, 0, source.size - _STENCIL)
    columns = first[:, None] + np.arange(_STENCIL)
    unit = (source[-1] - source[0]) / (source.size - 1)
    near = (source[columns] - at[:, None]) / unit  # (P_out * nodes, stencil)
    weights = np.ones_like(near)
    # Lagrange's polynomials at 0.
    for one in range(_STENCIL):
        for other in range(_STENCIL):
            if other != one:
                weights[:, one] *= near[:, other] / (near[:, other] - near[:, one])
    weights *= np.tile(share, target.size)[:, None]
    rows = np.repeat(np.arange(target.size), _NODES * _STENCIL)
    return rows, columns.ravel(), weights.ravel()
