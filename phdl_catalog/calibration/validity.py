"""Where a correction may be used: a map of small cells of (teff, logg, fe_h).

A cell is valid for a label if calibrators of that label are near it and if the correction is known there well
enough to be of use.  The map is made once, when a set is solved: to ask for a million stars is a lookup.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from phdl_catalog.calibration.basis import SmoothBasis

Floats = NDArray[np.float64]

#: Size of a cell [K, dex, dex].
CELL = np.array([100.0, 0.1, 0.1])

#: How far a calibrator reaches [K, dex, dex]: about half the shortest scale on which corrections change.
REACH = np.array([300.0, 0.3, 0.4])

#: So many calibrators must reach a cell: one may be wrong, two agree by chance.
LEAST_NEIGHBOURS = 3


@dataclass(frozen=True)
class CellGrid:
    """Cells that tile a box.

    Parameters
    ----------
    lower : tuple of float
        Lower corner [K, dex, dex].
    shape : tuple of int
        Number of cells in teff, logg, fe_h; each is `CELL` large.
    """

    lower: tuple[float, float, float]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, basis: SmoothBasis) -> CellGrid:
        """Cells that tile the box of a basis."""
        center, half = np.asarray(basis.center), np.asarray(basis.half_width)
        lower = np.floor((center - half) / CELL) * CELL
        shape = np.ceil((center + half - lower) / CELL).astype(int)
        return cls(tuple(lower.tolist()), tuple(shape.tolist()))

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape))

    @property
    def centers(self) -> Floats:
        """(size, 3) centres of all cells."""
        axes = [
            low + (np.arange(n) + 0.5) * step
            for low, n, step in zip(self.lower, self.shape, CELL, strict=True)
        ]
        return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)

    def index(self, points: Floats) -> NDArray[np.int64]:
        """(N,) number of the cell of each point; -1 outside the box and where a coordinate is missing."""
        with np.errstate(invalid="ignore"):
            cell = np.floor((points - np.asarray(self.lower)) / CELL)
            inside = np.all((cell >= 0) & (cell < self.shape), axis=1)
        number = np.full(len(points), -1, dtype=np.int64)
        number[inside] = np.ravel_multi_index(tuple(cell[inside].astype(np.int64).T), self.shape)
        return number

    def nearest(self, points: Floats) -> NDArray[np.int64]:
        """(N,) number of the cell nearest to each point; -1 where a coordinate is missing."""
        known = np.all(np.isfinite(points), axis=1)
        with np.errstate(invalid="ignore"):
            cell = np.floor((points[known] - np.asarray(self.lower)) / CELL)
        number = np.full(len(points), -1, dtype=np.int64)
        inside = np.clip(cell, 0, np.asarray(self.shape) - 1).astype(np.int64)
        number[known] = np.ravel_multi_index(tuple(inside.T), self.shape)
        return number

    def supported(self, calibrators: Floats) -> NDArray[np.bool_]:
        """(size,) cells that at least `LEAST_NEIGHBOURS` of the calibrators, (n, 3), reach."""
        if len(calibrators) < LEAST_NEIGHBOURS:
            return np.zeros(self.size, dtype=bool)
        tree = cKDTree(calibrators / REACH)
        distance, _ = tree.query(self.centers / REACH, k=LEAST_NEIGHBOURS, distance_upper_bound=1.0)
        return np.asarray(np.isfinite(distance[:, -1]))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"lower": list(self.lower), "shape": list(self.shape), "cell": CELL.tolist()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CellGrid:
        """Inverse of `to_dict`."""
        return cls(tuple(document["lower"]), tuple(document["shape"]))


@dataclass(frozen=True, eq=False)
class CellTables:
    """What is looked up for a star by the number of its cell, of C cells and L labels.

    Parameters
    ----------
    error : (C, L) float32 array
        One sigma of the corrections in the middle of the cell [label units].
    slopes : (3, C, L) float32 array
        Their derivatives by teff, logg and fe_h there.
    valid : (C, L) bool array
        Whether calibrators are near, and the error small enough.
    """

    error: NDArray[np.float32]
    slopes: NDArray[np.float32]
    valid: NDArray[np.bool_]


def pack_cells(cells: NDArray[np.bool_]) -> str:
    """A map of cells as base64 text of its bits, first cell in the highest bit."""
    return base64.b64encode(np.packbits(cells).tobytes()).decode("ascii")


def unpack_cells(text: str, size: int) -> NDArray[np.bool_]:
    """Inverse of `pack_cells` for `size` cells."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=size)
    return bits.astype(bool)
