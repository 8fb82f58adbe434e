"""The basis of spectra: what a grid's training split spans.

Spectra of a grid lie close to a space of a few hundred dimensions.  Every form of the emulator gives
coefficients in that space; what lies outside it is noise that no training spectrum has shown.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.losses import GRADIENT_FLOOR
from phdl_catalog.labels import is_abundance

#: rms to which differential spectra are scaled before they shape the basis.
_DIRECTION_SIZE = 0.009


def training_rows(grid: AbInitioGrid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels (N, L) and fluxes (N, P) of the training split, and the spectra behind its differential ones.

    A differential spectrum enters as the spectrum that it was computed from, flux + step x gradient.
    """
    rows = ~grid.is_validation
    labels, flux = [grid.labels[rows]], [grid.flux[rows].astype(np.float64)]
    if grid.gradients is not None:
        gradients = grid.gradients.select(~grid.gradients.is_validation)
        shifted = gradients.labels[:, None, :] + np.diag(gradients.step)  # (G, L, L)
        stepped = gradients.flux[:, None, :] + gradients.step[:, None] * gradients.gradient  # (G, L, P)
        labels += [gradients.labels, shifted.reshape(-1, shifted.shape[-1])]
        flux += [gradients.flux.astype(np.float64), stepped.reshape(-1, stepped.shape[-1])]
    return np.concatenate(labels), np.concatenate(flux)


def spectrum_basis(grid: AbInitioGrid, components: int) -> Tensor:
    """(K + 1, P) mean of the training spectra, and their K first principal components, orthonormal.

    Differential spectra count as if all abundances changed a spectrum alike: otherwise the lines of the
    weakest elements would be the first that a short basis leaves out.  K is `components`, or less where the
    grid has fewer spectra or pixels.
    """
    _, flux = training_rows(grid)
    mean = flux.mean(axis=0)
    flux -= mean
    if grid.gradients is not None:
        abundances = [index for index, name in enumerate(grid.label_names) if is_abundance(name)]
        change = grid.gradients.select(~grid.gradients.is_validation).gradient[:, abundances]
        change = change.reshape(-1, flux.shape[1]).astype(np.float64)
        size = np.sqrt(np.mean(change**2, axis=1, keepdims=True))
        flux = np.concatenate([flux, change * (_DIRECTION_SIZE / np.maximum(size, GRADIENT_FLOOR))])
    # Eigenvectors of the smaller of the two matrices of products: cheaper than singular vectors.
    if len(flux) < flux.shape[1]:
        values, vectors = np.linalg.eigh(flux @ flux.T)
        keep = _largest(values, components)
        directions = (vectors[:, keep].T @ flux) / np.sqrt(values[keep])[:, None]
    else:
        values, vectors = np.linalg.eigh(flux.T @ flux)
        directions = vectors[:, _largest(values, components)].T
    # A sign of its own for each, so that the same grid gives the same basis everywhere.
    directions *= np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])[:, None]
    return torch.as_tensor(np.vstack([mean, directions]), dtype=torch.float32)


def _largest(values: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """Where the largest eigenvalues are, in falling order; none that is zero but for rounding."""
    order = np.argsort(values)[::-1][:number]
    return order[values[order] > 1e-12 * values[order[0]]]


def project(flux: Tensor, basis: Tensor) -> Tensor:
    """(N, P) spectra -> (N, K) coefficients in a (K + 1, P) basis."""
    return (flux - basis[0]) @ basis[1:].T
