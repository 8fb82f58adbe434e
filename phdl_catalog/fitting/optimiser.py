"""The optimiser: Gauss-Newton with exact gradients, bounds, and a curvature that learns from each step.

A gradient costs about as much as a spectrum, a curvature some thirty times as much, and near the solution the
curvature hardly changes.  So the curvature is formed twice, and improved by what each step shows; all other
work is gradients.  Where the steps end does not depend on the curvature, only how fast they get there.  A fit
has converged when what is left of the way is short: steps that shrink by a constant factor tell.

Steps come in rounds of a few.  Within a round nothing is copied between device and host; between rounds the
stars that have converged are put aside.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from phdl_catalog.fitting.box import Box
from phdl_catalog.fitting.curvature import Curvature
from phdl_catalog.fitting.objective import Objective, Observation, Point, Weights
from phdl_catalog.fitting.step import bounded_step, secant_update
from phdl_catalog.fitting.trial import Target, Trial, attempt

#: Errors of the emulator, error floors, outliers and curvature are found twice, first as those of a template
#: and with a rough curvature; steps after each.
_FIRST_STEPS, _SECOND_STEPS = 2, 2

#: A star that then moves farther than this, in units of the error, has had its floors and outliers from a
#: place that does not resemble it: they are found once more, and a curvature, and it goes on.
_MOVED = 5.0

#: Steps of each later round, where a look at what has converged costs nothing and where it means to wait.
_ROUND_STEPS = {"cpu": 1, "cuda": 3}

#: Steps in those rounds after which a star that is still not there gets a new curvature, and how many it may
#: take then.
_PATIENCE, _LATER_STEPS = 12, 20

#: Before the second time, a star goes on while more than this is left of its way, so many times at most: what
#: floors and outliers are found from should be near the end.
_NEAR, _NEARING_STEPS = 1.0, 8

#: Evaluations before those rounds.
_FIRST_EVALUATIONS = 3 + _FIRST_STEPS + _SECOND_STEPS

#: Longest step of a parameter, in scaled labels or pixels: farther away a spectrum is not what derivatives
#: say.  Without it labels that are hardly constrained go to their bounds and come back.
_REACH = 0.4

#: Longest first step in units of the error, what the radius is of a rejected step, and of a good one.
_FIRST_RADIUS, _RADIUS_DOWN, _RADIUS_UP = 1e6, 0.3, 2.0

#: Increase of chi2 that is rounding, and no reason to reject a step.
_SLACK = 1e-2


@dataclass(frozen=True)
class Beginning:
    """Where the optimiser begins.

    Parameters
    ----------
    point : Point
        Evaluated with these weights.
    weights : Weights
        What pixels count, with the errors of a template.
    """

    point: Point
    weights: Weights


@dataclass(frozen=True)
class Solution:
    """Where the optimiser ended.

    Parameters
    ----------
    observation : Observation
        With the model's error that was found for each star.
    point : Point
        The best trial, evaluated anew.
    weights : Weights
        What pixels counted.
    curvature : (N, L + 2, L + 2) Tensor
        Of the last round, by the data alone.
    noise : (N, L + 2, L + 2) Tensor
        Covariance of the gradient that goes with it.
    box : Box
        The bounds.
    converged : (N,) Tensor
        Whether little of the way was left.
    evaluations : (N,) Tensor
        Number of trials, int64.
    """

    observation: Observation
    point: Point
    weights: Weights
    curvature: Tensor
    noise: Tensor
    box: Box
    converged: Tensor
    evaluations: Tensor


@dataclass(frozen=True)
class _Memory:
    """What is kept from step to step; the first three as in `Point`.

    Parameters
    ----------
    continuum : (N, J) Tensor
        Coefficients of the pseudo-continua.
    curvature : (N, D, D) Tensor
        Gauss-Newton, with what the steps taught.
    radius : (N,) Tensor
        Longest step that is trusted, in units of the error.
    length : (N,) Tensor
        Of the last step, in units of the error; infinite if that proves nothing.
    left : (N,) Tensor
        How far the end is from there, if each step is shorter than the one before by the same factor.
    """

    parameters: Tensor
    cost: Tensor
    gradient: Tensor
    continuum: Tensor
    curvature: Tensor
    radius: Tensor
    length: Tensor
    left: Tensor

    @classmethod
    def of(cls, point: Point, curvature: Tensor) -> _Memory:
        return cls(
            point.parameters,
            point.cost,
            point.gradient,
            point.near.coefficients,
            curvature,
            radius=torch.full_like(point.cost, _FIRST_RADIUS),
            length=torch.full_like(point.cost, torch.inf),
            left=torch.full_like(point.cost, torch.inf),
        )

    def moved(
        self, trial: Trial, accept: Tensor, curvature: Tensor, radius: Tensor, length: Tensor
    ) -> _Memory:
        """The memory after a step, which some stars take and others do not."""
        column = accept[:, None]
        factor = torch.where(self.length.isfinite(), length / self.length.clamp_min(1e-12), 1.0).clamp_max(
            0.5
        )
        return _Memory(
            torch.where(column, trial.parameters, self.parameters),
            torch.where(accept, trial.cost, self.cost),
            torch.where(column, trial.gradient, self.gradient),
            torch.where(column, trial.continuum, self.continuum),
            curvature,
            radius,
            length,
            length * factor / (1.0 - factor),
        )

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def rows(self, index: Tensor) -> _Memory:
        """The memory of some of the stars."""
        return _Memory(*(tensor[index] for tensor in self._tensors()))

    def with_rows(self, index: Tensor, part: _Memory) -> _Memory:
        """This memory with that of some of the stars replaced."""
        pairs = zip(self._tensors(), part._tensors(), strict=True)
        return _Memory(*(tensor.index_copy(0, index, values) for tensor, values in pairs))


def _target(observation: Observation, point: Point, weights: Weights) -> Target:
    return Target.of(observation.flux, weights.weight, observation.prior, point.near.system)


class Optimiser:
    """Fits batches.

    Parameters
    ----------
    objective : Objective
        What is minimised.
    fit_blur : bool
        Whether the line width is a parameter; it stays 0 otherwise.
    tolerance : float
        What may be left of the way, in units of the error, when a fit has converged.
    """

    def __init__(self, objective: Objective, fit_blur: bool, tolerance: float) -> None:
        self._objective = objective
        self._curvature = Curvature(objective)
        self._tolerance = tolerance
        self._fit_blur = fit_blur

    def _bounds(self, parameters: Tensor) -> Box:
        lower, upper = self._objective.forward.bounds_at(parameters)
        if not self._fit_blur:
            lower[:, -1] = upper[:, -1] = 0.0
        return Box(lower, upper)

    def begin(self, observation: Observation, parameters: Tensor) -> Beginning:
        """Evaluate a batch where it begins.

        Parameters
        ----------
        observation : Observation
            N spectra.
        parameters : (N, L + 2) Tensor
            To begin with.
        """
        objective = self._objective
        parameters = self._bounds(parameters).inside(parameters)
        state = objective.forward.evaluate(parameters)
        weights = objective.first_weights(observation, state)
        weights = objective.weigh(observation, state, weights)
        return Beginning(objective.score(observation, parameters, state, weights), weights)

    def run(self, observation: Observation, beginning: Beginning) -> Solution:
        """Fit a batch from where it begins."""
        objective, point, weights = self._objective, beginning.point, beginning.weights
        curvature = self._curvature.rough(point, weights) + torch.diag_embed(observation.prior.precision)
        box, target = self._bounds(point.parameters), _target(observation, point, weights)
        memory = self._steps(target, _Memory.of(point, curvature), box, _FIRST_STEPS)
        memory, early = self._go_on(target, memory, box, _NEAR, _NEARING_STEPS)

        box = self._bounds(memory.parameters)
        parameters = box.inside(memory.parameters)
        observation = objective.expecting(observation, parameters)
        state = objective.forward.evaluate(parameters)
        weights = objective.weigh(observation, state, weights, memory.continuum)
        point = objective.score(observation, parameters, state, weights)
        target = _target(observation, point, weights)
        fisher, noise = self._curvature.full(point, weights, observation)
        curvature = fisher + torch.diag_embed(observation.prior.precision)
        memory = self._steps(target, _Memory.of(point, curvature), box, _SECOND_STEPS)

        tolerance = self._tolerance
        memory, later = self._go_on(target, memory, box, tolerance, _PATIENCE)
        way = (memory.parameters - parameters)[:, :, None]
        moved = (way.mT @ fisher @ way)[:, 0, 0] > _MOVED**2
        far = torch.nonzero(moved | (memory.left >= tolerance)).squeeze(1)
        if len(far):
            some = (observation.rows(far), weights.rows(far))
            part, more, anew, *matrices = self._again(*some, memory.rows(far), box.rows(far))
            memory, later[far] = memory.with_rows(far, part), later[far] + more
            weights, (fisher[far], noise[far]) = weights.with_rows(far, anew), matrices
        evaluations = _FIRST_EVALUATIONS + early + later
        point = objective.evaluate(observation, memory.parameters, weights)
        converged = memory.left < tolerance
        return Solution(observation, point, weights, fisher, noise, box, converged, evaluations)

    def _again(
        self, observation: Observation, weights: Weights, memory: _Memory, box: Box
    ) -> tuple[_Memory, Tensor, Weights, Tensor, Tensor]:
        """Go on with new weights and curvature; returns memory, steps (N,), weights and the two matrices."""
        objective, parameters = self._objective, memory.parameters
        state = objective.forward.evaluate(parameters)
        weights = objective.weigh(observation, state, weights, memory.continuum)
        point = objective.score(observation, parameters, state, weights)
        fisher, noise = self._curvature.full(point, weights, observation)
        memory = _Memory.of(point, fisher + torch.diag_embed(observation.prior.precision))
        target = _target(observation, point, weights)
        memory, taken = self._go_on(target, memory, box, self._tolerance, _LATER_STEPS)
        return memory, 1 + taken, weights, fisher, noise

    def _go_on(
        self, target: Target, memory: _Memory, box: Box, length: float, most: int
    ) -> tuple[_Memory, Tensor]:
        """More steps for stars that have `length` or more of their way left; and how many (N,)."""
        taken = torch.zeros(len(memory.length), dtype=torch.int64, device=memory.length.device)
        steps = _ROUND_STEPS.get(memory.length.device.type, 1)
        for _ in range(most // steps):
            active = torch.nonzero(memory.left >= length).squeeze(1)
            if len(active) == 0:
                break
            part = self._steps(target.rows(active), memory.rows(active), box.rows(active), steps)
            memory = memory.with_rows(active, part)
            taken[active] += steps
        return memory, taken

    def _steps(self, target: Target, memory: _Memory, box: Box, number: int) -> _Memory:
        """Take the steps of one round."""
        for _ in range(number):
            step, length = bounded_step(
                memory.gradient,
                memory.curvature,
                (box.lower - memory.parameters).clamp_min(-_REACH),
                (box.upper - memory.parameters).clamp_max(_REACH),
            )
            # The box is convex, so a part of a step that ends inside stays inside.
            part = (memory.radius / length.clamp_min(1e-12)).clamp_max(1.0)
            step = step * part[:, None]
            trial = attempt(
                self._objective.forward,
                self._objective.continuum,
                target,
                memory.parameters + step,
                memory.continuum,
            )
            curvature = secant_update(memory.curvature, step, trial.gradient - memory.gradient)
            accept = trial.cost <= memory.cost + _SLACK
            taken = length * part
            radius = torch.where(
                accept, torch.maximum(memory.radius, taken * _RADIUS_UP), taken * _RADIUS_DOWN
            )
            # A rejected step proves nothing, unless it is so short that it could not matter.
            honest = accept | (length < 0.1 * self._tolerance)
            length = torch.where(honest, length, torch.full_like(length, torch.inf))
            memory = memory.moved(trial, accept, curvature, radius, length)
        return memory
