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
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.fitting.kernel import REACH
from phdl_catalog.fitting.matrix_loops import gram

#: Pixels of which one is looked at: a resolution element has 2.4.
SHARED_STRIDE = 2


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

    @cached_property
    def _some_modes(self) -> Tensor:
        return self.modes[:, ::SHARED_STRIDE].contiguous()

    @cached_property
    def _some_together2(self) -> Tensor:
        return self.together2[::SHARED_STRIDE].contiguous()

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

    def weighted(self, level: Tensor, variance: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """What derivatives (n, D, Q) have to be multiplied by (n, Q) for each of the two parts of `more`.

        Derivatives are those of the flux by the parameters, continuum taken out, times the root of the
        weight, at one pixel in `SHARED_STRIDE`.

        Parameters
        ----------
        level : (n, Q) Tensor
            Amplitude of the emulator's error times pseudo-continuum.
        variance, weight : (n, Q) Tensor
            Variances, patterns counted as independent errors, and weights made from them.
        """
        return level * weight.sqrt(), level * (self._some_together2 / variance).sqrt()

    def more(self, together: Tensor, counted: Tensor) -> Tensor:
        """By how much the covariance (n, D, D) of the gradient differs from the curvature, float64.

        Parameters
        ----------
        together, counted : (n, D, Q) Tensor
            Derivatives, multiplied by each of what `weighted` returns.
        """
        along = together @ self._some_modes.T
        return gram(along) * SHARED_STRIDE**2 - gram(counted) * SHARED_STRIDE
