"""What a fit minimises, its exact gradient, and its curvature.

The model of a star is ``C * f(parameters)`` with a smooth pseudo-continuum C.  For given parameters the best
C is the solution of a linear system, so it is not a parameter: the cost is that of the best C (variable
projection).  Its gradient is ``-sum of residual * weight * C * df``, and in the space of the emulator's basis
that costs no more than one spectrum.  The curvature (Gauss-Newton) does need all derivatives pixel by pixel;
the part of each that a change of continuum could imitate is taken out of it, so that its inverse is the
covariance with the continuum marginalised.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vecdot

from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.fitting.forward import ForwardModel, ModelState
from phdl_catalog.fitting.kernel import REACH, resolution_variance
from phdl_catalog.fitting.noise import FloorBands, outlier
from phdl_catalog.fitting.pixel_loops import weigh_pixels
from phdl_catalog.fitting.prior import Prior
from phdl_catalog.fitting.shared_error import SharedError
from phdl_catalog.spectra import loops
from phdl_catalog.spectra.continuum import ContinuumBasis, NormalSystem

#: How well templates describe a star, as a fraction of the continuum.
TEMPLATE_ERROR = 0.03


@dataclass(frozen=True)
class Observation:
    """Spectra of a batch, at rest to within a pixel.

    Parameters
    ----------
    flux : (N, P) Tensor
        Observed flux, of order 1.
    variance : (N, P) Tensor
        Of the noise; 1 where a pixel is not used.
    use : (N, P) Tensor
        1 where a pixel is used, 0 elsewhere.
    model_variance : (N, P) Tensor
        Squared error of the model in single pixels, as a fraction of the continuum.
    amplitude : (N,) Tensor
        Size of the emulator's error, as its `ExpectedError` has it; it is a part of `model_variance`.
    prior : Prior
        What is known of the labels beforehand.
    """

    flux: Tensor
    variance: Tensor
    use: Tensor
    model_variance: Tensor
    amplitude: Tensor
    prior: Prior

    def rows(self, index: Tensor) -> Observation:
        """The observation of some of the stars."""
        return replace(
            self,
            flux=self.flux[index],
            variance=self.variance[index],
            use=self.use[index],
            model_variance=self.model_variance[index],
            amplitude=self.amplitude[index],
            prior=self.prior.rows(index),
        )


@dataclass(frozen=True)
class Weights:
    """What pixels count; held while parameters move, so that the cost is a function of these alone.

    Parameters
    ----------
    floor2 : (N, M) Tensor
        Squared error floors of the bands, as a fraction of the continuum.
    variance : (N, P) Tensor
        Noise, model error and error floor.
    weight : (N, P) Tensor
        Inverse variance, less for outliers, 0 if not used.
    """

    floor2: Tensor
    variance: Tensor
    weight: Tensor

    def rows(self, index: Tensor) -> Weights:
        """The weights of some of the stars."""
        return Weights(self.floor2[index], self.variance[index], self.weight[index])

    def with_rows(self, index: Tensor, part: Weights) -> Weights:
        """These weights with those of some of the stars replaced."""
        return Weights(
            self.floor2.index_copy(0, index, part.floor2),
            self.variance.index_copy(0, index, part.variance),
            self.weight.index_copy(0, index, part.weight),
        )


@dataclass(frozen=True)
class Near:
    """Pseudo-continua of a model that is near another one, from which those of the other quickly follow.

    Parameters
    ----------
    coefficients : (N, J) Tensor
        float64.
    system : NormalSystem
        Of this or an earlier model, with the same weights.
    """

    coefficients: Tensor
    system: NormalSystem


@dataclass(frozen=True)
class Point:
    """A trial: parameters, and what follows from them.

    Parameters
    ----------
    parameters : (N, L + 2) Tensor
        float64.
    cost : (N,) Tensor
        Weighted sum of squared residuals, float64.
    gradient : (N, L + 2) Tensor
        Of half the cost, float64.
    state : ModelState
        The model's spectra.
    curve : (N, P) Tensor
        Pseudo-continua.
    residual : (N, P) Tensor
        Observed minus model flux.
    near : Near
        The pseudo-continua's coefficients, and the system they are from.
    """

    parameters: Tensor
    cost: Tensor
    gradient: Tensor
    state: ModelState
    curve: Tensor
    residual: Tensor
    near: Near


class Objective:
    """The cost of a batch of spectra.

    Parameters
    ----------
    forward : ForwardModel
        The model.
    continuum : ContinuumBasis
        On the forward model's pixels.
    bands : FloorBands
        On the same pixels.
    limit : float
        Deviation from which on pixels lose weight [sigma].
    fit_floor : bool
        Whether residuals may ask for an error floor.
    stated : ExpectedError, optional
        Which pixels the emulator errs in together.
    """

    def __init__(
        self,
        forward: ForwardModel,
        continuum: ContinuumBasis,
        bands: FloorBands,
        limit: float,
        fit_floor: bool,
        stated: ExpectedError | None = None,
    ) -> None:
        self.forward = forward
        self.continuum = continuum
        self.bands = bands
        # A model errs by whole lines: its error is the same within a resolution element, and counts as one of
        # independent pixels that is larger by the sum of the squared autocorrelation of a line.
        self._correlation = math.sqrt(2.0 * math.pi * resolution_variance(forward.resolution))
        self._limit = limit
        self._fit_floor = fit_floor
        self._size, shared = None, None
        if stated is not None:
            self._size = deepcopy(stated.size).to(forward.device)
            profile = torch.as_tensor(stated.profile[REACH:-REACH], dtype=torch.float32)
            self._profile2 = profile.square().to(forward.device)
        if stated is not None and len(stated.modes):
            shared = SharedError.of(stated, self._correlation, forward.device)
        #: Errors of the model that pixels have in common, if it states any.
        self.shared = shared

    def first_weights(self, observation: Observation, state: ModelState) -> Weights:
        """Weights at a start, where the model is a template and outliers are unknown."""
        plain = observation.use / observation.variance
        curve, residual, _ = self._residual(observation, state, plain)
        floor2 = torch.full_like(plain[:, : len(self.bands.member)], TEMPLATE_ERROR**2)
        return self._weights(observation, curve, residual, floor2)

    def expecting(self, observation: Observation, parameters: Tensor) -> Observation:
        """The observation with the emulator's error of a star with `parameters` (N, L + 2)."""
        if self._size is None:
            return observation
        amplitude = self._size(self.forward.labels(parameters)).float()
        more = (amplitude.square() - observation.amplitude.square())[:, None] * self._profile2
        variance = (observation.model_variance + more).clamp_min(0.0)
        return replace(observation, model_variance=variance, amplitude=amplitude)

    def weigh(
        self,
        observation: Observation,
        state: ModelState,
        weights: Weights,
        coefficients: Tensor | None = None,
    ) -> Weights:
        """Find error floors and outliers from the residuals of a trial.

        Parameters
        ----------
        observation : Observation
            The data.
        state : ModelState
            Of the trial.
        weights : Weights
            The weights so far.
        coefficients : (N, J) Tensor, optional
            Of the pseudo-continua that are best with these weights, if known.
        """
        if coefficients is None:
            curve, residual, _ = self._residual(observation, state, weights.weight)
        else:
            curve = self.continuum.curve(coefficients)
            residual = observation.flux - curve * state.flux
        floor2 = torch.zeros_like(weights.floor2)
        if self._fit_floor:
            curve2 = curve.square()
            own = observation.variance + observation.model_variance * curve2
            floor2 = self.bands.fit(residual.square(), own, curve2, observation.use, self._limit)
        return self._weights(observation, curve, residual, floor2)

    def _weights(self, observation: Observation, curve: Tensor, residual: Tensor, floor2: Tensor) -> Weights:
        if self.continuum.in_loops:
            variance, weight = loops.empty(*curve.shape), loops.empty(*curve.shape)
            loops.for_stars(
                weigh_pixels, len(curve),
                observation.variance, observation.model_variance, observation.use,
                curve, residual, floor2, self.bands.band,
                np.float32(self._correlation), np.float32(self._limit**2), variance, weight,
            )  # fmt: skip
            return Weights(floor2, variance, weight)
        model_variance = self._correlation * observation.model_variance
        variance = observation.variance + (model_variance + self.bands.spread(floor2)) * curve.square()
        inverse = observation.use / variance
        _, factor = outlier(residual.square() * inverse, self._limit)
        return Weights(floor2, variance, inverse * factor)

    def evaluate(self, observation: Observation, parameters: Tensor, weights: Weights) -> Point:
        """Cost and gradient at `parameters` (N, L + 2)."""
        return self.score(observation, parameters, self.forward.evaluate(parameters), weights)

    def score(
        self, observation: Observation, parameters: Tensor, state: ModelState, weights: Weights
    ) -> Point:
        """Cost and gradient of model spectra that are there already; once for each state."""
        curve, residual, near = self._residual(observation, state, weights.weight)
        weighted = weights.weight * residual
        prior = observation.prior
        cost = vecdot(weighted, residual).double() + prior.price(parameters)
        gradient = prior.pull(parameters) - self.forward.pull_back(state, weighted * curve)
        return Point(parameters, cost, gradient, state, curve, residual, near)

    def price(
        self, observation: Observation, parameters: Tensor, state: ModelState, weights: Weights
    ) -> Tensor:
        """The cost (N,) alone, float64."""
        _, residual, _ = self._residual(observation, state, weights.weight)
        cost = (weights.weight * residual * residual).sum(dim=1, dtype=torch.float64)
        return cost + observation.prior.price(parameters)

    def reduced_chi2(self, observation: Observation, point: Point) -> Tensor:
        """Reduced chi2 (N,) with the noise and the model's stated error alone, outliers counted as such."""
        variance = observation.variance + observation.model_variance * point.curve.square()
        price, _ = outlier(point.residual.square() * observation.use / variance, self._limit)
        fitted = point.parameters.shape[1] + self.continuum.size
        freedom = (observation.use.sum(dim=1) - fitted).clamp_min(1.0)
        return price.sum(dim=1, dtype=torch.float64) / freedom

    def _residual(
        self, observation: Observation, state: ModelState, weight: Tensor
    ) -> tuple[Tensor, Tensor, Near]:
        """The best pseudo-continua, observed minus model flux, and the coefficients of the former."""
        solved = self.continuum.solve_with_system(observation.flux, state.flux, weight)
        curve = self.continuum.curve(solved[0])
        return curve, observation.flux - curve * state.flux, Near(*solved)
