"""What the bounds of labels say: even distributions between them, as Gaussians.

A label that the spectrum hardly constrains can have any value between its bounds, and labels that share its
lines follow it: in a cool star carbon follows oxygen.  The minimum of chi2 inside the bounds is then at one
of them, as far from the truth as a label can be.  The mean over all that is possible is not.

The distribution is a Gaussian, cut off at the faces of a box.  Its moments have no closed form; each face
pair is replaced by a Gaussian factor that has the same effect (expectation propagation; Minka 2001, UAI 17,
362; for boxes Cunningham, Hennig and Lacoste-Julien 2011, arXiv:1111.6832).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: A parameter is at a bound if it is nearer to it than this, in scaled units.
_AT_BOUND = 1e-3

#: Times that the factors are found anew: after three, one value in a thousand is 0.01 of its error from the
#: end, and none 0.05.  From those of a place nearby one is enough: one value in a hundred is 0.001 from the
#: end, and none 0.06.
_SWEEPS, _FEWER_SWEEPS = 3, 1

#: A box that is narrower than this, in units of the error, is evenly filled.
_NARROW = 0.1

#: Smallest width of a box.
_TINY = 1e-9

#: Least part of what is known of a parameter that is by the data: its error is then 1e3 times what bounds
#: allow.
_NO_INFORMATION = 1e-6


@dataclass(frozen=True)
class Box:
    """Bounds (N, D) of parameters."""

    lower: Tensor
    upper: Tensor

    def inside(self, parameters: Tensor) -> Tensor:
        """The nearest parameters between the bounds."""
        return torch.minimum(torch.maximum(parameters, self.lower), self.upper)

    def touched(self, parameters: Tensor) -> Tensor:
        """Which parameters are at a bound."""
        return (parameters <= self.lower + _AT_BOUND) | (parameters >= self.upper - _AT_BOUND)

    def rows(self, index: Tensor) -> Box:
        """The bounds of some of the stars."""
        return Box(self.lower[index], self.upper[index])


@dataclass(frozen=True)
class Factors:
    """Gaussians that stand for the bounds of each parameter.

    Parameters
    ----------
    precision : (N, D) Tensor
        0 where there are no bounds, or none that matter.
    pull : (N, D) Tensor
        Precision times mean.
    """

    precision: Tensor
    pull: Tensor


def moments_between(mean: Tensor, sigma: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of Gaussians that are cut off at `lower` and `upper`; all float64, of one shape."""
    low, high = (lower - mean) / sigma, (upper - mean) / sigma
    # Mirrored, so that more of the box is above the mean.
    mirrored = low + high < 0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    # Densities at the two ends over the probability between them, both relative to the density at the nearer
    # end where that is above the mean: far out, probabilities underflow.
    root, unit = math.sqrt(0.5), math.sqrt(2.0 / math.pi)
    fall = torch.exp(((low.square() - high.square()) / 2.0).clamp_max(0.0))
    above = torch.special.erfcx(low.clamp_min(0.0) * root) - torch.special.erfcx(high * root) * fall
    around = torch.erf(high * root) - torch.erf(low * root)
    far = low > 0
    at_low = unit * torch.where(far, 1.0 / above, torch.exp(-low.square() / 2.0) / around)
    at_high = at_low * torch.where(far, fall, torch.exp((low.square() - high.square()) / 2.0))
    centre = at_low - at_high
    variance = 1.0 + low * at_low - high * at_high - centre.square()
    # In a narrow box the density is a straight line: no differences of nearly equal numbers.
    width, middle = high - low, (high + low) / 2.0
    narrow = width < _NARROW
    even = width.square() / 12.0
    centre = torch.where(narrow, middle * (1.0 - even), centre)
    variance = torch.where(narrow, even, variance)
    centre = torch.minimum(torch.maximum(centre, low), high)
    # About that of the exponential which the density is far out, whatever cancels there.
    most = 1.0 / (1.0 + low.clamp_min(0.0).square())
    variance = torch.minimum(torch.maximum(variance, 0.3 * torch.minimum(even, most)), most)
    return mean + sigma * torch.where(mirrored, -centre, centre), sigma.square() * variance


def covariance_with(curvature: Tensor, precision: Tensor) -> Tensor:
    """Inverses (N, D, D) of curvatures to whose diagonals precisions (N, D) are added; positive definite."""
    matrix = curvature.clone()
    torch.diagonal(matrix, dim1=1, dim2=2).add_(precision)
    factor, _ = torch.linalg.cholesky_ex(matrix)
    return torch.cholesky_inverse(factor)


def factors_of_bounds(
    curvature: Tensor, pull: Tensor, box: Box, bounded: Tensor, factors: Factors | None = None
) -> Factors:
    """Gaussians that do what the faces of a box do to a Gaussian.

    Parameters
    ----------
    curvature : (N, D, D) Tensor
        Inverse covariance, float64; may be singular along bounded parameters.
    pull : (N, D) Tensor
        The same times the mean.
    box : Box
        The faces.
    bounded : (D,) Tensor
        1 for parameters that have any, 0 for others.
    factors : Factors, optional
        To begin with: those of a similar problem.

    Returns
    -------
    Factors
    """
    sweeps = _FEWER_SWEEPS
    if factors is None:
        sweeps = _SWEEPS
        precision = 12.0 / (box.upper - box.lower).clamp_min(_TINY).square() * bounded
        factors = Factors(precision, precision * (box.upper + box.lower) / 2.0)
    for _ in range(sweeps):
        mean, variance, _ = marginals(curvature, pull, factors)
        inner, spread = moments_between(mean, variance.sqrt(), box.lower, box.upper)
        more = (1.0 / spread.clamp_min(_TINY**2) - 1.0 / variance).clamp_min(0.0) * bounded
        drawn = (inner / spread.clamp_min(_TINY**2) - mean / variance) * bounded
        factors = Factors(more, drawn)
    return factors


def marginals(curvature: Tensor, pull: Tensor, factors: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """Means and variances of parameters where each has the bounds of all others, but not its own.

    Parameters
    ----------
    curvature, pull : (N, D, D) and (N, D) Tensor
        As for `factors_of_bounds`.
    factors : Factors

    Returns
    -------
    mean, variance : (N, D) Tensor
    covariance : (N, D, D) Tensor
        With the bounds of all.
    """
    covariance = covariance_with(curvature, factors.precision)
    mean = torch.bmm(covariance, (pull + factors.pull)[:, :, None])[:, :, 0]
    all_known = 1.0 / torch.diagonal(covariance, dim1=1, dim2=2)
    alone = 1.0 / precision_without_own(all_known, factors)
    return alone * (mean * all_known - factors.pull), alone, covariance


def precision_without_own(precision: Tensor, factors: Factors) -> Tensor:
    """What is left of the precision (N, D) of each parameter without its own bounds."""
    return torch.maximum(precision - factors.precision, _NO_INFORMATION * precision)
