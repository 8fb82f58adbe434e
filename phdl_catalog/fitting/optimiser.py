"""The optimiser: Levenberg-Marquardt with exact gradients and a curvature that is renewed now and then.

A gradient costs about as much as a spectrum, a curvature some thirty times as much, and near the solution the
curvature hardly changes.  So the curvature is formed twice, and improved by what each step shows; all other
work is gradients.  Where the steps end does not depend on the curvature, only how fast they get there.

Steps come in rounds of a few.  Within a round nothing is copied between device and host; between rounds the
stars that have converged are put aside.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from phdl_catalog.fitting.objective import Objective, Observation, Point
from phdl_catalog.fitting.step import bounded_step, secant_update

#: Steps along a few directions before all labels are free.
_COARSE_STEPS = 3

#: Times that error floors and curvature are found for all labels.
_RENEWALS = 2

#: Steps of one round, and largest number of rounds after those that follow the renewals.
_ROUND_STEPS, _ROUNDS = 3, 12

#: Evaluations before those rounds.
_FIRST_EVALUATIONS = 2 + _COARSE_STEPS + _RENEWALS * (2 + _ROUND_STEPS)

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
class _Memory:
    """What is kept from step to step; the first five as in `Point`.

    Parameters
    ----------
    curvature : (N, D, D) Tensor
        Gauss-Newton, with what the steps taught.
    damping : (N,) Tensor
        Of Levenberg and Marquardt.
    length : (N,) Tensor
        Of the last step, in units of the error; infinite if it was rejected.
    """

    parameters: Tensor
    cost: Tensor
    gradient: Tensor
    weight: Tensor
    curve: Tensor
    curvature: Tensor
    damping: Tensor
    length: Tensor

    @classmethod
    def of(cls, point: Point, curvature: Tensor) -> _Memory:
        return cls(
            point.parameters,
            point.cost,
            point.gradient,
            point.weight,
            point.curve,
            curvature,
            damping=torch.zeros_like(point.cost),
            length=torch.full_like(point.cost, torch.inf),
        )

    def moved(
        self, point: Point, accept: Tensor, curvature: Tensor, damping: Tensor, length: Tensor
    ) -> _Memory:
        """The memory after a step, which some stars take and others do not."""
        column = accept[:, None]
        return _Memory(
            torch.where(column, point.parameters, self.parameters),
            torch.where(accept, point.cost, self.cost),
            torch.where(column, point.gradient, self.gradient),
            torch.where(column, point.weight, self.weight),
            torch.where(column, point.curve, self.curve),
            curvature,
            damping,
            length,
        )

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def rows(self, index: Tensor) -> _Memory:
        """The memory of some of the stars."""
        return _Memory(*(tensor[index] for tensor in self._tensors()))

    def put(self, index: Tensor, part: _Memory) -> None:
        """Overwrite the memory of some of the stars."""
        for tensor, values in zip(self._tensors(), part._tensors(), strict=True):
            tensor[index] = values

    def copy(self) -> _Memory:
        """A copy that `put` may write to."""
        return _Memory(*(tensor.clone() for tensor in self._tensors()))


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
        memory, floor2 = self._coarse(observation, torch.clamp(start, self._lower, self._upper))
        for _ in range(_RENEWALS):
            memory, floor2, fisher = self._renew(observation, memory, floor2)
            memory = self._steps(observation, memory, floor2)
        memory = memory.copy()
        evaluations = torch.full((len(start),), _FIRST_EVALUATIONS, device=start.device)
        for _ in range(_ROUNDS):
            active = torch.nonzero(memory.length >= self._tolerance).squeeze(1)
            if len(active) == 0:
                break
            part = self._steps(observation.rows(active), memory.rows(active), floor2[active])
            memory.put(active, part)
            evaluations[active] += _ROUND_STEPS
        point = self._objective.evaluate(observation, memory.parameters, floor2, memory.weight, memory.curve)
        return Solution(point, floor2, fisher, memory.length < self._tolerance, evaluations)

    def _coarse(self, observation: Observation, start: Tensor) -> tuple[_Memory, Tensor]:
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
        return _Memory.of(
            point,
            point.parameters.new_zeros(()),
        ), floor2

    def _renew(
        self, observation: Observation, memory: _Memory, floor2: Tensor
    ) -> tuple[_Memory, Tensor, Tensor]:
        """Find error floors and curvature anew; returns both, the curvature also as the Fisher matrix."""
        objective = self._objective
        point = objective.evaluate(observation, memory.parameters, floor2, memory.weight, memory.curve)
        if self._fit_floor:
            floor2 = objective.floors(observation, point)
            point = objective.evaluate(observation, memory.parameters, floor2, point.weight, point.curve)
        fisher = objective.curvature(point)
        return _Memory.of(point, fisher), floor2, fisher

    def _steps(self, observation: Observation, memory: _Memory, floor2: Tensor) -> _Memory:
        """Take the steps of one round."""
        for _ in range(_ROUND_STEPS):
            step, length = bounded_step(
                memory.gradient,
                memory.curvature,
                memory.damping,
                self._lower - memory.parameters,
                self._upper - memory.parameters,
            )
            point = self._objective.evaluate(
                observation, memory.parameters + step, floor2, memory.weight, memory.curve
            )
            curvature = secant_update(memory.curvature, step, point.gradient - memory.gradient)
            accept = point.cost <= memory.cost + _SLACK
            damping = torch.where(
                accept,
                memory.damping * _DAMPING_DOWN,
                (memory.damping * _DAMPING_UP).clamp_min(_FIRST_DAMPING),
            )
            length = torch.where(accept, length, torch.full_like(length, torch.inf))
            memory = memory.moved(point, accept, curvature, damping, length)
        return memory
