"""Sums with cubic splines, pixel by pixel: of a pixel's splines only four are not zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.spectra import loops
from phdl_catalog.spectra.spline_loops import (
    backward_all,
    curves,
    forward_all,
    pulls,
    solve_all,
    systems,
)

#: Elements of normal matrices farther off the diagonal than this are 0.
_BAND = 3


@dataclass(frozen=True)
class SplineTable:
    """Splines on some pixels.

    Parameters
    ----------
    values : (4, P) array
        Of the splines that are not zero at a pixel, float32.
    edges : (I + 1,) array
        First pixel of each stretch between knots, and the end, int64.
    starts : (I,) array
        The first of the four splines there, int64.
    size : int
        Number of splines J.
    """

    values: NDArray[np.float32]
    edges: NDArray[np.int64]
    starts: NDArray[np.int64]
    size: int

    @classmethod
    def of(cls, design: NDArray[np.float32]) -> SplineTable:
        """The table of a design (J, P) with no more than four splines at a pixel, one behind the other."""
        size, pixels = design.shape
        first = np.minimum((design != 0).argmax(axis=0), size - _BAND - 1)
        values = design[first + np.arange(_BAND + 1)[:, None], np.arange(pixels)]
        changes = np.flatnonzero(np.diff(first)) + 1
        edges = np.concatenate([[0], changes, [pixels]])
        return cls(np.ascontiguousarray(values), edges, np.ascontiguousarray(first[edges[:-1]]), size)

    @property
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """What the loops take."""
        return self.values, self.edges, self.starts

    def curves(self, coefficients: Tensor) -> Tensor:
        """Curves (N, P), float32, of coefficients (N, J)."""
        out = loops.empty(len(coefficients), self.values.shape[1])
        loops.for_stars(curves, len(out), coefficients.double(), *self.arrays, out)
        return out

    def sums(self, values: Tensor) -> Tensor:
        """Sums (N, J), float64, of values (N, P) times each spline."""
        out = loops.empty(len(values), self.size, dtype=torch.float64)
        loops.for_stars(pulls, len(out), values, *self.arrays, out)
        return out

    def _system_memory(self, size: int) -> tuple[Tensor, Tensor]:
        lower = loops.empty(size, self.size, _BAND + 1, dtype=torch.float64)
        return lower, loops.empty(size, dtype=torch.float64)

    def factorise(self, weight: Tensor, stiffness: Tensor, stiff: float) -> tuple[BandFactor, Tensor]:
        """What `solve` returns beside the coefficients, of a weight (N, P) times the squared shape."""
        size = len(weight)
        lower, level = self._system_memory(size)
        loops.for_stars(systems, size, weight, stiffness, stiff, *self.arrays, lower, level)
        return BandFactor(lower), level

    def solve(
        self, target: Tensor, shape: Tensor, weight: Tensor, stiffness: Tensor, stiff: float
    ) -> tuple[Tensor, BandFactor, Tensor]:
        """Coefficients (N, J) of the curves that bring curve times shape closest to target, all (N, P).

        Parameters
        ----------
        target, shape, weight : (N, P) Tensor
            Float32.
        stiffness : (J, 4) Tensor
            Regularisation, as `banded` has it, float64.
        stiff : float
            Its weight, in units of the mean of the normal matrix' diagonal.

        Returns
        -------
        coefficients : (N, J) Tensor
            Float64.
        factor : BandFactor
            Of the normal matrices.
        level : (N,) Tensor
            Weight of the regularisation, float64.
        """
        size = len(target)
        coefficients = loops.empty(size, self.size, dtype=torch.float64)
        lower, level = self._system_memory(size)
        given = (target, shape, weight, stiffness, stiff, *self.arrays)
        loops.for_stars(solve_all, size, *given, coefficients, lower, level)
        return coefficients, BandFactor(lower), level


def banded(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (J, 4) elements [i, i - k] of a symmetric (J, J) matrix."""
    out = np.zeros((len(matrix), _BAND + 1))
    for k in range(_BAND + 1):
        out[k:, k] = np.diagonal(matrix, -k)
    return out


@dataclass(frozen=True)
class BandFactor:
    """Triangular factors of N banded positive definite (J, J) matrices.

    Parameters
    ----------
    lower : (N, J, 4) Tensor
        [i, k] is the element (i, i - k) of the factor, the inverse of it where k = 0; float64.
    """

    lower: Tensor

    def rows(self, index: Tensor | slice) -> BandFactor:
        """Those of some of the matrices."""
        return BandFactor(self.lower[index])

    def half(self, right: Tensor) -> Tensor:
        """Half of the way to the solutions: y (N, J, R) with ``y.T @ y = right.T @ inverse @ right``."""
        out = right.clone(memory_format=torch.contiguous_format)
        loops.for_stars(forward_all, len(out), self.lower, out)
        return out

    def rest(self, half: Tensor, size: int) -> Tensor:
        """Solutions (N, J, R) of what `half` returned, J = `size`."""
        out = half.clone(memory_format=torch.contiguous_format)
        loops.for_stars(backward_all, len(out), self.lower, out)
        return out
