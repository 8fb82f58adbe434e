"""What is known of a star before its spectrum is looked at: Gaussian priors on labels.  Off by default.

A prior adds ``((label - mean) / sigma)**2`` to chi2.  It is recorded with the fit run, and
`FitResult.information` says how much of a label it made up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.errors import InputError


@dataclass(frozen=True)
class LabelPrior:
    """A Gaussian prior that is the same for all stars of a fit.

    Parameters
    ----------
    name : str
        Of the label.
    mean, sigma : float
        In the label's unit.
    """

    name: str
    mean: float
    sigma: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.sigma) and self.sigma > 0):
            raise InputError(
                f"the prior on {self.name} must have a finite mean and a positive sigma, "
                f"not {self.mean} and {self.sigma}"
            )

    @classmethod
    def parse(cls, text: str) -> LabelPrior:
        """From ``LABEL=MEAN:SIGMA``, for example ``mg_fe=0.1:0.2``.

        Raises
        ------
        InputError
            If the text has another form.
        """
        name, equals, numbers = text.partition("=")
        mean, colon, sigma = numbers.partition(":")
        try:
            if not (equals and colon):
                raise ValueError
            return cls(name.strip(), float(mean), float(sigma))
        except ValueError:
            raise InputError(
                f"'{text}' is no prior: write LABEL=MEAN:SIGMA, for example mg_fe=0.1:0.2"
            ) from None


@dataclass(frozen=True)
class KnownLabels:
    """What is known of each star by other means, for example a temperature from photometry.

    Parameters
    ----------
    values, errors : (N, L) float64
        In label order and units; NaN where nothing is known.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]

    def rows(self, rows: slice | NDArray[np.int64]) -> KnownLabels:
        """What is known of some of the stars."""
        return KnownLabels(self.values[rows], self.errors[rows])


@dataclass(frozen=True)
class Prior:
    """Gaussian priors of a batch in scaled parameters; a precision of 0 is no prior.

    Parameters
    ----------
    mean, precision : (N, L + 2) Tensor
        float64.
    """

    mean: Tensor
    precision: Tensor

    def price(self, parameters: Tensor) -> Tensor:
        """What the priors add to chi2 (N,)."""
        return (self.precision * (parameters - self.mean).square()).sum(dim=1)

    def pull(self, parameters: Tensor) -> Tensor:
        """The gradient (N, L + 2) of half of that."""
        return self.precision * (parameters - self.mean)

    def rows(self, index: Tensor) -> Prior:
        """The priors of some of the stars."""
        return Prior(self.mean[index], self.precision[index])


def shared_prior(priors: Sequence[LabelPrior], label_names: Sequence[str]) -> KnownLabels:
    """One row (1, L) of means and sigmas, NaN where there is no prior.

    Raises
    ------
    InputError
        If a prior names a label that the model does not have, or one label twice.
    """
    values = np.full((1, len(label_names)), np.nan)
    errors = values.copy()
    for prior in priors:
        if prior.name not in label_names:
            raise InputError(
                f"there is a prior on {prior.name}, but the model's labels are {', '.join(label_names)}"
            )
        column = list(label_names).index(prior.name)
        if np.isfinite(values[0, column]):
            raise InputError(f"there are two priors on {prior.name}; give one")
        values[0, column], errors[0, column] = prior.mean, prior.sigma
    return KnownLabels(values, errors)


def combine(shared: KnownLabels, known: KnownLabels | None, size: int) -> KnownLabels:
    """What is known of each of `size` stars; a star's own knowledge replaces what is shared.

    Raises
    ------
    InputError
        If shapes do not belong together or an error is not positive.
    """
    n_labels = shared.values.shape[1]
    values = np.broadcast_to(shared.values, (size, n_labels))
    errors = np.broadcast_to(shared.errors, (size, n_labels))
    if known is None:
        return KnownLabels(values, errors)
    own, own_errors = (np.asarray(item, dtype=np.float64) for item in (known.values, known.errors))
    for name, array in (("values", own), ("errors", own_errors)):
        if array.shape != (size, n_labels):
            raise InputError(f"the known {name} have shape {array.shape}, not {(size, n_labels)}")
    there = np.isfinite(own) & np.isfinite(own_errors)
    if np.any(own_errors[there] <= 0):
        raise InputError("the errors of known labels must be positive")
    return KnownLabels(np.where(there, own, values), np.where(there, own_errors, errors))


def scaled_prior(known: KnownLabels, middle: Tensor, half_range: Tensor) -> Prior:
    """Priors in the scaled parameters of a fit, nothing for shift and line width."""
    values = torch.as_tensor(known.values, device=middle.device)
    errors = torch.as_tensor(known.errors, device=middle.device)
    there = torch.isfinite(values) & torch.isfinite(errors)
    mean = torch.where(there, (values - middle) / half_range, torch.zeros_like(values))
    precision = torch.where(there, (half_range / errors).square(), torch.zeros_like(values))
    blank = mean.new_zeros(len(mean), 2)
    return Prior(torch.cat([mean, blank], dim=1), torch.cat([precision, blank], dim=1))
