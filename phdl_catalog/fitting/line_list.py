"""Whose lines a spectrum has: nature's, or those of the line list that the model was computed with.

A model may be corrected for what real stars have and its line list has not
(`phdl_catalog.emulator.imperfection`).  Computed spectra have that line list, and so have mock surveys made
of them: corrected for faults that they do not have, their fits would be wrong by more than their errors.  Nor
need a correction learnt from common stars suit a strange one.  The spectrum itself tells: of both models the
corrected one has the larger error, so that its chi2 is lower unless its lines are wrong.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.linalg import vecdot

from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.objective import Objective, Observation
from phdl_catalog.fitting.optimiser import Beginning, Solution
from phdl_catalog.fitting.result import FitResult
from phdl_catalog.fitting.step import bounded_step
from phdl_catalog.fitting.trial import Target, attempt

#: By how much chi2 has to be lower without the correction.  Of 500 spectra of F, G and K stars it is in four,
#: of hardly any lines, and by 1.9 at most; ab initio spectra of S/N 30 are by 80 in the median.
_CLEARLY = 4.0

#: Largest error floor that the uncorrected model may need, as a fraction of the continuum: none for computed
#: spectra, which it describes to the noise; more for three of four real stars of S/N over 40.
_LARGEST_FLOOR = 3e-3

#: By how much it has to be lower where the fit begins for it to be made without the correction alone.  Of the
#: 500 none is by more than 81; of ab initio spectra of S/N 30, 50, 100 are 44, 60 and 77 %.
_SURELY = 160.0


class Verdict(IntEnum):
    """On the lines of a spectrum, when it has been fitted with one version of a model, or was about to be."""

    SETTLED = 0
    #: To be fitted with the other version as well, and compared.
    DOUBTFUL = 1
    #: To be fitted without the correction instead.
    COMPUTED = 2


def computed(uncorrected: ForwardModel, objective: Objective, observation: Observation,
             beginning: Beginning) -> Tensor:  # fmt: skip
    """Which spectra (N,) are so much better without the correction where fits begin that they are computed.

    Parameters
    ----------
    uncorrected : ForwardModel
        On the same pixels.
    objective : Objective
        Of the corrected spectra.
    observation : Observation
        The data.
    beginning : Beginning
        Of the fits with the correction.
    """
    place = beginning.point.parameters
    without = objective.price(observation, place, uncorrected.evaluate(place), beginning.weights)
    return beginning.point.cost - without > _SURELY


def doubtful(other: ForwardModel, objective: Objective, solution: Solution) -> Tensor:
    """Which fits (N,) the same weights would rather have with the other version of the model.

    From one trial and one step, with the curvature that there is: a fit is only made anew where it promises
    a lower cost.

    Parameters
    ----------
    other : ForwardModel
        On the same pixels.
    objective : Objective
        Of the fits.
    solution : Solution
        Where they ended.
    """
    point, observation = solution.point, solution.observation
    target = Target(observation.flux, solution.weights.weight, observation.prior, point.near.system)
    trial = attempt(other, objective.continuum, target, point.parameters, point.near.coefficients)
    curvature = solution.curvature + torch.diag_embed(observation.prior.precision)
    box = solution.box
    step, length = bounded_step(
        trial.gradient, curvature, box.lower - point.parameters, box.upper - point.parameters
    )
    return trial.cost + 2.0 * vecdot(trial.gradient, step) + length.square() < point.cost


def describes(uncorrected: FitResult) -> NDArray[np.bool_]:
    """Which (N,) spectra the uncorrected model describes as well as computed ones."""
    return np.asarray(~uncorrected.failed & (uncorrected.error_floor < _LARGEST_FLOOR))


def clearly_better(uncorrected: FitResult, corrected: FitResult) -> NDArray[np.bool_]:
    """Which (N,) of the same spectra the uncorrected model describes clearly better."""
    gain = (corrected.chi2 - uncorrected.chi2) * corrected.n_pixels
    return np.asarray(describes(uncorrected) & (gain > _CLEARLY))
