"""Many small banded linear systems at once, by taking them apart into pieces that do not touch.

A matrix of least squares with cubic splines has nothing more than three places off its diagonal.  So three
neighbouring unknowns, a seam, part the ones before from the ones behind.  With a seam after every nine
unknowns all nines of all systems are solved together, as one batch of little matrices; what is left are the
seams, a matrix a quarter of the size (nested dissection; George 1973, SIAM J. Numer. Anal. 10, 345).  A few
products of batches do what would take a hundred steps along the band.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Elements farther off the diagonal than this are 0; the width of a seam.
BANDWIDTH = 3

#: Unknowns between two seams, and with the seam behind them.
_INNER = 9
_PIECE = _INNER + BANDWIDTH


@dataclass(frozen=True)
class BandedLayout:
    """Where the elements of symmetric banded (J, J) matrices stand in a flat row of numbers.

    Parameters
    ----------
    size : int
        J.
    """

    size: int

    @property
    def pieces(self) -> int:
        """Number of nines, each with a seam behind it; the last may be filled up with unknowns that are 0."""
        return -(-self.size // _PIECE)

    @property
    def seams(self) -> int:
        """Unknowns in seams; there is one before the first piece, so that all pieces are alike."""
        return BANDWIDTH * (self.pieces + 1)

    @property
    def length(self) -> int:
        """Length of a row: pieces, their ties to the seams, and the seams among themselves."""
        return self.pieces * _INNER * (_INNER + 2 * BANDWIDTH) + self.seams**2

    def place(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place of the elements (row, column), ``column <= row <= column + 3``, any shape."""
        piece, at = np.divmod(row, _PIECE)
        other_piece, other = np.divmod(column, _PIECE)
        seam, other_seam = at - _INNER, other - _INNER
        ties, among = self.pieces * _INNER**2, self.pieces * _INNER * (_INNER + 2 * BANDWIDTH)
        inside = (piece * _INNER + at) * _INNER + other
        before = ties + (piece * _INNER + at) * 2 * BANDWIDTH + other_seam
        behind = ties + (piece * _INNER + other) * 2 * BANDWIDTH + BANDWIDTH + seam
        first = BANDWIDTH * (piece + 1) + seam
        second = BANDWIDTH * (other_piece + 1) + other_seam
        places = [inside, before, behind, among + first * self.seams + second]
        return np.asarray(np.choose((seam >= 0) * 2 + (other_seam >= 0), places))

    def flat(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """The row of one matrix (J, J), of which what is on and below the diagonal is read."""
        row, column = np.tril_indices(self.size)
        near = row - column <= BANDWIDTH
        values = np.zeros(self.length)
        values[self.place(row[near], column[near])] = matrix[row[near], column[near]]
        return values

    @cached_property
    def filling(self) -> NDArray[np.float64]:
        """A row with 1 on the diagonal of unknowns that only fill up."""
        unused = np.arange(self.size, self.pieces * _PIECE)
        values = np.zeros(self.length)
        values[self.place(unused, unused)] = 1.0
        values[-(self.seams**2) :].reshape(self.seams, -1)[np.diag_indices(BANDWIDTH)] = 1.0
        return values

    def factorise(self, rows: Tensor) -> BandedFactor:
        """Factors of N positive definite matrices.

        Parameters
        ----------
        rows : (N, `length`) Tensor
            As `place` has them, `filling` added; used up.
        """
        count, pieces, seams = len(rows), self.pieces, self.seams
        inner, ties, among = rows.split(
            [pieces * _INNER**2, pieces * _INNER * 2 * BANDWIDTH, seams**2], dim=1
        )
        inner_root = _inverse_root(inner.reshape(-1, _INNER, _INNER))
        tied = torch.bmm(inner_root, ties.reshape(-1, _INNER, 2 * BANDWIDTH))
        taken = torch.bmm(tied.mT.contiguous(), tied).view(count, pieces, 2 * BANDWIDTH, 2 * BANDWIDTH)
        between = among.view(count, seams, seams)
        for first in range(min(2, pieces)):  # every second piece touches no other's seams
            every = taken[:, first::2]
            strides = (between.stride(0), 2 * BANDWIDTH * (seams + 1), seams, 1)
            start = first * BANDWIDTH * (seams + 1)
            window = between.as_strided(every.shape, strides, between.storage_offset() + start)
            window -= every
        return BandedFactor(
            inner_root.view(count, pieces, _INNER, _INNER),
            tied.view(count, pieces, _INNER, 2 * BANDWIDTH),
            _inverse_root(between),
        )


@dataclass(frozen=True)
class BandedFactor:
    """Inverse triangular factors of N matrices, piece by piece, float64.

    Parameters
    ----------
    inner : (N, B, 9, 9) Tensor
        Of the pieces.
    tied : (N, B, 9, 6) Tensor
        These times the ties of a piece to the seam before and the seam behind.
    between : (N, S, S) Tensor
        Of the seams, when the pieces are solved.
    """

    inner: Tensor
    tied: Tensor
    between: Tensor

    def rows(self, index: Tensor | slice) -> BandedFactor:
        """Those of some of the matrices."""
        return BandedFactor(*(getattr(self, field.name)[index] for field in fields(self)))

    def half(self, right: Tensor) -> Tensor:
        """Half of the way to the solutions: values y with ``y.T @ y = right.T @ inverse @ right``.

        Parameters
        ----------
        right : (N, J, R) Tensor

        Returns
        -------
        (N, J', R) Tensor
            Of J' >= J numbers that `rest` understands.
        """
        count, pieces = self.inner.shape[:2]
        padded = right.new_zeros(count, pieces * _PIECE, right.shape[2])
        padded[:, : right.shape[1]] = right
        parts = padded.view(count, pieces, _PIECE, -1)
        inner = self.inner @ parts[:, :, :_INNER]
        taken = self.tied.mT @ inner
        seams = right.new_zeros(count, pieces + 1, BANDWIDTH, right.shape[2])
        seams[:, 1:] = parts[:, :, _INNER:] - taken[:, :, BANDWIDTH:]
        seams[:, :-1] -= taken[:, :, :BANDWIDTH]
        return torch.cat([inner.flatten(1, 2), torch.bmm(self.between, seams.flatten(1, 2))], dim=1)

    def rest(self, half: Tensor, size: int) -> Tensor:
        """Solutions (N, J, R) of what `half` returned, J = `size`."""
        count, pieces = self.inner.shape[:2]
        inner, seams = half.split([pieces * _INNER, BANDWIDTH * (pieces + 1)], dim=1)
        seams = torch.bmm(self.between.mT, seams).view(count, pieces + 1, BANDWIDTH, -1)
        around = torch.cat([seams[:, :-1], seams[:, 1:]], dim=2)
        inner = self.inner.mT @ (inner.view(count, pieces, _INNER, -1) - self.tied @ around)
        return torch.cat([inner, seams[:, 1:]], dim=2).flatten(1, 2)[:, :size]


def _inverse_root(matrices: Tensor) -> Tensor:
    """Inverses (M, D, D) of the lower Cholesky factors; only what is on and below the diagonal is read."""
    factor, _ = torch.linalg.cholesky_ex(matrices)
    one = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    return torch.linalg.solve_triangular(factor, one.expand_as(factor), upper=False)
