"""Stars that are not what a fit takes them for: two spectra in one, lines in emission, bands of TiO.

All are looked for in the residuals of a fit, so that whatever the model describes is out of the way.

- A second star adds its own lines, moved by the difference of the velocities.  The residual is compared with
  the fitted lines at every shift from `_NEAREST` to `_FARTHEST` pixels to either side: how much of such a
  spectrum is in it, and how significantly.  At R = 1800 stars that differ by less than 250 km/s do not show.
- Stars cooler than the grid have bands of TiO that its spectra lack.  The residual falls at the sharp heads
  of the bands at 7055, 6160 and 5449 Angstrom, which no pseudo-continuum imitates: by 0.07 to 0.24 of the
  continuum in M1 to M4, 0.02 to 0.07 in M0, 0.03 in K7; in anything hotter significantly by no more than
  0.028 at the first two, 0.036 at the third.  Three, because a spectrum may have no good pixels at some.
- Emission is light over the model within a resolution element of a few lines, more than the noise and the
  model's error explain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phdl_catalog.spectra.grid import PixelGrid

#: Velocity differences searched [pixels of 69 km/s].
_NEAREST, _FARTHEST = 4, 9
_SHIFTS = [*range(-_FARTHEST, -_NEAREST + 1), *range(_NEAREST, _FARTHEST + 1)]

#: Pixels to either side over which the mean depth of lines is taken.
_AROUND = 30

#: Share of a second spectrum, and its significance, from which on two stars are suspected.
_LEAST_SHARE, _LEAST_SIGNIFICANCE = 0.08, 8.0

#: By how much a share must exceed that on the other side: faults of the model are on both.
_LEAST_CONTRAST = 2.0

#: Deviations are cut here [sigma].
_LARGEST_DEVIATION = 4.0

#: Lines in which stars and nebulae emit [Angstrom in vacuum]: hydrogen, [O III], [N II], [S II].
_EMISSION_LINES = (6564.6, 4862.7, 5008.2, 6585.3, 6718.3)

#: Half width that light is added up in [pixels], and its least equivalent width [Angstrom] and significance.
_HALF_WIDTH, _LEAST_WIDTH, _LEAST_EMISSION = 3, 0.4, 6.0

#: To either side of the heads of bands of TiO [Angstrom in vacuum], and by how much the residual falls there
#: from which on a star is too cool.
_HEADS = (
    ((7025.0, 7050.0), (7058.0, 7085.0), 0.033),
    ((6130.0, 6156.0), (6161.0, 6186.0), 0.033),
    ((5424.0, 5446.0), (5451.0, 5473.0), 0.05),
)

#: Least significance of a fall.
_LEAST_BAND = 3.0


@dataclass(frozen=True)
class Suspects:
    """What the residuals of a batch look like.

    Parameters
    ----------
    double_lined, emission, cool : (N,) Tensor
        bool; the last has bands of TiO that the model has not.
    share, significance : (N,) Tensor
        Of a second spectrum.
    """

    double_lined: Tensor
    emission: Tensor
    cool: Tensor
    share: Tensor
    significance: Tensor


def find_suspects(
    grid: PixelGrid, model: Tensor, curve: Tensor, residual: Tensor, variance: Tensor, use: Tensor
) -> Suspects:
    """Look at residuals.

    Parameters
    ----------
    grid : PixelGrid
        Pixels of the fit, at rest.
    model, curve : (N, P) Tensor
        Normalised model and pseudo-continuum.
    residual, variance : (N, P) Tensor
        Observed minus model flux, and its variance, model error included.
    use : (N, P) Tensor
        1 where a pixel is used.
    """
    share, significance, contrast = _second_spectrum(model, curve, residual, use / variance)
    double = (share > _LEAST_SHARE) & (significance > _LEAST_SIGNIFICANCE) & (contrast > _LEAST_CONTRAST)
    return Suspects(
        double,
        _emission(grid, curve, residual, variance, use),
        _bands(grid, curve, residual, variance, use),
        share,
        significance,
    )


def _second_spectrum(
    model: Tensor, curve: Tensor, residual: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Largest share of a second spectrum (N,), its significance, and its ratio to that on the other side."""
    lines = _without_mean(model - 1.0)
    # Single deviating pixels are no second star.
    largest = _LARGEST_DEVIATION * weight.clamp_min(1e-12).rsqrt()
    pull = weight * curve * residual.clamp(-largest, largest)
    norm = weight * curve.square()
    power = _products(norm, lines.square()).clamp_min(1e-12)
    product = _products(pull, lines)
    share, significance = product / power, product / power.sqrt()
    half = share.shape[1] // 2
    best = share.argmax(dim=1, keepdim=True)
    left, right = share[:, :half].max(dim=1).values, share[:, half:].max(dim=1).values
    contrast = torch.maximum(left, right) / torch.minimum(left, right).clamp_min(1e-3)
    return share.gather(1, best)[:, 0], significance.gather(1, best)[:, 0], contrast


