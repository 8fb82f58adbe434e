"""Where a model may be trusted: how far label vectors lie from the stars it was trained on.

A box in each label would call a hot supergiant trusted because hot dwarfs and cool giants were in the grid.
So in the labels of the atmosphere (teff, logg, v_micro, fe_h) the measure is the distance to the nearest
training atmospheres, in units of how far training atmospheres lie from each other; abundances, which the
design of a grid fills evenly, are held to their range.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from phdl_catalog.errors import InputError
from phdl_catalog.labels import is_abundance

#: Below this temperature [K] grids have no carbon stars: [C/Fe] - [O/Fe] is at most the second number [dex],
#: C/O at most 0.9.
CARBON_STARS_BELOW, LARGEST_CARBON_EXCESS = 5500.0, 0.2

#: The distance to so many nearest atmospheres is averaged.
_NEIGHBOURS = 4

#: This share of the training atmospheres lies inside, seen from the others.
_SHARE_INSIDE = 0.98


class TrainingRegion:
    """The region that a grid's training split covers.

    Parameters
    ----------
    label_names : tuple of str
        Length L.
    atmospheres : (S, A) ndarray
        The training atmospheres, in the labels that are no abundances.
    label_range : (L, 2) ndarray
        Smallest and largest value of each label.
    """

    def __init__(
        self,
        label_names: tuple[str, ...],
        atmospheres: NDArray[np.float64],
        label_range: NDArray[np.float64],
    ) -> None:
        self.label_names = label_names
        self.atmospheres = atmospheres
        self.label_range = label_range
        self._columns = [i for i, name in enumerate(label_names) if not is_abundance(name)]
        self._abundances = [i for i, name in enumerate(label_names) if is_abundance(name)]
        self._scale = atmospheres.std(axis=0)
        self._tree = cKDTree(atmospheres / self._scale)
        among = self._mean_distance(atmospheres, skip_nearest=True)
        self._unit = float(np.quantile(among, _SHARE_INSIDE))

    @classmethod
    def from_labels(cls, label_names: tuple[str, ...], labels: NDArray[np.float64]) -> TrainingRegion:
        """The region covered by training labels (N, L)."""
        columns = [i for i, name in enumerate(label_names) if not is_abundance(name)]
        atmospheres = np.unique(labels[:, columns], axis=0)
        return cls(label_names, atmospheres, np.stack([labels.min(axis=0), labels.max(axis=0)], axis=1))

    def _mean_distance(self, points: NDArray[np.float64], skip_nearest: bool = False) -> NDArray[np.float64]:
        first = 1 if skip_nearest else 0
        distance, _ = self._tree.query(points / self._scale, k=_NEIGHBOURS + first)
        return np.asarray(distance[:, first:].mean(axis=1))

    def distance(self, labels: ArrayLike) -> NDArray[np.float64]:
        """(N, L) -> (N,): at most 1 inside the region, growing outside; NaN for labels that are not finite.

        The larger of the atmosphere's distance and of the abundances' farthest excursion from the middle of
        their range, each 1 at the edge.
        """
        values = np.atleast_2d(np.asarray(labels, dtype=np.float64))
        if values.shape[-1] != len(self.label_names):
            raise InputError(f"labels has shape {values.shape}, expected (N, {len(self.label_names)})")
        result = np.full(len(values), np.nan)
        finite = np.isfinite(values).all(axis=1)
        lower, upper = self.label_range[self._abundances].T
        excursion = np.abs(values[finite][:, self._abundances] - 0.5 * (lower + upper)) / (
            0.5 * (upper - lower)
        )
        result[finite] = np.maximum(
            self._mean_distance(values[finite][:, self._columns]) / self._unit,
            excursion.max(axis=1, initial=0.0),
        )
        return result

    def atmosphere_distance(self, labels: ArrayLike) -> NDArray[np.float64]:
        """Like `distance`, in the atmosphere's labels alone: weak abundances wander, and no harm is done."""
        values = np.atleast_2d(np.asarray(labels, dtype=np.float64))
        result = np.full(len(values), np.nan)
        atmospheres = values[:, self._columns]
        finite = np.isfinite(atmospheres).all(axis=1)
        result[finite] = self._mean_distance(atmospheres[finite]) / self._unit
        return result
