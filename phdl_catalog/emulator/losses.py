"""The two terms of the loss: flux, and the derivatives of flux.

Both are taken of coefficients in an orthonormal basis of spectra, where a sum over coefficients is the sum
over pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """A function and its exact derivative along a direction, by forward-mode differentiation.

    Parameters
    ----------
    function : callable
        (N, L) -> (N, P).
    labels, direction : (N, L) Tensor

    Returns
    -------
    value, derivative : (N, P) Tensor
    """
    result: tuple[Tensor, Tensor] = jvp(function, (labels,), (direction,))  # type: ignore[assignment]
    return result


def flux_term(predicted: Tensor, target: Tensor, n_pixels: int) -> Tensor:
    """Mean square of the flux error in units of `FLUX_UNIT`.

    Parameters
    ----------
    predicted, target : (N, K) Tensor
        Coefficients of spectra.
    n_pixels : int
        Of the spectra.

    Returns
    -------
    () Tensor
    """
    return (predicted - target).square().sum(dim=1).mean() / (n_pixels * FLUX_UNIT**2)


def gradient_term(predicted: Tensor, target: Tensor, n_pixels: int, size: Tensor | None = None) -> Tensor:
    """Mean over spectra of the relative squared error of a derivative.

    Relative, because every label counts alike: zinc moves the spectrum a hundred times less than iron.

    Parameters
    ----------
    predicted, target : (N, K) Tensor
        Coefficients of derivatives.
    n_pixels : int
        Of the spectra.
    size : (N,) Tensor, optional
        Sum of squares that an error is relative to (`label_sizes`), or each derivative's own.  By its own, a
        label counts most where it does next to nothing, nitrogen in hot stars.

    Returns
    -------
    () Tensor
    """
    own = target.square().sum(dim=1) if size is None else size
    return ((predicted - target).square().sum(dim=1) / (own + n_pixels * GRADIENT_FLOOR**2)).mean()


def label_sizes(change: Tensor, label: Tensor) -> Tensor:
    """Sum of squares of each label's derivative, its mean over stars.

    Parameters
    ----------
    change : (N, K) Tensor
        Coefficients of derivatives.
    label : (N,) Tensor
        Number of the label that each is along.

    Returns
    -------
    (N,) Tensor
    """
    square = change.square().sum(dim=1)
    number = int(label.max()) + 1 if len(label) else 0
    total = square.new_zeros(number).index_add_(0, label, square)
    return (total / torch.bincount(label, minlength=number).clamp(min=1))[label]


def label_directions(rows: Tensor, scale: Tensor) -> Tensor:
    """(N,) label numbers -> (N, L) directions: one label scale along each row's label."""
    return torch.nn.functional.one_hot(rows, len(scale)).to(scale.dtype) * scale


def label_scale(label_names: Sequence[str]) -> Tensor:
    """(L,) unit of each label in derivatives: 100 K, 1 km/s, 1 dex."""
    return torch.tensor([100.0 if name == "teff" else 1.0 for name in label_names], dtype=torch.float64)
