"""Velocity and nearest template: a matched filter over whole-pixel shifts.

The classical cross-correlation weighs all pixels alike.  Here each shift and template gets the chi2 that the
template takes away when its depth is free, with the noise and the mask of every pixel: the same number for
even noise, and the right one for LAMOST's, whose S/N falls steeply to the blue.  The pixels of the survey are
steps in log wavelength, so a velocity moves a spectrum by a number of pixels.

Velocities are c z, positive when receding, in the frame of the observed wavelengths; LAMOST's are vacuum
wavelengths in the heliocentric frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from phdl_catalog.fitting.objective import TEMPLATE_ERROR
from phdl_catalog.fitting.starts import Templates
from phdl_catalog.spectra.continuum import ContinuumBasis
from phdl_catalog.spectra.grid import LOG10_STEP, PIXEL_VELOCITY, SPEED_OF_LIGHT, PixelGrid

#: Relative flux over the pseudo-continuum beyond which a pixel is an emission line or a cosmic ray.
_EMISSION = 0.3

#: Templates a fit is started from.
_STARTS = 3

#: A peak must be better by this much in chi2 than the best shift more than `_PEAK_PIXELS` away.
_PEAK_CHI2, _PEAK_PIXELS = 20.0, 4


def velocity_of_shift(shift: Tensor) -> Tensor:
    """Velocity c z [km/s] of a shift [pixels] on the survey's grid."""
    return SPEED_OF_LIGHT * torch.expm1(shift.double() * (math.log(10.0) * LOG10_STEP))


@dataclass(frozen=True)
class Alignment:
    """What the search found for each star.

    Parameters
    ----------
    pixels : (N,) Tensor
        Whole pixels of the best shift, int64.
    fraction : (N,) Tensor
        What remains, -0.5 to 0.5 [pixels].
    unique : (N,) Tensor
        False where another shift is nearly as good or the best one is at the end of the range.
    templates : (N, S) Tensor
        Rows of the nearest template, and of the nearest ones that are clearly different, int64.
    """

    pixels: Tensor
    fraction: Tensor
    unique: Tensor
    templates: Tensor

    def rows(self, index: Tensor) -> Alignment:
        """That of some of the stars."""
        return Alignment(self.pixels[index], self.fraction[index], self.unique[index], self.templates[index])


class VelocitySearch:
    """Searches shifts of a grid of fit pixels.

    Parameters
    ----------
    grid : PixelGrid
        Pixels of the templates.
    templates : Templates
        From `make_templates`.
    largest_velocity : float
        To either side [km/s].
    spacing, join : float
        Of the pseudo-continuum [Angstrom].
    """

    def __init__(
        self, grid: PixelGrid, templates: Templates, largest_velocity: float, spacing: float, join: float
    ) -> None:
        #: Largest shift searched [pixels].
        self.reach = math.ceil(largest_velocity / PIXEL_VELOCITY)
        #: Pixels that observed spectra must be given on: the fit's, and `reach` more at either end.
        self.observed_grid = PixelGrid(grid.first - self.reach, grid.size + 2 * self.reach)
        device = templates.flux.device
        self._size = grid.size
        self._continuum = ContinuumBasis.on(self.observed_grid, spacing, join, device)
        own = ContinuumBasis.on(grid, spacing, join, device)
        ones = torch.ones_like(templates.flux)
        self._lines = templates.flux / own.curve(own.solve(templates.flux, ones, ones)) - 1.0
        self._lines_squared = self._lines.square()
        self._alike = templates.alike
        # Every template at every shift, on the observed pixels: the search is one matrix product.
        lines = self._lines[templates.velocity_rows]
        shifts = 2 * self.reach + 1
        moved = lines.new_zeros(shifts, len(lines), self.observed_grid.size)
        for shift in range(shifts):
            moved[shift, :, shift : shift + self._size] = lines
        #: (S * V, P + 2 reach)
        self._moved = moved.flatten(0, 1)
        self._moved_squared = self._moved.square()
        self._shape = (shifts, len(lines))

    def search(self, flux: Tensor, ivar: Tensor) -> Alignment:
        """Find the best shift and the nearest template.

        Parameters
        ----------
        flux, ivar : (N, P + 2 reach) Tensor
            On `observed_grid`, `flux` of order 1, `ivar` 0 where a pixel is not to be used; float32.
        """
        ones = torch.ones_like(flux)
        curve = self._continuum.curve(self._continuum.solve(flux, ones, ivar)).clamp_min(1e-2)
        lines = flux / curve - 1.0
        keep = (ivar > 0) & (lines < _EMISSION) & (lines > -1.0)
        variance = 1.0 / (ivar * curve.square()).clamp_min(1e-20) + TEMPLATE_ERROR**2
        weight = keep / variance
        weighted = torch.where(keep, lines, torch.zeros_like(lines)) * weight

        gain = self._matched(weighted, weight)
        best, _ = gain.max(dim=2)
        peak = best.argmax(dim=1)
        inner = peak.clamp(1, 2 * self.reach - 1)
        fraction = self._vertex(best, inner)
        offset = torch.arange(2 * self.reach + 1, device=flux.device)
        far = (offset - peak[:, None]).abs() > _PEAK_PIXELS
        rival = torch.where(far, best, torch.zeros_like(best)).max(dim=1).values
        highest = best.gather(1, peak[:, None]).squeeze(1)
        return Alignment(
            pixels=peak - self.reach,
            fraction=torch.where(inner == peak, fraction, torch.zeros_like(fraction)),
            unique=(highest - rival > _PEAK_CHI2) & (inner == peak),
            templates=self._nearest(
                self.aligned(weighted, peak - self.reach), self.aligned(weight, peak - self.reach)
            ),
        )

    def aligned(self, values: Tensor, pixels: Tensor) -> Tensor:
        """Values (N, P + 2 reach) on `observed_grid`, re-indexed so that stars are at rest: (N, P)."""
        index = torch.arange(self._size, device=values.device) + (pixels + self.reach)[:, None]
        return values.gather(1, index)

    def _matched(self, weighted: Tensor, weight: Tensor) -> Tensor:
        """Chi2 (N, S, V) that each velocity template takes away at each shift."""
        depth = (weighted @ self._moved.T).clamp_min(0.0)
        norm = weight @ self._moved_squared.T
        return (depth.square() / norm.clamp_min(1e-6)).unflatten(1, self._shape)

    def _nearest(self, weighted: Tensor, weight: Tensor) -> Tensor:
        """Rows (N, S) of templates with the smallest chi2 at their own depth, each far from those before."""
        chi2 = weight @ self._lines_squared.T - 2.0 * weighted @ self._lines.T
        rows = [chi2.argmin(dim=1)]
        for _ in range(_STARTS - 1):
            chi2 = chi2.masked_fill(self._alike[rows[-1]], torch.inf)
            rows.append(chi2.argmin(dim=1))
        return torch.stack(rows, dim=1)

    @staticmethod
    def _vertex(values: Tensor, peak: Tensor) -> Tensor:
        """Where a parabola through three values has its top, relative to the middle one [pixels]."""
        left, middle, right = (values.gather(1, (peak + step)[:, None]).squeeze(1) for step in (-1, 0, 1))
        bend = (2.0 * middle - left - right).clamp_min(1e-6)
        return ((right - left) / (2.0 * bend)).clamp(-0.5, 0.5)
