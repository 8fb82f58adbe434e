"""How large a model's error is at given labels: it grows with the lines of a star, and off the known stars.

Two stars with the same lines may differ several times in how well a model has them, because one lies among
the spectra that taught it and the other between them.  What tells them apart is the variance of a Gaussian
process, given one spectrum of each star that is known (e.g. Rasmussen & Williams 2006, eq. 2.26): one where
they say nothing, near zero beside one of them.  It needs no flux, and a few hundred stars are quickly done.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phdl_catalog.emulator.transforms import LabelTransform

#: Variance beside a known star: differences of that size mean nothing.
_NUGGET = 1e-3

#: Known stars at most; work grows with the square of their number.
_MOST_STARS = 600


class Novelty(nn.Module):
    """How little known spectra say of another one.

    Parameters
    ----------
    label_names : sequence of str
        Length L.
    known : (S, L) ndarray
        Labels of spectra that are known.
    rate : (I,) ndarray
        Of each input of a `LabelTransform` that does not standardise: one over the difference that makes
        spectra unlike.
    """

    known: Tensor
    rate: Tensor
    inputs: Tensor
    inverse: Tensor

    def __init__(
        self, label_names: Sequence[str], known: NDArray[np.float64], rate: NDArray[np.float64]
    ) -> None:
        super().__init__()
        self._transform = LabelTransform(label_names)
        self.register_buffer("known", torch.as_tensor(known, dtype=torch.float64))
        self.register_buffer("rate", torch.as_tensor(rate, dtype=torch.float64))
        inputs = self._transform(self.known) * self.rate
        self.register_buffer("inputs", inputs)
        covariance = _alike(inputs, inputs) + _NUGGET * torch.eye(len(known), dtype=torch.float64)
        factor = torch.linalg.cholesky(covariance)
        unit = torch.eye(len(known), dtype=torch.float64)
        self.register_buffer("inverse", torch.linalg.solve_triangular(factor, unit, upper=False))

    @classmethod
    def of_stars(
        cls,
        label_names: Sequence[str],
        labels: NDArray[np.float64],
        star: NDArray[np.int64],
        rate: NDArray[np.float64],
    ) -> tuple[Novelty, Tensor]:
        """Given the first spectrum of each star; and that (N,) of every spectrum without its own star."""
        _, first, which = np.unique(star, return_index=True, return_inverse=True)
        chosen = np.arange(len(first))
        if len(first) > _MOST_STARS:
            chosen = np.linspace(0, len(first) - 1, _MOST_STARS).astype(int)
        novelty = cls(label_names, labels[first[chosen]], rate)
        place = np.full(len(first), -1)
        place[chosen] = np.arange(len(chosen))
        return novelty, novelty.left_out(torch.as_tensor(labels), torch.as_tensor(place[which]))

    def forward(self, labels: Tensor) -> Tensor:
        """(N, L) -> (N,): natural logarithm of the variance, float64."""
        return self._variance(self._whitened(labels)).log()

    def left_out(self, labels: Tensor, which: Tensor) -> Tensor:
        """As `forward`, as if the known spectrum of the number `which` (N,) were not known; -1: all are."""
        whitened = self._whitened(labels)
        weight = whitened @ self.inverse  # (N, S): what each known spectrum counts in a prediction
        precision = self.inverse.square().sum(dim=0)
        own = weight.gather(1, which.clamp_min(0)[:, None])[:, 0].square() / precision[which.clamp_min(0)]
        return (self._variance(whitened) + torch.where(which >= 0, own, 0.0)).log()

    def _whitened(self, labels: Tensor) -> Tensor:
        return _alike(self._transform(labels.double()) * self.rate, self.inputs) @ self.inverse.T

    @staticmethod
    def _variance(whitened: Tensor) -> Tensor:
        return (1.0 + _NUGGET - whitened.square().sum(dim=1)).clamp_min(_NUGGET)


def _alike(a: Tensor, b: Tensor) -> Tensor:
    """(N, I), (S, I) -> (N, S), one for the same inputs."""
    square = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1) - 2.0 * a @ b.T
    return torch.exp(-0.5 * square.clamp_min(0.0))


class ErrorSize(nn.Module):
    """Amplitude of a model's error, ``exp(trend . (1, 5040 K / teff - 1, logg - 4, fe_h, novelty))``.

    Parameters
    ----------
    label_names : sequence of str
        Length L, of the labels that come in.
    trend : (4,) or (5,) ndarray
        The last only with a `novelty`.
    limits : (2,) ndarray
        Smallest and largest amplitude.
    novelty : Novelty, optional
    """

    trend: Tensor
    limits: Tensor

    def __init__(
        self,
        label_names: Sequence[str],
        trend: NDArray[np.float64],
        limits: NDArray[np.float64],
        novelty: Novelty | None,
    ) -> None:
        super().__init__()
        self._label_names = tuple(label_names)
        self._novelty = novelty
        self.register_buffer("trend", torch.as_tensor(trend, dtype=torch.float64))
        self.register_buffer("limits", torch.as_tensor(limits, dtype=torch.float64))

    def forward(self, labels: Tensor) -> Tensor:
        """(N, L) -> (N,), float64."""
        return self.at(labels, None if self._novelty is None else self._novelty(labels))

    def at(self, labels: Tensor, novelty: Tensor | None) -> Tensor:
        """As `forward`, where the novelty (N,) is known."""
        labels = labels.double()
        size = torch.exp(size_terms(self._label_names, labels, novelty) @ self.trend)
        return torch.minimum(torch.maximum(size, self.limits[0]), self.limits[1])


def size_terms(label_names: Sequence[str], labels: Tensor, novelty: Tensor | None) -> Tensor:
    """(N, L), perhaps (N,) -> (N, 4 or 5): what the logarithm of the amplitude is linear in."""
    teff, logg, fe_h = (labels[:, list(label_names).index(name)] for name in ("teff", "logg", "fe_h"))
    terms = [torch.ones_like(teff), 5040.0 / teff - 1.0, logg - 4.0, fe_h]
    return torch.stack(terms if novelty is None else [*terms, novelty], dim=1)
