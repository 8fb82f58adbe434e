"""Packing the covariance of labels into two bytes an element.

A covariance is stored as the errors, in full, and the correlations in half precision: the upper triangle
without the diagonal, row by row, little endian.  For 32 labels that is 992 bytes.  Half precision has steps
of at most 0.0005 below one, far below the accuracy of any correlation of a fit; the diagonal is not affected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.errors import InputError

#: IEEE half precision, little endian whatever the machine.
_HALF = np.dtype("<f2")

#: The largest half below one: labels that are not the same never become exactly degenerate.
_LARGEST = np.nextafter(_HALF.type(1.0), _HALF.type(0.0)).astype(np.float32)


def packed_size(n_labels: int) -> int:
    """Bytes of the packed correlations of one fit."""
    return n_labels * (n_labels - 1)


def pack_correlations(covariance: ArrayLike, errors: ArrayLike) -> NDArray[np.uint8]:
    """Correlations of N fits as bytes.

    Parameters
    ----------
    covariance : (N, L, L) array_like
        Symmetric; only the upper triangle is read.
    errors : (N, L) array_like
        Roots of its diagonal.

    Returns
    -------
    (N, L * (L - 1)) uint8
        One row of bytes a fit.  Where an error is zero or not finite the correlation is NaN.

    Raises
    ------
    InputError
        If the shapes do not agree.
    """
    matrices = np.asarray(covariance, dtype=np.float64)
    sigma = np.asarray(errors, dtype=np.float64)
    if sigma.ndim != 2 or matrices.shape != (*sigma.shape, sigma.shape[1]):
        raise InputError(
            f"covariance must have shape (N, L, L) and errors (N, L), not {matrices.shape} and {sigma.shape}"
        )
    n, size = sigma.shape
    row, column = np.triu_indices(size, k=1)
    upper = matrices.reshape(n, size * size).take(row * size + column, axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        correlation = (upper / (sigma.take(row, axis=1) * sigma.take(column, axis=1))).astype(np.float32)
    correlation[~np.isfinite(correlation)] = np.nan
    np.clip(correlation, -_LARGEST, _LARGEST, out=correlation)
    packed = correlation.astype(_HALF)
    return packed.view(np.uint8).reshape(sigma.shape[0], packed_size(sigma.shape[1]))


def unpack_covariance(packed: bytes, errors: ArrayLike) -> NDArray[np.float64]:
    """The covariance of one fit from what is stored.

    Parameters
    ----------
    packed : bytes
        ``fit.label_covariance``.
    errors : (L,) array_like
        ``fit.label_errors``, NaN (or None) where there is none.

    Returns
    -------
    (L, L) float64
        Covariance, NaN in rows and columns of labels without an error.

    Raises
    ------
    InputError
        If the number of bytes does not fit the number of errors.
    """
    sigma = np.asarray(errors, dtype=np.float64)
    if sigma.ndim != 1 or len(packed) != packed_size(sigma.size):
        raise InputError(
            f"{len(packed)} bytes of correlations do not belong to errors of shape {sigma.shape}: "
            f"L errors have L * (L - 1) bytes"
        )
    correlation = np.eye(sigma.size)
    row, column = np.triu_indices(sigma.size, k=1)
    correlation[row, column] = correlation[column, row] = np.frombuffer(packed, dtype=_HALF)
    return np.asarray(correlation * np.outer(sigma, sigma))
