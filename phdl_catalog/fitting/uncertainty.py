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


def effective(curvature: Tensor, noise: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The Fisher matrix of independent pixels that would leave labels as uncertain as they are.

    Parameters
    ----------
    curvature, noise : (N, D, D) Tensor
        Half the second derivatives H of the cost, and the covariance M of its gradient, float64.
    gradient : (N, D) Tensor
        Of half the cost.

    Returns
    -------
    (N, D, D) Tensor
        ``H M^-1 H``, which is H where the two are one; its inverse is the covariance ``H^-1 M H^-1``.
    (N, D) Tensor
        The gradient that, with it, leads to the same minimum: ``H M^-1 gradient``.
    """
    if noise is curvature:
        return curvature, gradient
    scale = torch.diagonal(curvature, dim1=1, dim2=2).clamp_min(1e-30).rsqrt()
    scaled = curvature * scale[:, :, None] * scale[:, None, :]
    matrix = noise * scale[:, :, None] * scale[:, None, :]
    torch.diagonal(matrix, dim1=1, dim2=2).add_(_RIDGE)
    factor, _ = torch.linalg.cholesky_ex(matrix)
    right = torch.cat([scaled, (gradient * scale)[:, :, None]], dim=2)
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    both = half[:, :, :-1].mT @ half
    return both[:, :, :-1] / scale[:, :, None] / scale[:, None, :], both[:, :, -1] / scale


def estimate(
    parameters: Tensor,
    gradient: Tensor,
    curvature: Tensor,
    noise: Tensor,
    box: Box,
    fixed: Tensor,
    prior: tuple[Tensor, Tensor] | None = None,
) -> Estimate:
    """All that is possible between bounds, from the curvature at the minimum of the cost inside a box.

    Parameters
    ----------
    parameters, gradient : (N, L + 2) Tensor
        The minimum, and the gradient of half the cost there: not 0 along parameters at a bound.
    curvature, noise : (N, L + 2, L + 2) Tensor
        By the data, float64; see `effective`.
    box : Box
        The bounds.
    fixed : (L + 2,) Tensor
        True for parameters that were not fitted; their errors are 0.
    prior : pair of (N, L + 2) Tensor, optional
        Precisions of Gaussian priors that took part in the fit, 0 where there was none, and what they add to
        the gradient.  The error of such a label contains its prior.

    Returns
    -------
    Estimate
    """
    known, pulled = prior or (torch.zeros_like(gradient), torch.zeros_like(gradient))
    matrix, slope = effective(curvature, noise, gradient - pulled)
    known_else = known.clone()
    known_else[:, -2:] += _OTHERS
    known_else[:, fixed] = _FIXED
    matrix = matrix + torch.diag_embed(known_else)
    free = (~fixed).to(parameters.dtype)
    pull = torch.bmm(matrix, parameters[:, :, None])[:, :, 0] - (slope + pulled) * free
    bounded = free.clone()
    bounded[-2:] = 0.0
    factors = factors_of_bounds(matrix, pull, box, bounded)
    free_values, free_variance, covariance = marginals(matrix, pull, factors)
    values, variance = moments_between(free_values, free_variance.sqrt(), box.lower, box.upper)
    values = torch.where(bounded > 0, values, free_values)
    errors = torch.where(bounded > 0, variance, free_variance).sqrt() * free
    # Where numbers fail, the minimum is what is left.
    alone = Alone(_numbers(free_values, parameters, box), free_variance.sqrt() * free)
    values = _numbers(values, parameters, box)
    scale = errors * torch.diagonal(covariance, dim1=1, dim2=2).rsqrt()
    covariance = covariance * scale[:, :, None] * scale[:, None, :]
    bounds = alone.errors
    if noise is not curvature:
        independent = covariance_with(curvature, known_else + factors.precision)
        all_known = 1.0 / torch.diagonal(independent, dim1=1, dim2=2)
        bounds = precision_without_own(all_known, factors).rsqrt() * free
    data = (1.0 / free_variance - known_else).clamp_min(0.0)
    even = 12.0 / (box.upper - box.lower).clamp_min(_TINY).square()
    return Estimate(values, errors, covariance, alone, data / (data + even + known), bounds)


def _numbers(values: Tensor, otherwise: Tensor, box: Box) -> Tensor:
    """Values inside the box, others where they are no numbers."""
    return box.inside(torch.where(torch.isfinite(values), values, otherwise))
