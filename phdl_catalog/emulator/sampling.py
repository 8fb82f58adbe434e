"""Drawing label vectors from the region that a grid covers.

Atmospheric labels are drawn between a star of the grid and one of its neighbours, so that draws stay where
the grid is; abundances are taken from another star of the grid and jittered, which keeps the alpha elements
together as the grid has them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.region import CARBON_STARS_BELOW, LARGEST_CARBON_EXCESS
from phdl_catalog.labels import is_abundance

#: Neighbours between which atmospheres are drawn.
_NEIGHBOURS = 12

#: Jitter of an abundance [dex].
_JITTER = 0.06


class LabelSampler:
    """Label vectors like those of a grid's training split.

    Parameters
    ----------
    label_names : tuple of str
    labels : (N, L) ndarray
        Labels of the grid.
    """

    def __init__(self, label_names: tuple[str, ...], labels: NDArray[np.float64]) -> None:
        self._labels = labels
        self._atmosphere = [i for i, name in enumerate(label_names) if not is_abundance(name)]
        self._abundances = [i for i, name in enumerate(label_names) if is_abundance(name)]
        self._teff = label_names.index("teff")
        self._carbon = (
            (label_names.index("c_fe"), label_names.index("o_fe"))
            if {"c_fe", "o_fe"} <= set(label_names)
            else None
        )
        self._lower = labels.min(axis=0)
        self._upper = labels.max(axis=0)
        stars, _ = np.unique(labels[:, self._atmosphere], axis=0, return_index=True)
        self._stars = stars
        scaled = stars / stars.std(axis=0)
        distance = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
        self._neighbours = np.argsort(distance, axis=1)[:, 1 : _NEIGHBOURS + 1]

    @classmethod
    def from_grid(cls, grid: AbInitioGrid) -> LabelSampler:
        """Sample like the training split of `grid`."""
        return cls(grid.label_names, grid.labels[~grid.is_validation])

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """(n, L) label vectors."""
        accepted: list[NDArray[np.float64]] = []
        while sum(map(len, accepted)) < n:
            labels = self._propose(n, generator)
            if self._carbon is not None:
                carbon, oxygen = self._carbon
                rich = labels[:, carbon] - labels[:, oxygen] > LARGEST_CARBON_EXCESS
                labels = labels[~(rich & (labels[:, self._teff] < CARBON_STARS_BELOW))]
            accepted.append(labels)
        return np.concatenate(accepted)[:n]

    def _propose(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        star = generator.integers(len(self._stars), size=n)
        other = self._neighbours[star, generator.integers(self._neighbours.shape[1], size=n)]
        share = generator.uniform(0.0, 1.0, (n, 1))
        labels = np.empty((n, self._labels.shape[1]))
        labels[:, self._atmosphere] = self._stars[star] + share * (self._stars[other] - self._stars[star])
        donor = self._labels[generator.integers(len(self._labels), size=n)]
        jitter = generator.normal(0.0, _JITTER, (n, len(self._abundances)))
        labels[:, self._abundances] = donor[:, self._abundances] + jitter
        return np.clip(labels, self._lower, self._upper)
