"""The noise of a pixel: inverse variance, outliers, and an error floor where chi2 asks for one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from phdl_catalog.fitting.pixel_loops import find_floors
from phdl_catalog.spectra import loops
from phdl_catalog.spectra.grid import PixelGrid

#: Limits of the bands that have an error floor of their own [Angstrom].  Line lists are worst in the blue.
FLOOR_BANDS = (0.0, 4100.0, 4500.0, 5000.0, 5700.0, 6600.0, 7700.0, np.inf)

#: Steps of the search for the error floor; each halves the logarithmic interval.
_FLOOR_STEPS = 10

#: Smallest and largest error floor that is searched for, squared.
_SMALLEST_FLOOR2, _LARGEST_FLOOR2 = 1e-7, 0.25


def outlier(deviation2: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Cost of deviating pixels, and the factor on their weight that is its derivative.

    Up to `limit` the cost is the squared deviation d^2 and the factor 1; beyond, the cost is
    ``2 limit^2 - limit^4 / d^2`` and the factor ``(limit / d)^4``: cost and pull join smoothly, the cost of a
    cosmic ray has an upper limit, and its pull falls with its height.

    Parameters
    ----------
    deviation2 : Tensor
        Squared deviations in units of the error, any shape.
    limit : float
        In units of the error.

    Returns
    -------
    cost, factor : Tensor
        Of the same shape.
    """
    limit2 = limit**2
    ratio = limit2 / deviation2.clamp_min(limit2)
    return deviation2.clamp_max(limit2) + limit2 * (1.0 - ratio), ratio.square()


@dataclass(frozen=True)
class FloorBands:
    """Bands of wavelength, each with an error floor of its own.

    Parameters
    ----------
    member : (M, P) Tensor
        1 where a pixel is in a band, float32.
    """

    member: Tensor

    @classmethod
    def on(cls, grid: PixelGrid, device: str | torch.device = "cpu") -> FloorBands:
        """Bands of `FLOOR_BANDS` that have pixels on the grid."""
        band = np.digitize(grid.wavelength, FLOOR_BANDS[1:-1])
        member = (band == np.unique(band)[:, None]).astype(np.float32)
        return cls(torch.as_tensor(member, device=device))

    @cached_property
    def band(self) -> Tensor:
        """The band of each pixel (P,), int64."""
        return self.member.argmax(dim=0)

    @cached_property
    def edges(self) -> Tensor:
        """First pixels of the bands, and the end (M + 1,), int64."""
        sizes = self.member.sum(dim=1).long().cumsum(dim=0)
        return torch.cat([sizes.new_zeros(1), sizes])

    def spread(self, values: Tensor) -> Tensor:
        """One value per pixel (N, P) of one value per band (N, M)."""
        return values.to(self.member.dtype) @ self.member

    def fit(
        self, residual2: Tensor, variance: Tensor, continuum2: Tensor, use: Tensor, limit: float
    ) -> Tensor:
        """Squared error floors that bring chi2 of each band to its expectation.

        A band whose chi2 is within three standard deviations of what pure noise gives has the floor 0: noise
        alone never gets one.

        Parameters
        ----------
        residual2, variance, continuum2 : (N, P) Tensor
            Squared residuals, variances of the noise and squared pseudo-continua.
        use : (N, P) Tensor
            1 where a pixel takes part.
        limit : float
            Deviations are clipped here [sigma], so that outliers make no floor.

        Returns
        -------
        (N, M) Tensor
            Squared error floors as a fraction of the continuum, float32.
        """
        if loops.wanted(residual2.device):
            floor2 = loops.empty(len(use), len(self.member))
            loops.for_stars(
                find_floors, len(use), residual2, variance, continuum2, use, self.edges,
                np.float32(limit**2), _SMALLEST_FLOOR2, _LARGEST_FLOOR2, _FLOOR_STEPS, floor2,
            )  # fmt: skip
            return floor2
        number = use @ self.member.T
        plain = (use * (residual2 / variance).clamp_max(limit**2)) @ self.member.T
        wanted = plain - number > 3.0 * (2.0 * number).sqrt()
        return torch.where(wanted, self._search(residual2, variance, continuum2, use, limit), 0.0)

    def _search(
        self, residual2: Tensor, variance: Tensor, continuum2: Tensor, use: Tensor, limit: float
    ) -> Tensor:
        """Squared floors (N, M) for every band, by bisection."""
        number = use @ self.member.T
        lower = torch.full_like(number, float(np.log(_SMALLEST_FLOOR2)))
        upper = torch.full_like(number, float(np.log(_LARGEST_FLOOR2)))
        for _ in range(_FLOOR_STEPS):
            middle = (lower + upper) / 2.0
            deviation2 = residual2 / (variance + self.spread(middle.exp()) * continuum2)
            positive = (use * deviation2.clamp_max_(limit**2)) @ self.member.T > number
            lower = torch.where(positive, middle, lower)
            upper = torch.where(positive, upper, middle)
        return upper.exp()