def _without_mean(lines: Tensor) -> Tensor:
    """Lines (N, P) less the mean depth around them: a continuum takes that up."""
    size = lines.shape[1]
    total = torch.nn.functional.pad(lines.cumsum(dim=1, dtype=torch.float64), (1, 0))
    pixel = torch.arange(size, device=lines.device)
    first, stop = (pixel - _AROUND).clamp_min(0), (pixel + _AROUND + 1).clamp_max(size)
    return lines - ((total[:, stop] - total[:, first]) / (stop - first)).float()


def _products(values: Tensor, spectra: Tensor) -> Tensor:
    """Sums (N, S) of values (N, P) times spectra that are moved by each of `_SHIFTS` pixels."""
    size = values.shape[1] + _FARTHEST
    length = 1 << (size - 1).bit_length()
    transform = torch.fft.rfft(values, length) * torch.fft.rfft(spectra, length).conj()
    return torch.fft.irfft(transform, length)[:, _SHIFTS]


def _emission(grid: PixelGrid, curve: Tensor, residual: Tensor, variance: Tensor, use: Tensor) -> Tensor:
    """Whether one of the lines is in emission (N,)."""
    found = torch.zeros(len(curve), dtype=torch.bool, device=curve.device)
    wavelength = grid.wavelength
    for line in _EMISSION_LINES:
        centre = int(np.abs(wavelength - line).argmin())
        if not _HALF_WIDTH <= centre < grid.size - _HALF_WIDTH:
            continue
        window = slice(centre - _HALF_WIDTH, centre + _HALF_WIDTH + 1)
        step = float(wavelength[centre + 1] - wavelength[centre])
        used, level = use[:, window], curve[:, window].clamp_min(1e-3)
        light = (residual[:, window] * used / level).sum(dim=1)
        noise = (variance[:, window] * used / level.square()).sum(dim=1).sqrt()
        complete = used.sum(dim=1) > _HALF_WIDTH
        found |= complete & (light * step > _LEAST_WIDTH) & (light > _LEAST_EMISSION * noise)
    return found


def _bands(grid: PixelGrid, curve: Tensor, residual: Tensor, variance: Tensor, use: Tensor) -> Tensor:
    """Whether the residual falls at the head of one of the bands of TiO (N,)."""
    found = torch.zeros(len(curve), dtype=torch.bool, device=curve.device)
    for head in _HEADS:
        found |= _falls(grid, head, curve.clamp_min(1e-3), residual, variance, use)
    return found


def _falls(
    grid: PixelGrid,
    head: tuple[tuple[float, float], tuple[float, float], float],
    level: Tensor,
    residual: Tensor,
    variance: Tensor,
    use: Tensor,
) -> Tensor:
    """Whether the residual falls by enough from the first to the second of two ranges of wavelength (N,)."""
    before, inside, least = head
    means, errors2, complete = [], [], torch.ones(len(level), dtype=torch.bool, device=level.device)
    for lower, upper in (before, inside):
        start, stop = np.searchsorted(grid.wavelength, (lower, upper)).tolist()
        used, number = use[:, start:stop], use[:, start:stop].sum(dim=1)
        means.append(
            (used * residual[:, start:stop] / level[:, start:stop]).sum(dim=1) / number.clamp_min(1.0)
        )
        noise = (used * variance[:, start:stop] / level[:, start:stop].square()).sum(dim=1)
        errors2.append(noise / number.clamp_min(1.0).square())
        complete &= number > (stop - start) / 2
    fall = means[0] - means[1]
    return complete & (fall > least) & (fall > _LEAST_BAND * (errors2[0] + errors2[1]).sqrt())
