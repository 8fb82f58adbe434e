"""What a model would have made of its training stars, had it not seen them.

A few dozen validation stars are too few to tell which pixels err together, and they are what a model is
judged by.  The Gaussian process that taught the model has a closed form: with ``K`` the covariance of all
training spectra and ``w = K^-1 y``, the error at the rows b of one star, predicted from all other stars, is
``(K^-1)_bb^-1 w_b`` (e.g. Rasmussen & Williams 2006, eq. 5.12, for blocks).  What the network adds, its
difference from the training spectra, is added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from phdl_catalog.emulator.evaluation import FluxFunction
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.interpolant import GridInterpolant, InterpolantConfig
from phdl_catalog.emulator.transforms import LabelTransform


@dataclass(frozen=True)
class Residuals:
    """Errors of a model at spectra that it did not see.

    Parameters
    ----------
    labels : (N, L) float64
    flux : (N, P) float64
        Model minus ab initio.
    star : (N,) int64
        Spectra of one star have one number.
    rate : (I,) float64, optional
        For a `Novelty`, where an interpolant knows it.
    """

    labels: NDArray[np.float64]
    flux: NDArray[np.float64]
    star: NDArray[np.int64]
    rate: NDArray[np.float64] | None = None

    def of(self, rows: NDArray[np.bool_]) -> Residuals:
        """Those of some of the spectra."""
        return replace(self, labels=self.labels[rows], flux=self.flux[rows], star=self.star[rows])


def left_out_residuals(
    flux_of: FluxFunction,
    grid: AbInitioGrid,
    transform: LabelTransform,
    basis: torch.Tensor,
    config: InterpolantConfig,
) -> Residuals | None:
    """Errors at each training star of a model that was taught by an interpolant of the others.

    Parameters
    ----------
    flux_of : callable
        The finished model: physical labels (N, L) -> flux (N, P), torch.
    grid : AbInitioGrid
    transform : LabelTransform
    basis : (K + 1, P) Tensor
        Mean spectrum and orthonormal directions.
    config : InterpolantConfig
        As in training.

    Returns
    -------
    Residuals or None
        Of the training split, the stars of differential spectra not included; None where the grid is too
        large for all of it to be interpolated.
    """
    training = ~grid.is_validation
    labels = grid.labels[training]
    interpolant = GridInterpolant.fit(grid, transform, basis, config)
    # Differential spectra come after the training split, all spectra of one star in it side by side or not.
    further = len(interpolant.inputs) - len(labels)
    if further < 0 or len(interpolant.inputs) >= config.largest:
        return None
    star = np.concatenate([grid.star[training], np.full(further, -1)])
    missing = interpolant.left_out(star)[: len(labels)].float()
    with torch.no_grad():
        own = torch.cat([flux_of(part) for part in torch.as_tensor(labels).split(64)]).cpu()
        error = own - torch.as_tensor(grid.flux[training]) - missing @ basis[1:]
    rate = interpolant.rate / transform.scale.cpu().numpy()
    return Residuals(labels, error.double().numpy(), grid.star[training], rate)
