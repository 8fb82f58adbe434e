"""Whose lines a spectrum has: nature's, or those of the line list that the model was computed with.

A model may be corrected for what real stars have and its line list has not
(`phdl_catalog.emulator.imperfection`).  Computed spectra have that line list, and so have mock surveys made
of them: corrected for faults that they do not have, their fits would be wrong by more than their errors.  Nor
need a correction learnt from common stars suit a strange one.  The spectrum itself tells: of both models the
corrected one has the larger error, so that its chi2 is lower unless its lines are wrong.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.linalg import vecdot

from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.objective import Objective
from phdl_catalog.fitting.optimiser import Solution
from phdl_catalog.fitting.result import FitResult
from phdl_catalog.fitting.step import bounded_step
from phdl_catalog.fitting.trial import Target, attempt

#: By how much chi2 has to be lower without the correction.  Of 500 spectra of F, G and K stars none is by
#: more than 1.5; ab initio spectra of S/N 30 are by 80 in the median.
_CLEARLY = 2.0


def doubtful(uncorrected: ForwardModel, objective: Objective, solution: Solution) -> Tensor:
    """Which fits (N,) of corrected spectra the same weights would rather have uncorrected.

    From one trial and one step, with the curvature that there is: a fit is only made anew where it promises
    a lower cost.

    Parameters
    ----------
    uncorrected : ForwardModel
        On the same pixels.
    objective : Objective
        Of the corrected spectra.
    solution : Solution
        Where their fits ended.
    """
    point, observation = solution.point, solution.observation
    target = Target(observation.flux, solution.weights.weight, observation.prior, point.near.system)
    trial = attempt(uncorrected, objective.continuum, target, point.parameters, point.near.coefficients)
    curvature = solution.curvature + torch.diag_embed(observation.prior.precision)
    box = solution.box
    step, length = bounded_step(
        trial.gradient, curvature, box.lower - point.parameters, box.upper - point.parameters
    )
    return trial.cost + 2.0 * vecdot(trial.gradient, step) + length.square() < point.cost


def clearly_better(uncorrected: FitResult, corrected: FitResult) -> NDArray[np.bool_]:
    """Which (N,) of the same spectra the uncorrected model describes clearly better."""
    gain = (corrected.chi2 - uncorrected.chi2) * corrected.n_pixels
    return np.asarray(~uncorrected.failed & (gain > _CLEARLY))
