"""The optimiser: Levenberg-Marquardt with exact gradients and a curvature that is renewed now and then.

A gradient costs about as much as a spectrum, a curvature some thirty times as much, and near the solution the
curvature hardly changes.  So a *round* is: find the error floors, form the curvature, then take a few steps
with a fresh gradient each.  Where the steps end does not depend on the curvature, only how fast they get
there.  Within a round nothing is copied between device and host; between rounds the stars that have converged
are put aside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phdl_catalog.fitting.objective import Objective, Observation, Point
from phdl_catalog.fitting.step import bounded_step

#: Steps along a few directions before all labels are free.
_COARSE_STEPS = 3

#: Steps of one round, and largest number of rounds.
_ROUND_STEPS, _ROUNDS = 3, 8

#: Longest step of the coarse fit, in scaled parameters.
_LONGEST_COARSE_STEP = 0.5

#: Damping after the first rejected step, factor after each further one, and factor after a good one.
_FIRST_DAMPING, _DAMPING_UP, _DAMPING_DOWN = 1e-2, 10.0, 0.1

#: Increase of chi2 that is rounding, or the lag of outlier weights, and no reason to reject a step.
_SLACK = 1e-2


@dataclass(frozen=True)
class Solution:
    """Where the optimiser ended.

    Parameters
    ----------
    point : Point
        The best trial, evaluated anew.
    floor2 : (N, M) Tensor
        Squared error floors.
    curvature : (N, L + 2, L + 2) Tensor
        Of the last round.
    converged : (N,) Tensor
        Whether the last step was short.
    evaluations : (N,) Tensor
        Number of trials, int64.
    """

    point: Point
    floor2: Tensor
    curvature: Tensor
    converged: Tensor
    evaluations: Tensor


@dataclass(frozen=True)
class _Trial:
    """What is kept of a trial while stepping; shapes as in `Point`."""

    parameters: Tensor
    cost: Tensor
    gradient: Tensor
    weight: Tensor
    curve: Tensor

    @classmethod
    def of(cls, point: Point) -> _Trial:
        return cls(point.parameters, point.cost, point.gradient, point.weight, point.curve)

    def better_of(self, other: _Trial, accept: Tensor) -> _Trial:
        """Row by row, `other` where `accept` holds."""
        column = accept[:, None]
        return _Trial(
            torch.where(column, other.parameters, self.parameters),
            torch.where(accept, other.cost, self.cost),
            torch.where(column, other.gradient, self.gradient),
            torch.where(column, other.weight, self.weight),
            torch.where(column, other.curve, self.curve),
        )


class Optimiser:
    """Fits batches.

    Parameters
    ----------
    objective : Objective
        What is minimised.
    directions : (D, L) Tensor
        Directions of the coarse fit, in scaled labels.
    fit_blur : bool
        Whether the line width is a parameter; it stays 0 otherwise.
    fit_floor : bool
        Whether error floors are fitted; they stay 0 otherwise.
    tolerance : float
        Length of a step, in units of the error, under which a fit has converged.
    """

    def __init__(
        self, objective: Objective, directions: Tensor, fit_blur: bool, fit_floor: bool, tolerance: float
    ) -> None:
        self._objective = objective
        self._directions = directions
        self._fit_floor = fit_floor
        self._tolerance = tolerance
        bounds = objective.forward.bounds.clone()
        if not fit_blur:
            bounds[-1] = 0.0
        self._lower, self._upper = bounds[:, 0], bounds[:, 1]

    def run(self, observation: Observation, start: Tensor) -> Solution:
        """Fit a batch from one start each.

        Parameters
        ----------
        observation : Observation
            N spectra.
        start : (N, L + 2) Tensor
            Parameters to begin with.
        """
        trial, floor2 = self._coarse(observation, torch.clamp(start, self._lower, self._upper))
        size, n_parameters = start.shape
        parameters, weight, curve = trial.parameters.clone(), trial.weight.clone(), trial.curve.clone()
        curvature = start.new_zeros(size, n_parameters, n_parameters)
        converged = torch.zeros(size, dtype=torch.bool, device=start.device)
        evaluations = torch.full((size,), 2 + _COARSE_STEPS, device=start.device)
        active = torch.arange(size, device=start.device)
        for number in range(_ROUNDS):
            part = observation.rows(active)
            done, floor, trial, matrix = self._round(
                part, parameters[active], floor2[active], weight[active], curve[active]
            )
            parameters[active], weight[active], curve[active] = trial.parameters, trial.weight, trial.curve
            floor2[active], curvature[active] = floor, matrix
            evaluations[active] += 1 + _ROUND_STEPS
            if number > 0:  # in the first round the error floors are those of a coarse fit
                converged[active] = done
                active = active[~done]
            if len(active) == 0:
                break
        point = self._objective.evaluate(observation, parameters, floor2, weight, curve)
        return Solution(point, floor2, curvature, converged, evaluations)

    def _coarse(self, observation: Observation, start: Tensor) -> tuple[_Trial, Tensor]:
        """A few steps along few directions, with error floors as large as the residuals."""
        objective, directions = self._objective, self._directions
        n_directions = len(directions)
        size = len(start)
        floor2 = start.new_zeros(size, len(objective.bands.member), dtype=torch.float32)
        point = objective.first(observation, start, floor2)
        floor2 = objective.floors(observation, point)
        bound = start.new_full((size, n_directions + 2), _LONGEST_COARSE_STEP)
        bound[:, -1] = 0.0  # not the line width
        damping = start.new_zeros(size)
        for _ in range(_COARSE_STEPS):
            gradient = torch.cat(
                [point.gradient[:, :-2] @ directions.double().T, point.gradient[:, -2:]], dim=1
            )
            matrix = objective.curvature(point, directions)
            step, _ = bounded_step(gradient, matrix, damping, -bound, bound)
            full = torch.cat([step[:, :-2] @ directions.double(), step[:, -2:]], dim=1)
            parameters = torch.clamp(point.parameters + full, self._lower, self._upper)
            point = objective.evaluate(observation, parameters, floor2, point.weight, point.curve)
            if self._fit_floor:
                floor2 = objective.floors(observation, point)
        return _Trial.of(point), floor2

    def _round(
        self, observation: Observation, parameters: Tensor, floor2: Tensor, weight: Tensor, curve: Tensor
    ) -> tuple[Tensor, Tensor, _Trial, Tensor]:
        """Renew error floors and curvature, then step; returns converged, floors, trial and curvature."""
        objective = self._objective
        point = objective.evaluate(observation, parameters, floor2, weight, curve)
        if self._fit_floor:
            floor2 = objective.floors(observation, point)
            point = objective.evaluate(observation, parameters, floor2, point.weight, point.curve)
        matrix = objective.curvature(point)
        trial = _Trial.of(point)
        damping = torch.zeros_like(trial.cost)
        short = torch.zeros_like(trial.cost, dtype=torch.bool)
        for _ in range(_ROUND_STEPS):
            step, length = bounded_step(
                trial.gradient,
                matrix,
                damping,
                self._lower - trial.parameters,
                self._upper - trial.parameters,
            )
            tried = _Trial.of(
                objective.evaluate(observation, trial.parameters + step, floor2, trial.weight, trial.curve)
            )
            accept = tried.cost <= trial.cost + _SLACK
            trial = trial.better_of(tried, accept)
            short = accept & (length < self._tolerance)
            damping = torch.where(
                accept, damping * _DAMPING_DOWN, (damping * _DAMPING_UP).clamp_min(_FIRST_DAMPING)
            )
        return short, floor2, trial, matrix
