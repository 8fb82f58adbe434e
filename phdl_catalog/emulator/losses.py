"""The two terms of the loss: flux, and the derivatives of flux."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp

#: Flux errors are counted in units of this, so that a good model has a loss of order one.
FLUX_UNIT = 0.005

#: Squared errors of a derivative are relative to its mean square plus this one, per label scale: derivatives
#: below 0.1 % of the continuum for a whole label scale are not worth the network's attention.
GRADIENT_FLOOR = 0.001


def derivative(
    function: Callable[[Tensor], Tensor], labels: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """Flux and its exact derivative along a direction, by forward-mode differentiation.

    Parameters
    ----------
    function : callable
        (N, L) -> (N, P).
    labels, direction : (N, L) Tensor

    Returns
    -------
    flux, derivative : (N, P) Tensor
    """
    result: tuple[Tensor, Tensor] = jvp(function, (labels,), (direction,))  # type: ignore[assignment]
    return result


def flux_term(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean square of the flux error in units of `FLUX_UNIT`; (N, P), (N, P) -> ()."""
    return ((predicted - target) / FLUX_UNIT).square().mean()


def gradient_term(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean over spectra of the relative squared error of a derivative; (N, P), (N, P) -> ().

    Relative, because every label counts alike: zinc moves the spectrum a hundred times less than iron.
    """
    size = target.square().mean(dim=1) + GRADIENT_FLOOR**2
    return ((predicted - target).square().mean(dim=1) / size).mean()


def label_directions(rows: Tensor, scale: Tensor) -> Tensor:
    """(N,) label numbers -> (N, L) directions: one label scale along each row's label."""
    return torch.nn.functional.one_hot(rows, len(scale)).to(scale.dtype) * scale
