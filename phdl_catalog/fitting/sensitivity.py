"""How strongly a spectrum depends on a label, all along the label's range.

A line is weak where its element is rare, and so the error of an abundance grows towards low ones.  Whether a
label can be measured must not be read off its error: of stars alike, those whose noise deepens the line would
pass and those whose noise fills it would not, and what passes would be too high on average.  So the question
is what spectra at the two ends of the label's range differ by, in units of the noise: the label's
*contrast*.  It is the range over the error where the spectrum changes evenly along it, and does not depend on
where the fit ended.

How the change is distributed along the range is taken from the nearest of some templates: it is a curve of
growth, much the same for stars alike.  That of oxygen, which is seen by the carbon that it binds, depends on
how much carbon there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.emulator.transforms import BINDING
from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.starts import Templates, lattice, spread_out
from phdl_catalog.labels import is_abundance

#: Number of templates.
_TEMPLATES = 64

#: [C/Fe] of the templates, for elements that are seen by what they bind.
_CARBON = (-0.5, -0.25, 0.0, 0.25, 0.5)

#: Stretches that the range of a label is divided into.
_STRETCHES = 4

#: Pixels that are taken together.
_POOLED = 4

#: Least change along a stretch, as a fraction of the mean of all: what has no lines has no curve of growth.
_LEAST = 1e-3


@dataclass(frozen=True)
class Sensitivity:
    """Curves of growth of a model's abundances.

    Parameters
    ----------
    place : (T, A) float64
        Labels of the atmosphere of the templates, in units of the templates' distance.
    columns : tuple of int
        Places of these A labels.
    steps : (A,) float64
        Those units.
    change : (C, T, L, S) float64
        Logarithm of the change of the spectrum along each stretch of a label's range, over the mean of all,
        with each [C/Fe].
    carbon : int or None
        Place of [C/Fe] among the labels.
    label_range : (L, 2) float64
        The ranges.
    """

    place: NDArray[np.float64]
    columns: tuple[int, ...]
    steps: NDArray[np.float64]
    change: NDArray[np.float64]
    carbon: int | None
    label_range: NDArray[np.float64]

    @classmethod
    def of(cls, forward: ForwardModel, templates: Templates) -> Sensitivity:
        """From templates of common stars; labels of the atmosphere are taken to change spectra evenly."""
        rows = spread_out(templates.labels[: templates.common].cpu().numpy(), _TEMPLATES)
        labels = templates.labels[torch.as_tensor(rows, device=forward.device)]
        columns, steps = lattice(forward.label_names)
        place = labels[:, list(columns)].cpu().numpy() / steps
        names = list(forward.label_names)
        change = np.zeros((1, len(rows), forward.n_labels, _STRETCHES))
        for column, name in enumerate(names):
            if is_abundance(name):
                change[:, :, column] = _changes(forward, labels, column)
        binding = [names.index(f"{element}_fe") for element in BINDING if f"{element}_fe" in names]
        carbon = names.index("c_fe") if binding and "c_fe" in names else None
        if carbon is not None:
            change = np.repeat(change, len(_CARBON), axis=0)
            for number, abundance in enumerate(_CARBON):
                labels[:, carbon] = abundance
                for column in binding:
                    change[number, :, column] = _changes(forward, labels, column)
        return cls(place, columns, steps, change, carbon, forward.label_range)

    def contrast(self, labels: NDArray[np.float64], errors: NDArray[np.float64],
                 width: NDArray[np.float64]) -> NDArray[np.float64]:  # fmt: skip
        """By how many sigma spectra differ that are at the two ends of a label's range.

        Parameters
        ----------
        labels, errors : (N, L) float64
            Of fits.
        width : (N, L) float64
            Ranges that the labels can have.

        Returns
        -------
        (N, L) float64
        """
        here = labels[:, None, list(self.columns)] / self.steps
        nearest = np.square(here - self.place).sum(axis=2).argmin(axis=1)
        low, high = self.label_range.T
        # Between the middles of stretches the logarithm is a straight line, and goes on so to the ends.
        at = np.clip((labels - low) / (high - low), 0.0, 1.0) * _STRETCHES - 0.5
        left = np.clip(np.floor(at).astype(np.int64), 0, _STRETCHES - 2)
        mixture = np.zeros(len(labels), dtype=np.int64)
        if self.carbon is not None:
            mixture = np.abs(labels[:, [self.carbon]] - np.array(_CARBON)).argmin(axis=1)
        curve = self.change[mixture, nearest]
        one, other = (np.take_along_axis(curve, (left + k)[:, :, None], axis=2)[:, :, 0] for k in (0, 1))
        relative = np.exp(one + (other - one) * (at - left))
        return np.asarray(width / errors / relative)


def _changes(forward: ForwardModel, labels: Tensor, column: int) -> NDArray[np.float64]:
    """Logarithm (T, S) of the change of spectra along each stretch of a range, over the mean of all."""
    part = torch.linspace(0.0, 1.0, _STRETCHES + 1, dtype=torch.float64, device=forward.device)
    low, high = forward.label_range[column].tolist()
    along = labels[:, None].repeat(1, len(part), 1)
    along[:, :, column] = low + (high - low) * part
    spectra = forward.coefficients(along.flatten(0, 1).float()).unflatten(0, (len(labels), -1))
    basis = forward.pooled_basis(_POOLED)[1:]
    length = torch.linalg.vector_norm(torch.diff(spectra, dim=1) @ basis, dim=2)
    mean = length.mean(dim=1, keepdim=True).clamp_min(torch.finfo(length.dtype).tiny)
    return np.asarray(torch.log((length / mean).clamp_min(_LEAST)).cpu().numpy())
