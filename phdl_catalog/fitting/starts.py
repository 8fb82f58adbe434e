"""Where fits start: template spectra that span the training region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.emulator.imperfection import Imperfection
from phdl_catalog.errors import ModelError
from phdl_catalog.fitting.forward import ForwardModel, Model, training_distance
from phdl_catalog.fitting.kernel import REACH

#: Distance of templates in effective temperature [K], gravity and [Fe/H].
_STEPS = {"teff": 250.0, "logg": 0.5, "fe_h": 0.5}

#: Templates nearer to each other than this many steps in everything are alike.
_ALIKE = 2.5

#: Values of the microturbulence that are tried for each template, as fractions of its range: grids follow a
#: relation with temperature and gravity, and the value nearest to it is taken.
_V_MICRO_FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)

#: Alpha elements, enhanced in metal-poor stars.
_ALPHA = ("o_fe", "mg_fe", "si_fe", "s_fe", "ca_fe", "ti_fe")

#: Enhancement of alpha elements, and [Fe/H] under which stars have it.
_ALPHA_ENHANCEMENT, _METAL_POOR = 0.3, -0.7

#: Molecules of carbon and nitrogen shape the spectra of stars cooler than this [K]: those rich in both look
#: like none that have the Sun's abundances, and have templates of their own.
_MOLECULES, _RICH = 5500.0, {"c_fe": 0.3, "n_fe": 0.5, "o_fe": 0.2}

#: Number of templates that a velocity is searched with.
_VELOCITY_TEMPLATES = 12


@dataclass(frozen=True)
class Templates:
    """Template spectra on the pixels of a fit.

    Parameters
    ----------
    labels : (T, L) Tensor
        Their labels, float64.
    flux : (T, P) Tensor
        Normalised flux, float32.
    velocity_rows : (V,) Tensor
        Rows of the few, far from each other, that are enough for a velocity.
    alike : (T, T) Tensor
        Whether two are so near to each other that fits from them end at the same place.
    common : int
        Number of those, the first ones, that have the abundances of common stars.
    """

    labels: Tensor
    flux: Tensor
    velocity_rows: Tensor
    alike: Tensor
    common: int


def lattice(label_names: Sequence[str]) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Places of the labels that templates differ in, and the distances (A,) of templates in them."""
    names = list(label_names)
    columns = tuple(names.index(name) for name in _STEPS if name in names)
    return columns, np.array([step for name, step in _STEPS.items() if name in names])


