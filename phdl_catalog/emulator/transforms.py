"""From physical labels to the network's inputs.

Line strength follows the number of absorbers, so an abundance enters as [X/H] = [X/Fe] + [Fe/H]; excitation
and ionisation follow 1/T, so temperature enters as 5040 K / teff.  Most metals are seen as atoms in a gas
that ionises them, some as ions: their abundances are shifted along temperature and electron pressure by what
moves their lines alike.  What one layer of gas makes of the labels (`line_formation`) is appended.  In these
variables spectra are closer to linear, and a network has less to learn.  All of it is differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from phdl_catalog.emulator.line_formation import FEATURES, LineFormation
from phdl_catalog.errors import InputError
from phdl_catalog.labels import is_abundance

#: Kelvin; 5040/T is the reciprocal temperature in 1/eV times log10(e).
_RECIPROCAL_TEMPERATURE = 5040.0

#: Elements seen as ions in stars of spectral types F to K: lines strengthen as electron pressure falls.
_IONS = frozenset({"sc", "sr", "y", "zr", "ba", "la", "ce", "nd", "sm", "eu"})

#: Elements that these stars hardly ionise, or that are seen as molecules: left as they are.
_NOT_IONISED = frozenset({"c", "n", "o", "s"})

#: Elements without lines to speak of, seen by what they bind: their abundance matters through the molecules
#: among the features of `line_formation`.
BINDING = frozenset({"o"})

#: log10 of line strength per 1/eV, for atoms of the other metals: ionisation less excitation less opacity.
_NEUTRAL_SLOPE = 5.0


class _Inputs(torch.autograd.Function):
    """Inputs whose gradient is by the Jacobian at the solution: no graph through Newton's iterations."""

    @staticmethod
    def forward(ctx: Any, labels: Tensor, transform: LabelTransform) -> Tensor:
        ctx.transform = transform
        features, jacobian = transform.formation.with_jacobian(labels)
        ctx.save_for_backward(labels, jacobian)
        return transform._inputs(labels, features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.transform.pull_back(*ctx.saved_tensors, gradient), None


class LabelTransform(nn.Module):
    """Physical labels (N, L) to standardised inputs (N, I); I = L + the features of `LineFormation`.

    Parameters
    ----------
    label_names : sequence of str
        Length L; teff, logg and fe_h are needed.
    mean, scale : (I,) ndarray, optional
        Standardisation of the transformed labels.
    """

    mix: Tensor
    neutral_shift: Tensor
    ion_shift: Tensor
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
        for required in ("teff", "logg", "fe_h"):
            if required not in names:
                raise InputError(f"a model needs the label '{required}', got {names}")
        self.n_labels = len(names)
        self.n_inputs = self.n_labels + len(FEATURES)
        self.teff_index = names.index("teff")
        self.atmosphere_columns = [i for i, name in enumerate(names) if not is_abundance(name)]
        self.abundance_columns = [names.index("fe_h"), *(i for i, n in enumerate(names) if is_abundance(n))]
        self.binding_columns = [i for i, n in enumerate(names) if n.removesuffix("_fe") in BINDING]
        self.formation = LineFormation(names)
        mix = np.eye(self.n_labels)
        neutral, ion = np.zeros(self.n_labels), np.zeros(self.n_labels)
        for index, name in enumerate(names):
            if not is_abundance(name):
                continue
            mix[names.index("fe_h"), index] = 1.0
            element = name.removesuffix("_fe")
            ion[index] = -1.0 if element in _IONS else 0.0
            neutral[index] = 0.0 if element in _IONS | _NOT_IONISED else _NEUTRAL_SLOPE
        for key, constant in (("mix", mix), ("neutral_shift", neutral), ("ion_shift", ion)):
            self.register_buffer(key, torch.as_tensor(constant), persistent=False)
        for key, value, default in (("mean", mean, 0.0), ("scale", scale, 1.0)):
            given = np.full(self.n_inputs, default) if value is None else value
            self.register_buffer(key, torch.tensor(given, dtype=torch.float64))

    @classmethod
    def fitted(cls, label_names: Sequence[str], labels: NDArray[np.float64]) -> LabelTransform:
        """The transform standardised on labels (N, L)."""
        plain = cls(label_names)
        values = plain(torch.as_tensor(labels, dtype=torch.float64)).numpy()
        # A label that is constant in a grid stays a constant.
        scale = np.where(values.std(axis=0) > 1e-9, values.std(axis=0), 1.0)
        return cls(label_names, values.mean(axis=0), scale)

    def forward(self, labels: Tensor) -> Tensor:
        """(N, L) physical labels to (N, I) standardised inputs, in the dtype given."""
        if labels.ndim == 2 and labels.requires_grad and torch.is_grad_enabled():
            inputs: Tensor = _Inputs.apply(labels, self)
            return inputs
        return self._inputs(labels, self.formation(labels))

    def jacobian(self, labels: Tensor) -> Tensor:
        """(N, L) physical labels -> (N, I, L): derivative of input i (second axis) to label l (third)."""
        dtype = labels.dtype
        _, features = self.formation.with_jacobian(labels)
        teff = labels[:, self.teff_index]
        mixed = self.mix.T.to(dtype).expand(len(labels), -1, -1).clone()
        mixed[:, self.teff_index, self.teff_index] = -_RECIPROCAL_TEMPERATURE / teff.square()
        cooling = -self.formation.theta(labels) / teff
        mixed[:, :, self.teff_index] += cooling[:, None] * self.neutral_shift.to(dtype)
        mixed += self.ion_shift.to(dtype)[:, None] * features[:, :1]
        return torch.cat([mixed, features], dim=1) / self.scale.to(dtype)[:, None]

    def pull_back(self, labels: Tensor, jacobian: Tensor, gradient: Tensor) -> Tensor:
        """The gradient (N, L) by the labels of what has the `gradient` (N, I) by the inputs.

        Parameters
        ----------
        labels : (N, L) Tensor
        jacobian : (N, F, L) Tensor
            Of the features of line formation.
        gradient : (N, I) Tensor
        """
        dtype, at = labels.dtype, self.teff_index
        by_mixed, by_features = (gradient / self.scale.to(dtype)).split(
            [self.n_labels, self.n_inputs - self.n_labels], dim=1
        )
        by_features[:, 0] += by_mixed @ self.ion_shift.to(dtype)
        result = torch.bmm(by_features[:, None], jacobian)[:, 0]
        by_natural = by_mixed @ self.mix.T.to(dtype)
        teff = labels[:, at]
        by_natural[:, at] *= -_RECIPROCAL_TEMPERATURE / teff.square()
        by_natural[:, at] -= (by_mixed @ self.neutral_shift.to(dtype)) * self.formation.theta(labels) / teff
        return result + by_natural

    def _inputs(self, labels: Tensor, features: Tensor) -> Tensor:
        """Inputs from labels and the features that belong to them."""
        dtype = labels.dtype
        teff = labels[..., self.teff_index : self.teff_index + 1]
        natural = torch.cat(
            [
                labels[..., : self.teff_index],
                _RECIPROCAL_TEMPERATURE / teff,
                labels[..., self.teff_index + 1 :],
            ],
            dim=-1,
        )
        mixed = (
            natural @ self.mix.to(dtype)
            + (self.formation.theta(labels)[..., None] - 1.0) * self.neutral_shift.to(dtype)
            + features[..., :1] * self.ion_shift.to(dtype)
        )
        values = torch.cat([mixed, features], dim=-1)
        return (values - self.mean.to(dtype)) / self.scale.to(dtype)
