"""Errors of the emulator that many pixels share: what they do to labels.

The weights of a fit take the errors of pixels for independent.  The emulator's are not: it errs by whole
elements and bands, in patterns.  That does not move the minimum, but it widens the distribution of minima.
If labels follow from the pixels' errors e as ``H^-1 Q^T e``, with H the curvature and Q^T the weighted
derivatives, continuum taken out, then their covariance is ``H^-1 (Q^T E Q) H^-1`` with E the covariance of
the pixels, patterns included.  (Using E^-1 for the weights as well was tried: at S/N 100 the actual errors
were the same within a per cent, and every step is dearer.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.fitting.kernel import REACH


@dataclass(frozen=True)
class SharedError:
    """Which pixels of a fit err together.

    Parameters
    ----------
    modes : (M, P) Tensor
        Patterns, one sigma each in units of a star's amplitude and of the continuum, float32.
    together2 : (P,) Tensor
        Square of the part of a pixel's error that is in the patterns, in the same units, times what counts
        pixels of a resolution element as independent.
    """

    modes: Tensor
    together2: Tensor

    @classmethod
    def of(cls, stated: ExpectedError, correlation: float, device: torch.device) -> SharedError:
        """What a model states, on the pixels of a fit.

        Parameters
        ----------
        stated : ExpectedError
            On all pixels of the model.
        correlation : float
            By how much the variance of independent pixels is larger than that of the model's.
        device : torch.device
            Where the tensors live.
        """
        inner = slice(REACH, -REACH)
        together2 = correlation * (stated.profile**2 - stated.rest**2)[inner]
        modes = np.ascontiguousarray(stated.modes[:, inner])
        return cls(
            torch.as_tensor(modes, dtype=torch.float32, device=device),
            torch.as_tensor(together2, dtype=torch.float32, device=device),
        )

    def independent(self, curve: Tensor, variance: Tensor, amplitude: Tensor) -> Tensor:
        """Fraction (n, P) of the variance that weights were made from which is not in the patterns.

        Parameters
        ----------
        curve, variance : (n, P) Tensor
            Pseudo-continua and variances, patterns counted as independent errors.
        amplitude : (n,) Tensor
            Size of the emulator's error.
        """
        return 1.0 - self.together2 * (amplitude[:, None] * curve).square() / variance

    def spread(self, derivatives: Tensor, independent: Tensor, unit: Tensor) -> Tensor:
        """Covariance (n, D, D) of the gradient, float64.

        Parameters
        ----------
        derivatives : (n, D, P) Tensor
            Of the flux by the parameters, continuum taken out, in units of each pixel's error.
        independent : (n, P) Tensor
            From `independent`.
        unit : (n, P) Tensor
            Amplitude times pseudo-continuum in units of each pixel's error.
        """
        along = (derivatives * unit[:, None]) @ self.modes.T
        single = derivatives * independent.sqrt()[:, None]
        return torch.bmm(single, single.mT).double() + torch.bmm(along, along.mT).double()
