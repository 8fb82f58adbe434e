"""The pseudo-continuum: a smooth curve that multiplies a spectrum, and the operator that finds it.

LAMOST fluxes are relative: the response of the instrument, the reddening and the joining of the two arms
multiply a spectrum by an unknown smooth curve.  That curve is a cubic spline, linear in its coefficients, so
its best value for a given model follows from one small linear system: there is nothing to iterate, and a fit
can remove it exactly (variable projection; Golub & Pereyra 1973).

Knots are `KNOT_SPACING` apart.  Spectral lines at R = 1800 are 3 to 5 Angstrom wide and the wings of Balmer
lines of F stars some 60; errors of LAMOST's flux calibration are mostly smooth over 300 and more (Xiang et
al. 2015, MNRAS 448, 90), but waves of 10 % with a period of 250 occur near the ends of the arms, and smaller
and shorter ones everywhere.  With 60 Angstrom repeated observations of bright stars differ in temperature
by 1.1 of their errors, with 100 by 1.4, with 200 by 1.9; the errors themselves grow by 6 %.  At `ARM_JOIN`,
where the spectra of the two cameras are glued together, it may have a kink.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from torch import Tensor

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.grid import PixelGrid

#: Distance between knots [Angstrom].
KNOT_SPACING = 60.0

#: Where the blue and the red arm meet [Angstrom]; they overlap from 5700 to 5900.
ARM_JOIN = 5800.0

#: Degree of the spline.
_DEGREE = 3

#: Stretches of pixels that products of splines and spectra are formed in.
_PARTS = 6

#: Rows of the blocks that normal matrices are factorised in.
_BLOCK = 12

#: Weight of the second differences of the coefficients, in units of the mean of the normal matrix' diagonal:
#: nothing where there are data, a straight line across gaps without any.
_STIFFNESS = 1e-7

#: Weight of the squares of the coefficients relative to that.
_SMALLNESS = 1e-3


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


def _local_products(
    design: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Stretches, products and places of a `ContinuumBasis`, of a design (J, P)."""
    size, pixels = design.shape
    # Pixels with the same splines are neighbours: a cubic spline has four between two knots.
    first = np.minimum((design != 0).argmax(axis=0), size - _DEGREE - 1)
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    stops = np.append(starts[1:], pixels)
    stretches = starts[:, None] + np.arange((stops - starts).max())
    stretches = np.where(stretches < stops[:, None], stretches, pixels)
    one, other = np.triu_indices(_DEGREE + 1)
    padded = np.concatenate([design, np.zeros((size, 1))], axis=1)
    rows = first[starts][:, None]
    products = padded[(rows + one)[:, None, :], stretches[:, :, None]]
    products = products * padded[(rows + other)[:, None, :], stretches[:, :, None]]
    place = (rows + other) * size + rows + one  # the row is the later spline: below the diagonal
    return stretches, products, place.reshape(-1)


def _banded_cholesky(lower: Tensor) -> Tensor:
    """Lower Cholesky factors of (N, J, J) matrices whose elements are 0 more than `_BLOCK` off the diagonal.

    Block by block: several times faster than one factorisation that cannot know of the zeros.  Only what is
    on and below the diagonal is read.
    """
    factor = torch.zeros_like(lower)
    previous = slice(0, 0)
    for start in range(0, lower.shape[1], _BLOCK):
        own = slice(start, start + _BLOCK)
        block = lower[:, own, own]
        if start:
            above = factor[:, previous, previous]
            solved = torch.linalg.solve_triangular(above, lower[:, own, previous].mT, upper=False)
            factor[:, own, previous] = solved.mT
            block = block - solved.mT @ solved
        factor[:, own, own], _ = torch.linalg.cholesky_ex(block)
        previous = own
    return factor


@dataclass(frozen=True)
class NormalSystem:
    """Normal equations of N least-squares problems, factorised.

    Parameters
    ----------
    factor : (N, J, J) Tensor
        Lower Cholesky factors, float64.
    level : (N,) Tensor
        Weight of the regularisation, float64.
    """

    factor: Tensor
    level: Tensor

    def solve(self, right: Tensor) -> Tensor:
        """Solutions (N, J) for right-hand sides (N, J), float64."""
        return torch.cholesky_solve(right.unsqueeze(-1), self.factor).squeeze(-1)

    def rows(self, index: Tensor | slice) -> NormalSystem:
        """The systems of some of the problems."""
        return NormalSystem(self.factor[index], self.level[index])


