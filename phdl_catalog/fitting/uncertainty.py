"""Labels and their errors: the mean and the spread of all that is possible between the bounds of the fit.

At the minimum of the cost the curvature is the Fisher matrix F of the labels, velocity and line width, with
the pseudo-continuum marginalised; where pixels err together (`phdl_catalog.fitting.shared_error`), F is what
independent pixels would need to leave the same uncertainty.  To linear theory the data then say a Gaussian of
all labels, whose mean may be outside the bounds of some.

Before any data a label is known to lie between the bounds of the fit, anywhere.  A label that the spectrum
hardly constrains would otherwise, with an error of many dex, carry others along beyond what is possible.  So
value and error of each label are the mean and the standard deviation of that Gaussian between the bounds of
all (`phdl_catalog.fitting.box`): what samples of the posterior would give.  For well-constrained labels this
is the minimum of the cost, and the error is the Cramer-Rao bound, where no errors are shared.

The slopes at the minimum say little of the way to the middle, where noise has put a label that is hardly
constrained at a bound: of such a label a spectrum knows nothing until it is high.  What is well measured
would make up for it.  So means are found twice, from the gradient at the minimum and from that at the first
means: a step of Newton's method towards where gradient and bounds agree (`Solver.estimate`).

Flags ask what the *data* say of a label, whatever the others are between their bounds: the same without the
label's own bounds, `Alone`.

`information` compares the precision of the data alone, ``1 / e**2``, with that of an even distribution
between the bounds, ``12 / width**2``: 1 if the bounds have no part in what is known of a label and 0 if they
are all there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phdl_catalog.fitting.box import (
    Box,
    Factors,
    covariance_with,
    factors_of_bounds,
    marginals,
    moments_between,
    precision_without_own,
)

#: Precisions of the shift [1 / pixels squared] and blur [1 / pixels to the fourth] without data: nearly none.
_OTHERS = 1e-4

#: Precision of a parameter that is not fitted.
_FIXED = 1e18

#: Smallest width of a box.
_TINY = 1e-9

#: Added to the diagonal of a scaled covariance of gradients: single precision of the sums that it is from.
_RIDGE = 1e-6


@dataclass(frozen=True)
class Alone:
    """What the data say of each parameter, whatever the others are between their bounds; both (N, L + 2).

    Parameters
    ----------
    values : Tensor
        At its bound where the data want it beyond.
    errors : Tensor
        One sigma; may be many times what bounds allow.
    """

    values: Tensor
    errors: Tensor


@dataclass(frozen=True)
class Estimate:
    """Parameters of a batch and their errors, in scaled units; (N, L + 2) and (N, L + 2, L + 2).

    Parameters
    ----------
    values : Tensor
        Means between bounds.
    errors : Tensor
        One sigma.
    covariance : Tensor
        Of all parameters; its diagonal is the square of `errors`.
    alone : Alone
        Without a parameter's own bounds.
    information : Tensor
        Fraction of what is known that comes from the data, 0 to 1.
    bounds : Tensor
        Cramer-Rao bounds: the errors of the data alone, if those of all pixels were independent.
    """

    values: Tensor
    errors: Tensor
    covariance: Tensor
    alone: Alone
    information: Tensor
    bounds: Tensor


@dataclass(frozen=True)
class LinearTheory:
    """What derivatives at one place say of N stars wherever they are, if spectra change evenly.

    Parameters
    ----------
    matrix : (N, D, D) Tensor
        Inverse covariance of the parameters without their bounds, float64.
    curvature : (N, D, D) Tensor
        Half the second derivatives of the cost by the data.
    prior, known : (N, D) Tensor
        Precisions of the priors, and of all that is known beforehand, bounds apart.
    box : Box
        The bounds.
    free, bounded : (D,) Tensor
        1 for parameters that were fitted, and for those of them that the box is meant for.
    effective : EffectiveFisher or None
        What stands for the curvature where pixels err together.
    """

    matrix: Tensor
    curvature: Tensor
    prior: Tensor
    known: Tensor
    box: Box
    free: Tensor
    bounded: Tensor
    effective: EffectiveFisher | None

    @classmethod
    def of(
        cls, curvature: Tensor, noise: Tensor, box: Box, fixed: Tensor, precision: Tensor | None = None
    ) -> LinearTheory:
        """From the derivatives inside a box.

        Parameters
        ----------
        curvature, noise : (N, L + 2, L + 2) Tensor
            Half the second derivatives of the cost by the data, and the covariance of its gradient, float64.
            The two are one if the errors of pixels are independent.
        box : Box
            The bounds.
        fixed : (L + 2,) Tensor
            True for parameters that were not fitted; their errors are 0.
        precision : (N, L + 2) Tensor, optional
            Of Gaussian priors that took part in the fit, 0 where there was none.  The error of such a label
            contains its prior.
        """
        effective = None if noise is curvature else EffectiveFisher.of(curvature, noise)
        prior = torch.zeros_like(box.lower) if precision is None else precision
        known = prior.clone()
        known[:, -2:] += _OTHERS
        known[:, fixed] = _FIXED
        free = (~fixed).to(curvature.dtype)
        bounded = free.clone()
        bounded[-2:] = 0.0
        matrix = (curvature if effective is None else effective.matrix) + torch.diag_embed(known)
        return cls(matrix, curvature, prior, known, box, free, bounded, effective)

    def _pull(self, parameters: Tensor, gradient: Tensor, pulled: Tensor | None) -> Tensor:
        slope = gradient if pulled is None else gradient - pulled
        if self.effective is not None:
            slope = self.effective.slope(slope)
        if pulled is not None:
            slope = slope + pulled
        return torch.bmm(self.matrix, parameters[:, :, None])[:, :, 0] - slope * self.free

    def means(
        self, parameters: Tensor, gradient: Tensor, pulled: Tensor | None = None
    ) -> tuple[Tensor, Factors]:
        """Means (N, D) between bounds, and factors that stand for these; arguments as for `estimate`."""
        pull = self._pull(parameters, gradient, pulled)
        factors = factors_of_bounds(self.matrix, pull, self.box, self.bounded)
        covariance = covariance_with(self.matrix, factors.precision)
        mean = torch.bmm(covariance, (pull + factors.pull)[:, :, None])[:, :, 0]
        return _numbers(mean, parameters, self.box), factors

    def estimate(
        self,
        parameters: Tensor,
        gradient: Tensor,
        pulled: Tensor | None = None,
        factors: Factors | None = None,
    ) -> Estimate:
        """All that is possible between bounds.

        Parameters
        ----------
        parameters, gradient : (N, D) Tensor
            A place, and the gradient of half the cost there: at the minimum not 0 along those at a bound.
        pulled : (N, D) Tensor, optional
            What priors add to the gradient.
        factors : Factors, optional
            For the bounds, from a place nearby.
        """
        box, free = self.box, self.free
        pull = self._pull(parameters, gradient, pulled)
        factors = factors_of_bounds(self.matrix, pull, box, self.bounded, factors)
        free_values, free_variance, covariance = marginals(self.matrix, pull, factors)
        values, variance = moments_between(free_values, free_variance.sqrt(), box.lower, box.upper)
        values = torch.where(self.bounded > 0, values, free_values)
        errors = torch.where(self.bounded > 0, variance, free_variance).sqrt() * free
        # Where numbers fail, the place is what is left.
        alone = Alone(_numbers(free_values, parameters, box), free_variance.sqrt() * free)
        values = _numbers(values, parameters, box)
        scale = errors * torch.diagonal(covariance, dim1=1, dim2=2).rsqrt()
        covariance = covariance * scale[:, :, None] * scale[:, None, :]
        bounds = alone.errors
        if self.effective is not None:
            independent = covariance_with(self.curvature, self.known + factors.precision)
            all_known = 1.0 / torch.diagonal(independent, dim1=1, dim2=2)
            bounds = precision_without_own(all_known, factors).rsqrt() * free
        data = (1.0 / free_variance - self.known).clamp_min(0.0)
        even = 12.0 / (box.upper - box.lower).clamp_min(_TINY).square()
        return Estimate(values, errors, covariance, alone, data / (data + even + self.prior), bounds)


@dataclass(frozen=True)
class EffectiveFisher:
    """The Fisher matrix of independent pixels that would leave labels as uncertain as they are.

    Parameters
    ----------
    matrix : (N, D, D) Tensor
        ``H M^-1 H``, whose inverse is the covariance ``H^-1 M H^-1``; float64.
    factor, half : (N, D, D) Tensor
        Cholesky's of the scaled M, and its inverse times the scaled H.
    scale : (N, D) Tensor
        Units of parameters in those two.
    """

    matrix: Tensor
    factor: Tensor
    half: Tensor
    scale: Tensor

    @classmethod
    def of(cls, curvature: Tensor, noise: Tensor) -> EffectiveFisher:
        """From half the second derivatives H of a cost, and the covariance M of its gradient, float64."""
        scale = torch.diagonal(curvature, dim1=1, dim2=2).clamp_min(1e-30).rsqrt()
        both = scale[:, :, None] * scale[:, None, :]
        matrix = noise * both
        torch.diagonal(matrix, dim1=1, dim2=2).add_(_RIDGE)
        factor, _ = torch.linalg.cholesky_ex(matrix)
        half = torch.linalg.solve_triangular(factor, curvature * both, upper=False)
        return cls(half.mT @ half / both, factor, half, scale)

    def slope(self, gradient: Tensor) -> Tensor:
        """The gradient (N, D) that, with `matrix`, leads to the same minimum: ``H M^-1 gradient``."""
        right = (gradient * self.scale)[:, :, None]
        right = self.half.mT @ torch.linalg.solve_triangular(self.factor, right, upper=False)
        return right[:, :, 0] / self.scale


def _numbers(values: Tensor, otherwise: Tensor, box: Box) -> Tensor:
    """Values inside the box, others where they are no numbers."""
    return box.inside(torch.where(torch.isfinite(values), values, otherwise))
