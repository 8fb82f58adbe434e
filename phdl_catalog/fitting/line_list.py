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
#: of hardly any lines, by 5.6 in one and 2.6 at most in others; for ab initio spectra of S/N 30 by 80 in
#: the median.
_CLEARLY = 4.0

#: By how much one step has to promise that, for a fit to be made anew.  If any promise were enough, one
#: ab initio spectrum in 200 more would be known, and twice as many real ones would be fitted anew.
_PROMISED = 2.0

#: Largest error floor that the uncorrected model may need, as a fraction of the continuum: none for computed
#: spectra, which it describes to the noise; more for three of four real stars of S/N over 40.
_LARGEST_FLOOR = 3e-3

#: By how much it has to be lower where the fit begins for it to be made without the correction alone, and
#: higher for it not to be asked at the end.  Of the 500 none is lower by more than 81, and nine of ten are
#: higher by more than 20; of ab initio spectra of S/N 30, 50, 100 are 44, 60 and 77 % lower by so much, and
#: none that is described better without the correction in the end is higher by more than 8.
_SURELY, _HARDLY = 160.0, -20.0


class Verdict(IntEnum):
    """On the lines of a spectrum, when it has been fitted with one version of a model, or was about to be."""

    SETTLED = 0
    #: To be asked at the end of the fit; then, to be fitted with the other version as well, and compared.
    DOUBTFUL = 1
    #: To be fitted without the correction instead.
    COMPUTED = 2


def first_verdict(uncorrected: ForwardModel, objective: Objective, observation: Observation,
                  beginning: Beginning) -> NDArray[np.int8]:  # fmt: skip
    """What chi2 without the correction says of spectra (N,) where their fits begin.

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
    gain = (beginning.point.cost - without).cpu().numpy()
    verdict = np.where(gain > _HARDLY, Verdict.DOUBTFUL, Verdict.SETTLED)
    return np.where(gain > _SURELY, Verdict.COMPUTED, verdict).astype(np.int8)


def doubtful(other: ForwardModel, objective: Objective, solution: Solution, rows: Tensor) -> Tensor:
    """Which fits (n,) the same weights would rather have with the other version of the model.

    From one trial and one step, with the curvature that there is: a fit is only made anew where this promises
    a lower cost.

    Parameters
    ----------
    other : ForwardModel
        On the same pixels.
    objective : Objective
        Of the fits.
    solution : Solution
        Where they ended.
    rows : (n,) Tensor
        The fits that are asked.
    """
    point, observation, box = solution.point, solution.observation, solution.box.rows(rows)
    whole = Target.of(observation.flux, solution.weights.weight, observation.prior, point.near.system)
    target, parameters = whole.rows(rows), point.parameters[rows]
    trial = attempt(other, objective.continuum, target, parameters, point.near.coefficients[rows])
    curvature = solution.curvature[rows] + torch.diag_embed(target.prior.precision)
    step, length = bounded_step(trial.gradient, curvature, box.lower - parameters, box.upper - parameters)
    promised = trial.cost + 2.0 * vecdot(trial.gradient, step) + length.square()
    return point.cost[rows] - promised > _PROMISED


def describes(uncorrected: FitResult) -> NDArray[np.bool_]:
    """Which (N,) spectra the uncorrected model describes as well as computed ones."""
    return np.asarray(~uncorrected.failed & (uncorrected.error_floor < _LARGEST_FLOOR))


def clearly_better(uncorrected: FitResult, corrected: FitResult) -> NDArray[np.bool_]:
    """Which (N,) of the same spectra the uncorrected model describes clearly better."""
    gain = (corrected.chi2 - uncorrected.chi2) * corrected.n_pixels
    return np.asarray(describes(uncorrected) & (gain > _CLEARLY))