@dataclass(frozen=True)
class ContinuumBasis:
    """Basis of pseudo-continua on one pixel grid.

    Parameters
    ----------
    design : (J, P) Tensor
        The basis splines, float32.
    stretches : (I, W) Tensor
        Pixels between each two knots, P where there are fewer than W, int64.
    products : (I, W, 10) Tensor
        Products of each two of the four splines that are not zero between two knots, float32.
    place : (I * 10,) Tensor
        Where sums of those products stand in the flat (J, J) normal matrix, on and below its diagonal, int64.
    stiffness : (J, J) Tensor
        Regularisation: the second differences and a little of the coefficients themselves, float64.
    """

    design: Tensor
    stretches: Tensor
    products: Tensor
    place: Tensor
    stiffness: Tensor

    @classmethod
    def on(
        cls,
        grid: PixelGrid,
        spacing: float = KNOT_SPACING,
        join: float = ARM_JOIN,
        device: str | torch.device = "cpu",
        pooling: int = 1,
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
        pooling : int
            Neighbouring pixels that are taken together; what is left over at the end is dropped.

        Raises
        ------
        InputError
            If `spacing` is not positive.
        """
        if not spacing > 0:
            raise InputError(f"the distance between continuum knots must be positive, not {spacing} Angstrom")
        number = grid.size // pooling
        wavelength = grid.wavelength[: number * pooling].reshape(number, pooling).mean(axis=1)
        knots = _knots(wavelength[0], wavelength[-1], spacing, join)
        design = BSpline.design_matrix(wavelength, knots, _DEGREE).toarray().T
        size = len(design)
        difference = np.diff(np.eye(size), n=2, axis=0)
        stretches, products, place = _local_products(design)
        return cls(
            design=torch.as_tensor(design, dtype=torch.float32, device=device),
            stretches=torch.as_tensor(stretches, device=device),
            products=torch.as_tensor(products, dtype=torch.float32, device=device),
            place=torch.as_tensor(place, device=device),
            stiffness=torch.as_tensor(
                difference.T @ difference + _SMALLNESS * np.eye(size), dtype=torch.float64, device=device
            ),
        )

    @property
    def size(self) -> int:
        """Number of coefficients J."""
        return self.design.shape[0]

    def system(self, weight: Tensor) -> NormalSystem:
        """Normal equations of weighted least squares, regularised across gaps, and factorised.

        Parameters
        ----------
        weight : (N, P) Tensor
            Weight of each pixel for a design of unit flux.
        """
        size, count = len(weight), self.size
        padded = torch.cat([weight, weight.new_zeros(size, 1)], dim=1)
        local = padded.index_select(1, self.stretches.flatten()).view(size, *self.stretches.shape)
        sums = torch.bmm(local.transpose(0, 1), self.products).transpose(0, 1).reshape(size, -1).double()
        flat = sums.new_zeros(size, count * count).index_add_(1, self.place, sums)
        lower = flat.view(size, count, count)
        level = torch.diagonal(lower, dim1=1, dim2=2).mean(dim=1)
        level = torch.where(level > 0, level, torch.ones_like(level)) * _STIFFNESS
        lower.addcmul_(level[:, None, None], self.stiffness)
        return NormalSystem(_banded_cholesky(lower), level)

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
        return self.solve_with_system(target, shape, weight)[0]

    def solve_with_system(self, target: Tensor, shape: Tensor, weight: Tensor) -> tuple[Tensor, NormalSystem]:
        """As `solve`, and the system that was solved."""
        weighted = weight * shape
        system = self.system(weighted * shape)
        return system.solve(self.pull(weighted * target)), system

    def improve(self, coefficients: Tensor, pull: Tensor, system: NormalSystem) -> Tensor:
        """Bring coefficients nearer to those that solve a system which is nearly `system`.

        What remains of their error is multiplied by the relative difference of the two systems: per cent,
        for models of a star that differ by a step of a fit.

        Parameters
        ----------
        coefficients : (N, J) Tensor
            float64.
        pull : (N, P) Tensor
            Weight times model flux times residual, with the curve of the coefficients.
        system : NormalSystem
            Of a similar model.

        Returns
        -------
        (N, J) Tensor
            float64.
        """
        right = self.pull(pull)
        right -= system.level[:, None] * (coefficients @ self.stiffness)
        return coefficients + system.solve(right)

    def curve(self, coefficients: Tensor, stride: int = 1) -> Tensor:
        """The curves (N, P), float32, of coefficients (N, J); or only every `stride`-th pixel of them."""
        values = coefficients.to(self.design.dtype)
        parts = []
        for rows, pixels in self._parts:
            first = pixels.start + -pixels.start % stride
            parts.append(values[:, rows] @ self.design[rows, first : pixels.stop : stride])
        return torch.cat(parts, dim=1)

    def pull(self, values: Tensor) -> Tensor:
        """Sums (N, J), float64, of values (N, P) times each spline."""
        total = values.new_zeros(len(values), self.size)
        for rows, pixels in self._parts:
            total[:, rows] += values[:, pixels] @ self.design[rows, pixels].T
        return total.double()

    @cached_property
    def _parts(self) -> list[tuple[slice, slice]]:
        """Stretches of pixels, and the splines that are not zero there: products need no others."""
        edges = np.linspace(0, self.design.shape[1], _PARTS + 1).astype(int).tolist()
        parts = []
        for start, stop in itertools.pairwise(edges):
            there = torch.nonzero((self.design[:, start:stop] != 0).any(dim=1)).squeeze(1).tolist()
            parts.append((slice(there[0], there[-1] + 1), slice(start, stop)))
        return parts
