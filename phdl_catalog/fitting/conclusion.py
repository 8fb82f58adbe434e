"""What the end of a fit says of its labels: linear theory at the minimum, and two steps beyond it.

Of a label that it hardly constrains a spectrum knows little until that label is high: the slopes at the
minimum, where noise has put such a label at a bound, say little of the way to the middle of what is possible,
and what is well measured would make up for it.  So the gradient is taken once more at the means of linear
theory, and means are found anew from there: a step of Newton's method towards where gradient and bounds
agree, for the price of one spectrum.

Then labels that are measured, but not well, get the growth of their lines (`phdl_catalog.fitting.growth`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.fitting.box import Box
from phdl_catalog.fitting.curvature import Curvature
from phdl_catalog.fitting.growth import growth, moments_with_growth
from phdl_catalog.fitting.judge import LEAST_CONTRAST
from phdl_catalog.fitting.objective import Objective
from phdl_catalog.fitting.optimiser import Solution
from phdl_catalog.fitting.sensitivity import Sensitivity
from phdl_catalog.fitting.trial import Target, attempt
from phdl_catalog.fitting.uncertainty import Estimate, LinearTheory
from phdl_catalog.labels import is_abundance

#: Error [dex] from which on the growth of lines is measured: that of smaller ones moves them by less than a
#: tenth of the error.
_LEAST_ERROR = 0.07


@dataclass(frozen=True)
class Conclusion:
    """Labels of N stars, and how well they are measured.

    Parameters
    ----------
    estimate : Estimate
        Values and errors.
    contrast : (N, L) float64
        By how many sigma spectra differ that are at the two ends of a label's range.
    """

    estimate: Estimate
    contrast: NDArray[np.float64]


def conclude(
    objective: Objective, curvature: Curvature, sensitivity: Sensitivity, solution: Solution, fixed: Tensor
) -> Conclusion:
    """Labels where fits ended.

    Parameters
    ----------
    objective : Objective
        What was minimised.
    curvature : Curvature
        Its.
    sensitivity : Sensitivity
        How spectra change along the ranges of labels.
    solution : Solution
        Where fits ended.
    fixed : (L + 2,) Tensor
        True for parameters that were not fitted.
    """
    forward, point, box = objective.forward, solution.point, solution.box
    prior = solution.observation.prior
    theory = LinearTheory.of(solution.curvature, solution.noise, box, fixed, prior.precision)
    means, factors = theory.means(point.parameters, point.gradient, prior.pull(point.parameters))
    target = Target.of(solution.observation.flux, solution.weights.weight, prior, point.near.system)
    trial = attempt(forward, objective.continuum, target, means, point.near.coefficients)
    found = theory.estimate(means, trial.gradient, prior.pull(means), factors)

    scale, number = forward.half_range, forward.n_labels
    width = ((box.upper - box.lower)[:, :number] * scale).cpu().numpy()
    contrast = sensitivity.contrast(
        forward.labels(found.alone.values).cpu().numpy(),
        (found.alone.errors[:, :number] * scale).cpu().numpy(),
        np.minimum(width, np.ptp(forward.label_range, axis=1)),
    )
    measured = torch.as_tensor(contrast >= LEAST_CONTRAST, device=forward.device)
    wanted = measured & (found.errors[:, :number] * scale > _LEAST_ERROR) & (prior.precision[:, :number] == 0)
    wanted &= ~box.touched(found.alone.values)[:, :number]
    wanted &= torch.tensor([is_abundance(name) for name in forward.label_names], device=forward.device)
    star, label = torch.nonzero(wanted, as_tuple=True)
    if len(star):
        grows = growth(
            forward, curvature, (point, solution.weights), found.values, found.covariance, box, (star, label)
        )
        found = _grown(found, box, (star, label), grows)
    return Conclusion(found, contrast)


def _grown(found: Estimate, box: Box, which: tuple[Tensor, Tensor], grows: Tensor) -> Estimate:
    """The estimate with the growth (M,) of some labels, in steps of their errors."""
    alone = found.alone
    values, errors = found.values.clone(), found.errors.clone()
    sigma = alone.errors[which]
    values[which], errors[which] = moments_with_growth(
        alone.values[which], sigma, grows * sigma / errors[which], box.lower[which], box.upper[which]
    )
    ratio = torch.where(found.errors > 0, errors / found.errors, 1.0)
    covariance = found.covariance * ratio[:, :, None] * ratio[:, None, :]
    return replace(found, values=values, errors=errors, covariance=covariance)
