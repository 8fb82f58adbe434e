"""Keeping the microturbulence where the training grid has it.

Grids vary the microturbulence around a relation with temperature and gravity, by far less than its range.
Its effect, on strong lines, is also what many faults of a line list look like: left free, it runs to an end
of its range in real spectra, and takes [Fe/H] and gravity with it.  So a fit bounds it to the stretch that is
covered by training atmospheres of similar temperature, gravity and [Fe/H].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phdl_catalog.labels import is_abundance

_NAME = "v_micro"

#: Share of the training atmospheres within the bounds.
_SHARE = 0.98

#: A relation is of use if its scatter is less than this fraction of the whole scatter.
_USEFUL = 0.8


@dataclass(frozen=True)
class MicroturbulenceRange:
    """Bounds of the microturbulence for given other labels of the atmosphere.

    Parameters
    ----------
    column : int
        Place of the microturbulence among the labels.
    others : tuple of int
        Places of the other labels of the atmosphere.
    middle, scale : (A - 1,) Tensor
        What these are centred on and divided by.
    weights : (F,) Tensor
        Of a constant, the others, and all products of two of them.
    half_width : float
        Largest deviation from the relation [km/s].
    """

    column: int
    others: tuple[int, ...]
    middle: Tensor
    scale: Tensor
    weights: Tensor
    half_width: float

    @classmethod
    def of(cls, model: Any, device: torch.device) -> MicroturbulenceRange | None:
        """From a model's training atmospheres; None if it does not tell them or they follow no relation."""
        atmospheres = getattr(model, "training_atmospheres", None)
        columns = [i for i, name in enumerate(model.label_names) if not is_abundance(name) or name == "fe_h"]
        if atmospheres is None or _NAME not in model.label_names:
            return None
        values = torch.as_tensor(np.asarray(atmospheres, dtype=np.float64), device=device)
        own = columns.index(model.label_names.index(_NAME))
        rest = [i for i in range(len(columns)) if i != own]
        middle, scale = values[:, rest].mean(dim=0), values[:, rest].std(dim=0)
        features = _features((values[:, rest] - middle) / scale)
        if len(features) <= 2 * features.shape[1]:
            return None
        weights = torch.linalg.pinv(features) @ values[:, own]
        deviation = values[:, own] - features @ weights
        if deviation.std() > _USEFUL * values[:, own].std():
            return None
        return cls(
            column=columns[own],
            others=tuple(columns[i] for i in rest),
            middle=middle,
            scale=scale,
            weights=weights,
            half_width=float(torch.quantile(deviation.abs(), _SHARE)),
        )

    def limits(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest microturbulence (N,) for labels (N, L) [km/s]."""
        centre = _features((labels[:, list(self.others)] - self.middle) / self.scale) @ self.weights
        return centre - self.half_width, centre + self.half_width


def _features(values: Tensor) -> Tensor:
    """A constant, the values (N, A), and all products of two of them."""
    first, second = torch.triu_indices(values.shape[1], values.shape[1], device=values.device)
    one = torch.ones_like(values[:, :1])
    return torch.cat([one, values, values[:, first] * values[:, second]], dim=1)
