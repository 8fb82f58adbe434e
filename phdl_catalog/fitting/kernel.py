"""Moving and broadening a model spectrum: short filters, optimal for spectra of the model's resolution.

A velocity shifts a spectrum along its log-wavelength grid, and a wider line-spread function blurs it; both
act as one filter of `2 REACH + 1` taps.  The taps are those of the best linear predictor (kriging) of the
moved and blurred spectrum for a signal with the power spectrum of lines at the model's resolution: at
R = 1800, sampled with 2.4 pixels a resolution element, they are right to 1e-4 of the continuum, where cubic
interpolation errs by 3e-3.  Observed pixels are never interpolated: filters act on models.

The blur is the variance of a Gaussian in square pixels, and may be slightly negative: a spectrograph that is
sharper than the model's resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d

from phdl_catalog.fitting.pixel_loops import REACH, filter_rows, filter_spectra, spread_spectra
from phdl_catalog.spectra import loops
from phdl_catalog.spectra.grid import LOG10_STEP

#: Largest shift a filter is made for [pixels]; whole pixels are moved by re-indexing the data.
LARGEST_SHIFT = 1.5

#: Smallest and largest blur [square pixels]: from R = 2290 to R = 1055 for a model of R = 1800.
SMALLEST_BLUR, LARGEST_BLUR = -0.4, 2.0

#: White noise in the assumed power spectrum, relative to its peak: keeps the taps small.
_WHITE = 1e-6

#: Extra power at frequency zero: makes the taps add up to one.
_CONSTANT = 10.0


def resolution_variance(resolution: float) -> float:
    """Variance of the line-spread function of a resolution (wavelength / FWHM) [square pixels]."""
    sigma = 1.0 / (resolution * math.sqrt(8.0 * math.log(2.0)) * math.log(10.0) * LOG10_STEP)
    return sigma**2


@dataclass(frozen=True)
class Filters:
    """Filters of a batch of stars.

    Parameters
    ----------
    taps : (N, 3, 2 REACH + 1) Tensor
        The filter, and its derivatives by shift and by blur, float32.
    """

    taps: Tensor

    def rows(self, index: Tensor | slice) -> Filters:
        """Those of some of the stars."""
        return Filters(self.taps[index])

    def apply(self, spectra: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Moved and blurred spectra, and their derivatives by shift and by blur, (N, P) each.

        Parameters
        ----------
        spectra : (N, P + 2 REACH) Tensor
        """
        if loops.wanted(spectra.device):
            out = [loops.empty(len(spectra), spectra.shape[1] - 2 * REACH) for _ in range(3)]
            loops.for_stars(filter_spectra, len(spectra), spectra, self.taps, *out)
            return out[0], out[1], out[2]
        # One convolution for each: all in one takes a path of the library that is five times slower.
        moved, by_shift, by_blur = (
            conv1d(spectra.unsqueeze(0), self.taps[:, which : which + 1], groups=len(spectra)).squeeze(0)
            for which in range(3)
        )
        return moved, by_shift, by_blur

    def apply_rows(self, rows: Tensor) -> Tensor:
        """Move and blur R spectra of each star: (N, R, P + 2 REACH) -> (N, R, P)."""
        size, number = rows.shape[:2]
        if loops.wanted(rows.device):
            out = loops.empty(size, number, rows.shape[2] - 2 * REACH)
            loops.for_stars(filter_rows, size, rows, self.taps, out)
            return out
        taps = self.taps[:, :1].repeat_interleave(number, dim=0)
        return conv1d(rows.flatten(0, 1).unsqueeze(0), taps, groups=size * number).view(size, number, -1)

    def transpose(self, values: Tensor) -> Tensor:
        """The transposed filter: from observed pixels (N, P) back to model pixels (N, P + 2 REACH)."""
        size = len(values)
        if loops.wanted(values.device):
            out = loops.empty(size, values.shape[1] + 2 * REACH)
            loops.for_stars(spread_spectra, size, values, self.taps, out)
            return out
        return conv_transpose1d(values.unsqueeze(0), self.taps[:, :1], groups=size).squeeze(0)


class FilterBank:
    """Makes filters for any shift and blur.

    Parameters
    ----------
    resolution : float
        Of the spectra to be filtered.
    device : str or torch.device
        Where the tensors live.
    """

    def __init__(self, resolution: float, device: str | torch.device = "cpu") -> None:
        nodes, weights = np.polynomial.legendre.leggauss(48)
        frequency = (nodes + 1.0) / 4.0  # cycles per pixel, 0 to Nyquist
        transfer = np.exp(-4.0 * np.pi**2 * frequency**2 * resolution_variance(resolution))
        power = (transfer + _WHITE) * weights / 2.0
        offsets = np.arange(-REACH, REACH + 1)
        lag = offsets[:, None] - offsets
        covariance = np.cos(2.0 * np.pi * lag[..., None] * frequency) @ power + _CONSTANT
        inverse = np.linalg.inv(covariance)
        angle = 2.0 * np.pi * frequency[:, None] * offsets
        self._frequency = torch.as_tensor(2.0 * np.pi * frequency, device=device)
        self._power = torch.as_tensor(power, device=device)
        # cos(f (offset + shift)) in two parts, so that trigonometry is done per frequency only.
        self._even = torch.as_tensor(np.cos(angle) @ inverse, device=device)
        self._odd = torch.as_tensor(np.sin(angle) @ inverse, device=device)
        self._constant = torch.as_tensor(_CONSTANT * inverse.sum(axis=0), device=device)

    def filters(self, shift: Tensor, blur: Tensor) -> Filters:
        """Filters that move spectra redward by `shift` pixels and blur them by `blur`.

        Parameters
        ----------
        shift : (N,) Tensor
            Within `LARGEST_SHIFT` [pixels].
        blur : (N,) Tensor
            Between `SMALLEST_BLUR` and `LARGEST_BLUR` [square pixels].
        """
        phase = shift.double()[:, None] * self._frequency
        damped = self._power * torch.exp(-0.5 * self._frequency**2 * blur.double()[:, None])
        cosine, sine = torch.cos(phase) * damped, torch.sin(phase) * damped
        frequency = self._frequency
        # The filter, and its derivatives by shift and by blur.
        even = torch.stack([cosine, -sine * frequency, -0.5 * frequency**2 * cosine], dim=1)
        odd = torch.stack([sine, cosine * frequency, -0.5 * frequency**2 * sine], dim=1)
        taps = even @ self._even - odd @ self._odd
        taps[:, 0] += self._constant
        return Filters(taps.float())
