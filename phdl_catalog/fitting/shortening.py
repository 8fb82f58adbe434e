"""A model in as few basis spectra as a fit can tell from all of them.

Half of a fit's time goes into products with the basis.  A basis is as long as training needed it; spectra of
stars lie in fewer dimensions, to far less than what the emulator errs.  Which ones, spectra and derivatives
of stars all over the label space tell: principal components of both together, where derivatives by each label
count alike, or those by rare elements would be the first to go.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.fitting.forward import CompiledModel, Model
from phdl_catalog.fitting.starts import template_labels
from phdl_catalog.labels import is_abundance

#: Root mean square that spectra may lose, as a fraction of the continuum, and derivatives, of their own.
_LOST_FLUX, _LOST_DERIVATIVE = 5e-5, 1e-2

#: Smallest length of a part of a basis spectrum that no other has, relative to the largest.
_LEAST = 1e-3

#: Stars that tell, and the seed that draws them.
_STARS, _SEED = 512, 1


@runtime_checkable
class Turnable(Protocol):
    """A compiled model that can be written in another basis."""

    def turned(self, origin: Tensor, turn: Tensor, back: Tensor) -> CompiledModel:
        """With coefficients ``(coefficients - origin) @ turn``, and ``back.T @ basis`` for these."""
        ...


def _stars(model: Model) -> NDArray[np.float64]:
    """Labels (N, L) of stars like the templates, with any abundances."""
    generator = np.random.default_rng(_SEED)
    templates = template_labels(model)
    labels = templates[generator.integers(len(templates), size=_STARS)]
    low, high = np.asarray(model.label_range, dtype=np.float64).T
    drawn = generator.uniform(low, high, labels.shape)
    return np.where([is_abundance(name) for name in model.label_names], drawn, labels)


def shortened(model: Model) -> CompiledModel:
    """The compiled form of a model in fewer basis spectra; the same if it cannot be turned."""
    compiled = model.compiled
    if isinstance(compiled, Turnable) and isinstance(compiled, Hashable) and isinstance(model, Hashable):
        return _shortened(compiled, model)
    return compiled


@lru_cache(maxsize=4)
def _shortened(compiled: CompiledModel, model: Model) -> CompiledModel:
    assert isinstance(compiled, Turnable)
    device = compiled.basis.device
    low, high = torch.as_tensor(np.asarray(model.label_range), dtype=torch.float64, device=device).T
    with torch.no_grad():
        labels = torch.as_tensor(_stars(model), dtype=torch.float32, device=device)
        coefficients, jacobian = (x.double() for x in compiled.coefficients_and_jacobian(labels))
        basis = compiled.basis[1:].double()
        # What coefficients are worth in flux, if the basis is not orthonormal.
        root, failed = torch.linalg.cholesky_ex(basis @ basis.T / basis.shape[1])
        if failed or root.diagonal().min() < _LEAST * root.diagonal().max():
            return compiled
        origin = coefficients.mean(dim=0)
        flux = (coefficients - origin) @ root
        slopes = (jacobian.mT * (high - low)[:, None]) @ root
        spread = flux.T @ flux / len(flux)
        each = torch.einsum("nlk,nlj->lkj", slopes, slopes)
        each = each / torch.diagonal(each, dim1=1, dim2=2).sum(dim=1).clamp_min(1e-300)[:, None, None]
        _, found = torch.linalg.eigh(spread / _LOST_FLUX**2 + each.sum(dim=0) / _LOST_DERIVATIVE**2)
        found = found.flip(1)
        # What is lost if the first of them are kept.
        lost = [
            (found * (matrix @ found)).sum(dim=-2).flip(-1).cumsum(dim=-1).flip(-1)
            for matrix in (spread, each)
        ]
        enough = (lost[0] < _LOST_FLUX**2) & (lost[1].amax(dim=0) < _LOST_DERIVATIVE**2)
        if not enough.any():
            return compiled
        number = int(torch.nonzero(enough)[0])
        kept = found[:, :number]
        return compiled.turned(origin, root @ kept, torch.linalg.solve_triangular(root.T, kept, upper=True))
