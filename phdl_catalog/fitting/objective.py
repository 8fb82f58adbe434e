"""What a fit minimises, its exact gradient, and its curvature.

The model of a star is ``C * f(parameters)`` with a smooth pseudo-continuum C.  For given parameters the best
C is the solution of a linear system, so it is not a parameter: the cost is that of the best C (variable
projection).  Its gradient is ``-sum of residual * weight * C * df``, and in the space of the emulator's basis
that costs no more than one spectrum.  The curvature (Gauss-Newton) does need all derivatives pixel by pixel;
the part of each that a change of continuum could imitate is taken out of it, so that its inverse is the
covariance with the continuum marginalised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from phdl_catalog.fitting.forward import ForwardModel, ModelState
from phdl_catalog.fitting.noise import FloorBands, outlier
from phdl_catalog.spectra.continuum import ContinuumBasis

#: Stars whose pixel-by-pixel derivatives are in memory at one time, on a processor with a cache.
_CURVATURE_BATCH = 8


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
    model_variance : (P,) Tensor
        Squared error of the model, as a fraction of the continuum.
    """

    flux: Tensor
    variance: Tensor
    use: Tensor
    model_variance: Tensor

    def rows(self, index: Tensor) -> Observation:
        """The observation of some of the stars."""
        return replace(self, flux=self.flux[index], variance=self.variance[index], use=self.use[index])


@dataclass(frozen=True)
class Point:
    """A trial: parameters, and what follows from them.

    Parameters
    ----------
    parameters : (N, L + 2) Tensor
        float64.
    cost : (N,) Tensor
        Robust chi2, float64.
    gradient : (N, L + 2) Tensor
        Of half the cost, float64.
    state : ModelState
        The model's spectra.
    curve : (N, P) Tensor
        Pseudo-continua.
    residual : (N, P) Tensor
        Observed minus model flux.
    total_variance : (N, P) Tensor
        Noise, model error and error floor.
    weight : (N, P) Tensor
        What pixels count: inverse variance, less for outliers, 0 if not used.
    """

    parameters: Tensor
    cost: Tensor
    gradient: Tensor
    state: ModelState
    curve: Tensor
    residual: Tensor
    total_variance: Tensor
    weight: Tensor


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
    outlier : float
        Deviation from which on pixels lose weight [sigma].
    """

    def __init__(
        self, forward: ForwardModel, continuum: ContinuumBasis, bands: FloorBands, outlier: float
    ) -> None:
        self.forward = forward
        self.continuum = continuum
        self.bands = bands
        self.outlier = outlier

    def first(self, observation: Observation, parameters: Tensor, floor2: Tensor) -> Point:
        """Evaluate without an earlier trial: outliers are unknown, so the curve is found twice."""
        guess = self.evaluate(observation, parameters, floor2, observation.use / observation.variance, None)
        return self.evaluate(observation, parameters, floor2, guess.weight, guess.curve)

    def evaluate(
        self,
        observation: Observation,
        parameters: Tensor,
        floor2: Tensor,
        weight: Tensor,
        curve: Tensor | None,
    ) -> Point:
        """Cost and gradient at `parameters`.

        Parameters
        ----------
        observation : Observation
            The data.
        parameters : (N, L + 2) Tensor
            Where.
        floor2 : (N, M) Tensor
            Squared error floors of the bands.
        weight, curve : (N, P) Tensor
            Weights and pseudo-continua of the trial before this one; they change little from trial to trial.
        """
        state = self.forward.evaluate(parameters)
        solution = self.continuum.solve(observation.flux, state.flux, weight)
        new_curve = self.continuum.curve(solution)
        floor = self.bands.spread(floor2) + observation.model_variance
        total = observation.variance + floor * (new_curve if curve is None else curve).square()
        residual = observation.flux - new_curve * state.flux
        inverse = observation.use / total
        price, factor = outlier(residual.square() * inverse, self.outlier)
        new_weight = inverse * factor
        cost = price.sum(dim=1, dtype=torch.float64)
        gradient = -self.forward.pull_back(state, new_weight * residual * new_curve)
        return Point(parameters, cost, gradient, state, new_curve, residual, total, new_weight)

    def floors(self, observation: Observation, point: Point) -> Tensor:
        """Squared error floors (N, M) that the residuals of a trial ask for."""
        curve2 = point.curve.square()
        return self.bands.fit(
            point.residual.square(),
            observation.variance + observation.model_variance * curve2,
            curve2,
            observation.use,
            self.outlier,
        )

    def curvature(self, point: Point, directions: Tensor | None = None) -> Tensor:
        """Half the second derivatives of the cost, continuum marginalised.

        Parameters
        ----------
        point : Point
            Where.
        directions : (D, L) Tensor, optional
            Directions in the space of scaled labels; default: every label.

        Returns
        -------
        (N, D + 2, D + 2) Tensor
            float64.
        """
        size = len(point.parameters)
        batch = _CURVATURE_BATCH if point.weight.device.type == "cpu" else size
        blocks = [
            self._curvature(point, slice(start, start + batch), directions) for start in range(0, size, batch)
        ]
        return torch.cat(blocks)

    def _curvature(self, point: Point, rows: slice, directions: Tensor | None) -> Tensor:
        state = ModelState(
            point.state.flux[rows],
            point.state.by_shift[rows],
            point.state.by_blur[rows],
            point.state.labels[rows],
            point.state.coefficients[rows],
            replace(point.state.filters, taps=point.state.filters.taps[rows]),
        )
        weight = point.weight[rows]
        jacobian = self.forward.jacobian(state, directions) * (point.curve[rows] * weight.sqrt())[:, None]
        own = torch.bmm(jacobian, jacobian.mT).double()
        cross = ((jacobian * (weight.sqrt() * state.flux)[:, None]) @ self.continuum.design.T).double()
        factor, _ = torch.linalg.cholesky_ex(self.continuum.normal_matrix(weight * state.flux.square()))
        imitated = torch.linalg.solve_triangular(factor, cross.mT, upper=False)
        return own - imitated.mT @ imitated
