"""From physical labels to the network's inputs.

Line strength follows the number of absorbers, so an abundance enters as [X/H] = [X/Fe] + [Fe/H]; excitation
and ionisation follow 1/T, so temperature enters as 5040 K / teff.  In these variables spectra are closer to
linear, and a network has less to learn.  All of it is differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phdl_catalog.errors import InputError
from phdl_catalog.labels import is_abundance

#: Kelvin; 5040/T is the reciprocal temperature in 1/eV times log10(e).
_RECIPROCAL_TEMPERATURE = 5040.0


class LabelTransform(nn.Module):
    """Physical labels (N, L) to standardised inputs (N, L).

    Parameters
    ----------
    label_names : sequence of str
        Length L.
    mean, scale : (L,) ndarray, optional
        Standardisation of the transformed labels.
    """

    mix: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        label_names: Sequence[str],
        mean: NDArray[np.float64] | None = None,
        scale: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        names = tuple(label_names)
        for required in ("teff", "fe_h"):
            if required not in names:
                raise InputError(f"a model needs the label '{required}', got {names}")
        size = len(names)
        self.teff_index = names.index("teff")
        mix = np.eye(size)
        mix[names.index("fe_h"), [i for i, name in enumerate(names) if is_abundance(name)]] = 1.0
        self.register_buffer("mix", torch.tensor(mix, dtype=torch.float64), persistent=False)
        self.register_buffer(
            "mean", torch.tensor(np.zeros(size) if mean is None else mean, dtype=torch.float64)
        )
        self.register_buffer(
            "scale", torch.tensor(np.ones(size) if scale is None else scale, dtype=torch.float64)
        )

    @classmethod
    def fitted(cls, label_names: Sequence[str], labels: NDArray[np.float64]) -> LabelTransform:
        """The transform standardised on labels (N, L)."""
        plain = cls(label_names)
        values = plain(torch.as_tensor(labels, dtype=torch.float64)).numpy()
        return cls(label_names, values.mean(axis=0), values.std(axis=0))

    def forward(self, labels: Tensor) -> Tensor:
        """(..., L) physical labels to (..., L) standardised inputs, in the dtype given."""
        reciprocal = _RECIPROCAL_TEMPERATURE / labels[..., self.teff_index : self.teff_index + 1]
        natural = torch.cat(
            [labels[..., : self.teff_index], reciprocal, labels[..., self.teff_index + 1 :]], dim=-1
        )
        dtype = labels.dtype
        mixed = natural @ self.mix.to(dtype)
        return (mixed - self.mean.to(dtype)) / self.scale.to(dtype)

    def jacobian(self, labels: Tensor) -> Tensor:
        """(N, L) physical labels -> (N, L, L): derivative of input i (second axis) to label l (third)."""
        natural = torch.ones_like(labels)
        natural[:, self.teff_index] = -_RECIPROCAL_TEMPERATURE / labels[:, self.teff_index].square()
        mixed = self.mix.T.to(labels.dtype) * natural[:, None, :]
        return mixed / self.scale.to(labels.dtype)[:, None]