def _axis(limits: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    lower, upper = limits
    number = max(2, round((upper - lower) / step))
    edges = np.linspace(lower, upper, number + 1)
    return (edges[:-1] + edges[1:]) / 2.0


def template_labels(model: Model) -> NDArray[np.float64]:
    """Labels (T, L) of templates: a lattice in teff, logg and [Fe/H] inside the model's training region.

    Abundances are solar, alpha elements enhanced in metal-poor stars; other labels are in the middle of
    their range, the microturbulence where the model's `distance` is smallest.
    """
    names = list(model.label_names)
    ranges = np.asarray(model.label_range, dtype=np.float64)
    columns, steps = lattice(names)
    axes = [_axis(ranges[column], step) for column, step in zip(columns, steps, strict=True)]
    places = np.array(list(product(*axes)))
    base = np.where([name.endswith("_fe") for name in names], 0.0, ranges.mean(axis=1))
    labels = np.tile(np.clip(base, ranges[:, 0], ranges[:, 1]), (len(places), 1))
    labels[:, columns] = places
    if "fe_h" in names:
        poor = labels[:, names.index("fe_h")] < _METAL_POOR
        for name in _ALPHA:
            if name in names:
                column = names.index(name)
                labels[poor, column] = np.clip(_ALPHA_ENHANCEMENT, *ranges[column])
    if "v_micro" not in names:
        distance = training_distance(model, labels)
    else:
        column = names.index("v_micro")
        values = ranges[column, 0] + np.ptp(ranges[column]) * np.array(_V_MICRO_FRACTIONS)
        tried = np.repeat(labels[None], len(values), axis=0)
        tried[:, :, column] = values[:, None]
        distances = np.stack([training_distance(model, rows) for rows in tried])
        best = distances.argmin(axis=0)
        labels = tried[best, np.arange(len(labels))]
        distance = distances.min(axis=0)
    inside = distance <= 1.0
    return labels[inside] if inside.any() else labels


def _rich(labels: NDArray[np.float64], model: Model) -> NDArray[np.float64]:
    """Templates (M, L) that are rich in carbon and nitrogen, for those of `labels` (T, L) that are cool."""
    names, ranges = list(model.label_names), np.asarray(model.label_range, dtype=np.float64)
    if not {"teff", "c_fe", "n_fe"} <= set(names):
        return labels[:0]
    rich = labels[labels[:, names.index("teff")] < _MOLECULES].copy()
    for name, abundance in _RICH.items():
        if name in names:
            rich[:, names.index(name)] = np.clip(abundance, *ranges[names.index(name)])
    return rich


def spread_out(labels: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """Rows far from each other: each next one is the farthest from those taken (Gonzalez 1985)."""
    width = np.ptp(labels, axis=0)
    scaled = (labels - labels.mean(axis=0)) / np.where(width > 0, width, 1.0)
    rows = [int(np.square(scaled).sum(axis=1).argmin())]
    nearest = np.full(len(labels), np.inf)
    while len(rows) < min(number, len(labels)):
        nearest = np.minimum(nearest, np.square(scaled - scaled[rows[-1]]).sum(axis=1))
        rows.append(int(nearest.argmax()))
    return np.array(rows)


def _alike(labels: NDArray[np.float64], names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which templates (T, T) are within `_ALIKE` steps of each other in every label of the lattice."""
    columns, steps = lattice(names)
    scaled = labels[:, list(columns)] / steps
    return np.asarray(np.abs(scaled[:, None] - scaled).max(axis=2) < _ALIKE)


def make_templates(model: Model, forward: ForwardModel) -> Templates:
    """Compute the templates of a model: common stars, and cool ones rich in carbon and nitrogen."""
    common = template_labels(model)
    labels = np.concatenate([common, _rich(common, model)])
    tensor = torch.as_tensor(labels, device=forward.device)
    return Templates(
        labels=tensor,
        flux=forward.template(tensor),
        velocity_rows=torch.as_tensor(spread_out(labels, _VELOCITY_TEMPLATES), device=forward.device),
        alike=torch.as_tensor(_alike(labels, model.label_names), device=forward.device),
        common=len(common),
    )


def template_errors(
    model: Model, forward: ForwardModel, templates: Templates, imperfection: Imperfection | None
) -> Tensor:
    """Squared error (T, P) of a model at the pixels of a fit, for stars like each of its templates.

    The emulator's own error is as the model states it; that of the line list grows with the lines.
    """
    grid = forward.grid
    variance = np.zeros((len(templates.flux), grid.size))
    labels = templates.labels.double().cpu().numpy()
    stated = getattr(model, "expected_error", None)
    if stated is not None:
        values = np.asarray(stated(labels), dtype=np.float64)
        expected = (len(labels), grid.size + 2 * REACH)
        if values.shape != expected or not np.all(np.isfinite(values)):
            raise ModelError(
                f"the model's expected_error has shape {values.shape}, or is not finite; "
                f"it must be {expected}"
            )
        variance += values[:, REACH:-REACH] ** 2
    if imperfection is not None:
        spectra = forward.full_template(templates.labels).double().cpu().numpy()
        amplitude = imperfection.amplitude(spectra)
        variance += (amplitude[:, None] * imperfection.error[REACH:-REACH]) ** 2
    return torch.as_tensor(variance, dtype=torch.float32, device=forward.device)


def coarse_directions(label_names: tuple[str, ...], half_range: Tensor) -> Tensor:
    """Directions (D, L) in scaled labels of a first, coarse fit.

    Temperature, gravity, [Fe/H], carbon and nitrogen one by one, alpha elements together.
    """
    alpha = [name for name in _ALPHA if name in label_names]
    groups = [["teff"], ["logg"], ["fe_h"], ["c_fe"], ["n_fe"], alpha]
    rows = []
    for group in groups:
        columns = [label_names.index(name) for name in group if name in label_names]
        if columns:
            row = torch.zeros(len(label_names), dtype=torch.float64, device=half_range.device)
            row[columns] = 1.0 / half_range[columns]
            rows.append(row / row.max())
    return torch.stack(rows).float()
