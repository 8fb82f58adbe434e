"""The pseudo-continuum: a smooth curve that multiplies a spectrum, and the operator that finds it.

LAMOST fluxes are relative: the response of the instrument, the reddening and the joining of the two arms
multiply a spectrum by an unknown smooth curve.  That curve is a cubic spline, linear in its coefficients, so
its best value for a given model follows from one small linear system: there is nothing to iterate, and a fit
can remove it exactly (variable projection; Golub & Pereyra 1973).

Knots are `KNOT_SPACING` apart.  Spectral lines at R = 1800 are 3 to 5 Angstrom wide and the wings of Balmer
lines of F stars some 60; errors of LAMOST's flux calibration are mostly smooth over 300 and more (Xiang et
al. 2015, MNRAS 448, 90), but waves of 10 % with a period of 250 occur near the ends of the arms.  A spline of
100 Angstrom follows those: with it repeated observations agree better than with 200.  At `ARM_JOIN`, where
the spectra of the two cameras are glued together, it may have a kink.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from torch import Tensor

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.grid import PixelGrid

#: Distance between knots [Angstrom].
KNOT_SPACING = 100.0

#: Where the blue and the red arm meet [Angstrom]; they overlap from 5700 to 5900.
ARM_JOIN = 5800.0

#: Degree of the spline.
_DEGREE = 3

#: Weight of the second differences of the coefficients, in units of the mean of the normal matrix' diagonal:
#: nothing where there are data, a straight line across gaps without any.
_STIFFNESS = 1e-7


def _knots(lower: float, upper: float, spacing: float, join: float) -> NDArray[np.float64]:
    """Knots of a cubic spline on [lower, upper] that is continuous, and may have a kink, at `join`."""
    edges = [lower, join, upper] if lower + spacing < join < upper - spacing else [lower, upper]
    inner: list[float] = []
    for start, stop in itertools.pairwise(edges):
        pieces = max(1, round((stop - start) / spacing))
        inner.extend(np.linspace(start, stop, pieces + 1)[1:-1])
        if stop != upper:
            inner.extend([stop] * _DEGREE)
    return np.concatenate([[lower] * (_DEGREE + 1), inner, [upper] * (_DEGREE + 1)])


@dataclass(frozen=True)
class ContinuumBasis:
    """Basis of pseudo-continua on one pixel grid.

    Parameters
    ----------
    design : (J, P) Tensor
        The basis splines, float32.
    products : (4, J, P) Tensor
        Products of spline j with splines j, j + 1, j + 2 and j + 3: every product that is not zero.
    stiffness : (J, J) Tensor
        Quadratic form of the second differences, float64.
    """

    design: Tensor
    products: Tensor
    stiffness: Tensor

    @classmethod
    def on(
        cls,
        grid: PixelGrid,
        spacing: float = KNOT_SPACING,
        join: float = ARM_JOIN,
        device: str | torch.device = "cpu",
    ) -> ContinuumBasis:
        """Build the basis for a grid.

        Parameters
        ----------
        grid : PixelGrid
            Pixels of the spectra.
        spacing : float
            Distance between knots [Angstrom].
        join : float
            Where a kink is allowed [Angstrom].
        device : str or torch.device
            Where the tensors live.

        Raises
        ------
        InputError
            If `spacing` is not positive.
        """
        if not spacing > 0:
            raise InputError(f"the distance between continuum knots must be positive, not {spacing} Angstrom")
        wavelength = grid.wavelength
        knots = _knots(wavelength[0], wavelength[-1], spacing, join)
        design = BSpline.design_matrix(wavelength, knots, _DEGREE).toarray().T
        size = len(design)
        products = np.zeros((_DEGREE + 1, *design.shape))
        for band in range(_DEGREE + 1):
            products[band, : size - band] = design[: size - band] * design[band:]
        difference = np.diff(np.eye(size), n=2, axis=0)
        return cls(
            design=torch.as_tensor(design, dtype=torch.float32, device=device),
            products=torch.as_tensor(products, dtype=torch.float32, device=device),
            stiffness=torch.as_tensor(difference.T @ difference, dtype=torch.float64, device=device),
        )

    @property
    def size(self) -> int:
        """Number of coefficients J."""
        return self.design.shape[0]

    def normal_matrix(self, weight: Tensor) -> Tensor:
        """Normal matrices of weighted least squares, regularised across gaps.

        Parameters
        ----------
        weight : (N, P) Tensor
            Weight of each pixel for a design of unit flux.

        Returns
        -------
        (N, J, J) Tensor
            Symmetric, positive definite, float64.
        """
        bands = torch.einsum("np,bjp->nbj", weight, self.products).double()
        matrix = torch.diag_embed(bands[:, 0])
        for band in range(1, _DEGREE + 1):
            values = bands[:, band, : self.size - band]
            matrix = matrix + torch.diag_embed(values, offset=band) + torch.diag_embed(values, offset=-band)
        level = bands[:, 0].mean(dim=1)
        level = torch.where(level > 0, level, torch.ones_like(level)) * _STIFFNESS
        ridge = self.stiffness + 1e-3 * torch.eye(self.size, dtype=torch.float64, device=weight.device)
        return matrix + level[:, None, None] * ridge

    def solve(self, target: Tensor, shape: Tensor, weight: Tensor) -> Tensor:
        """Coefficients of the curve C that brings ``C * shape`` closest to `target`.

        Parameters
        ----------
        target, shape, weight : (N, P) Tensor
            Observed flux, model flux and weight (inverse variance; 0 leaves a pixel out), all finite.

        Returns
        -------
        (N, J) Tensor
            float64.
        """
        weighted = weight * shape
        matrix = self.normal_matrix(weighted * shape)
        right = ((weighted * target) @ self.design.T).double()
        factor, _ = torch.linalg.cholesky_ex(matrix)
        return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)

    def curve(self, coefficients: Tensor) -> Tensor:
        """The curves (N, P), float32, of coefficients (N, J)."""
        return coefficients.to(self.design.dtype) @ self.design
