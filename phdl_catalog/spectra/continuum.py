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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from torch import Tensor

from phdl_catalog.errors import InputError
from phdl_catalog.spectra import loops
from phdl_catalog.spectra.banded import BANDWIDTH, BandedFactor, BandedLayout
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.splines import BandFactor, SplineTable, banded

#: Distance between knots [Angstrom].
KNOT_SPACING = 60.0

#: Where the blue and the red arm meet [Angstrom]; they overlap from 5700 to 5900.
ARM_JOIN = 5800.0

#: Degree of the spline.
_DEGREE = 3

#: Stretches of pixels that products of splines and spectra are formed in.
_PARTS = 6

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


def _parts_of(table: Tensor) -> list[tuple[slice, slice]]:
    """Stretches of the columns of a (J, P) table of smooth functions, and what rows are not zero there."""
    edges = np.linspace(0, table.shape[1], _PARTS + 1).astype(int).tolist()
    parts = []
    for start, stop in itertools.pairwise(edges):
        there = torch.nonzero((table[:, start:stop] != 0).any(dim=1)).squeeze(1).tolist()
        if there:
            parts.append((slice(there[0], there[-1] + 1), slice(start, stop)))
    return parts


def _sums(values: Tensor, table: Tensor, parts: list[tuple[slice, slice]]) -> Tensor:
    """Sums (N, J), float64, of values (N, P) times each row of a table, of which `parts` are not zero."""
    total = values.new_zeros(len(values), len(table))
    for rows, pixels in parts:
        total[:, rows] += values[:, pixels] @ table[rows, pixels].T
    return total.double()


@dataclass(frozen=True)
class NormalSystem:
    """Normal equations of N least-squares problems, factorised.

    Parameters
    ----------
    factor : BandFactor or BandedFactor
        Of the normal matrices; the latter on other devices than the processor.
    level : (N,) Tensor
        Weight of the regularisation, float64.
    """

    factor: BandFactor | BandedFactor
    level: Tensor

    def solve(self, right: Tensor) -> Tensor:
        """Solutions (N, J) for right-hand sides (N, J), float64."""
        return self.factor.rest(self.factor.half(right.unsqueeze(-1)), right.shape[1]).squeeze(-1)

    def rows(self, index: Tensor | slice) -> NormalSystem:
        """The systems of some of the problems."""
        return NormalSystem(self.factor.rows(index), self.level[index])


@dataclass(frozen=True)
class ContinuumBasis:
    """Basis of pseudo-continua on one pixel grid.

    Parameters
    ----------
    design : (J, P) Tensor
        The basis splines, float32.
    products : (E, P) Tensor
        Products of each two splines that overlap, float32.
    place : (E,) Tensor
        Where sums of those products stand in a row of the layout of a `BandedFactor`, int64.
    stiffness : (J, J) Tensor
        Regularisation: the second differences and a little of the coefficients themselves, float64.
    """

    design: Tensor
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
        one, other = np.tril_indices(size)
        near = one - other <= BANDWIDTH
        one, other = one[near], other[near]
        return cls(
            design=torch.as_tensor(design, dtype=torch.float32, device=device),
            products=torch.as_tensor(design[one] * design[other], dtype=torch.float32, device=device),
            place=torch.as_tensor(BandedLayout(size).place(one, other), device=device),
            stiffness=torch.as_tensor(
                difference.T @ difference + _SMALLNESS * np.eye(size), dtype=torch.float64, device=device
            ),
        )

    def thinned(self, stride: int) -> ContinuumBasis:
        """The basis on the middle ones of each `stride` pixels; what is left over at the end is dropped."""
        every = slice(stride // 2, self.design.shape[1] // stride * stride, stride)
        design, products = (table[:, every].contiguous() for table in (self.design, self.products))
        return replace(self, design=design, products=products)

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
        if self.in_loops:
            return NormalSystem(*self.table.factorise(weight, self._banded_stiffness, _STIFFNESS))
        sums = _sums(weight, self.products, self._product_parts)
        rows = sums.new_zeros(len(weight), self._layout.length).index_copy_(1, self.place, sums)
        stiffness, filling, diagonal = self._constants
        level = rows[:, diagonal].mean(dim=1)
        level = torch.where(level > 0, level, torch.ones_like(level)) * _STIFFNESS
        rows.addcmul_(level[:, None], stiffness).add_(filling)
        return NormalSystem(self._layout.factorise(rows), level)

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
        if self.in_loops:
            target, shape, weight = torch.broadcast_tensors(target, shape, weight)
            coefficients, factor, level = self.table.solve(
                target, shape, weight, self._banded_stiffness, _STIFFNESS
            )
            return coefficients, NormalSystem(factor, level)
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
        if self.in_loops and stride == 1:
            return self.table.curves(coefficients)
        values = coefficients.to(self.design.dtype)
        parts = []
        for rows, pixels in self._parts:
            first = pixels.start + -pixels.start % stride
            parts.append(values[:, rows] @ self.design[rows, first : pixels.stop : stride])
        return torch.cat(parts, dim=1)

    def pull(self, values: Tensor) -> Tensor:
        """Sums (N, J), float64, of values (N, P) times each spline."""
        if self.in_loops:
            return self.table.sums(values)
        return _sums(values, self.design, self._parts)

    @property
    def in_loops(self) -> bool:
        """Whether sums are loops on the processor."""
        return loops.wanted(self.design.device)

    @cached_property
    def table(self) -> SplineTable:
        """The splines as loops take them."""
        return SplineTable.of(self.design.cpu().numpy())

    def loop_arrays(self, system: NormalSystem) -> tuple[Tensor | NDArray[Any], ...]:
        """A system, the stiffness and the splines, as the loops of a fit take them."""
        assert isinstance(system.factor, BandFactor)
        return system.factor.lower, system.level, self._banded_stiffness, *self.table.arrays

    @cached_property
    def _banded_stiffness(self) -> Tensor:
        return torch.as_tensor(banded(self.stiffness.cpu().numpy()))

    @cached_property
    def _layout(self) -> BandedLayout:
        return BandedLayout(self.size)

    @cached_property
    def _constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the layout with the stiffness and with what fills up, and the places of the diagonal."""
        layout, number = self._layout, np.arange(self.size)
        arrays = (layout.flat(self.stiffness.cpu().numpy()), layout.filling, layout.place(number, number))
        stiffness, filling, diagonal = (torch.as_tensor(x, device=self.stiffness.device) for x in arrays)
        return stiffness, filling, diagonal

    @cached_property
    def _parts(self) -> list[tuple[slice, slice]]:
        return _parts_of(self.design)

    @cached_property
    def _product_parts(self) -> list[tuple[slice, slice]]:
        return _parts_of(self.products)
