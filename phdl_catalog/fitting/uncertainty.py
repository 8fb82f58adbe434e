"""Errors of labels: the Cramer-Rao bound, and what the data add to what was known before.

The curvature of the cost is the Fisher matrix F of the labels, velocity and line width, with the
pseudo-continuum marginalised; where pixels err together (`phdl_catalog.fitting.shared_error`), F is what
independent pixels would need to leave the same uncertainty.  Before any data a label is known to lie within
the training range, of width w: a variance of ``w**2 / 12``, and the Fisher information ``12 / w**2``.  A
label that the spectrum hardly constrains would otherwise, with an error of many dex, carry others along
beyond what is possible.  So the covariance is that of ``F + diag(12 / w**2)``, and from the variance v of
each label its *own* prior is taken out again: ``1 / e**2 = 1 / v - 12 / w**2``.  The error e of a label is
therefore from the data alone, while the others are only as free as the grid lets them be.  For
well-constrained labels it is the Cramer-Rao bound, where no errors are shared.

`information` is ``1 - v * 12 / w**2``: the fraction of what is known that comes from the data, 1 if the range
of the grid has no part in it and 0 if it is all there is.  At 0.5 the error is 0.29 times the range.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Fraction of information from the data under which a label is flagged as unconstrained.
LEAST_INFORMATION = 0.5

#: Variance of a uniform distribution between -1 and 1, the scaled range of a label.
_UNIFORM_VARIANCE = 1.0 / 3.0

#: Prior variances of the shift [pixels squared] and blur [pixels to the fourth]: nearly none.
_OTHER_VARIANCE = 1e4

#: Added to the diagonal of a scaled covariance of gradients: single precision of the sums that it is from.
_RIDGE = 1e-6

#: Smallest fraction of information: the error is then 1e3 times the prior's.
_NO_INFORMATION = 1e-6


@dataclass(frozen=True)
class Uncertainty:
    """Errors of a batch, in scaled parameters.

    Parameters
    ----------
    errors : (N, L + 2) Tensor
        One sigma.
    covariance : (N, L + 2, L + 2) Tensor
        Of all parameters; its diagonal is the square of `errors`.
    information : (N, L + 2) Tensor
        Fraction of what is known that comes from the data, 0 to 1.
    """

    errors: Tensor
    covariance: Tensor
    information: Tensor


def effective_curvature(curvature: Tensor, noise: Tensor) -> Tensor:
    """The Fisher matrix of independent pixels that would leave labels as uncertain as they are.

    Parameters
    ----------
    curvature, noise : (N, D, D) Tensor
        Half the second derivatives H of the cost, and the covariance M of its gradient, float64.

    Returns
    -------
    (N, D, D) Tensor
        ``H M^-1 H``, which is H where the two are one; its inverse is the covariance ``H^-1 M H^-1``.
    """
    if noise is curvature:
        return curvature
    scale = torch.diagonal(curvature, dim1=1, dim2=2).clamp_min(1e-30).rsqrt()
    scaled = curvature * scale[:, :, None] * scale[:, None, :]
    matrix = noise * scale[:, :, None] * scale[:, None, :]
    torch.diagonal(matrix, dim1=1, dim2=2).add_(_RIDGE)
    factor, _ = torch.linalg.cholesky_ex(matrix)
    half = torch.linalg.solve_triangular(factor, scaled, upper=False)
    return (half.mT @ half) / scale[:, :, None] / scale[:, None, :]


def uncertainty(curvature: Tensor, fixed: Tensor, known: Tensor | None = None) -> Uncertainty:
    """Errors from a Fisher matrix.

    Parameters
    ----------
    curvature : (N, L + 2, L + 2) Tensor
        Fisher matrix in scaled parameters, float64.
    fixed : (L + 2,) Tensor
        True for parameters that were not fitted; their errors are 0.
    known : (N, L + 2) Tensor, optional
        Precisions of Gaussian priors that took part in the fit, 0 where there was none.  The error of such a
        label contains its prior.

    Returns
    -------
    Uncertainty
    """
    size = curvature.shape[1]
    variance = torch.full((size,), _UNIFORM_VARIANCE, dtype=curvature.dtype, device=curvature.device)
    variance[-2:] = _OTHER_VARIANCE
    variance = torch.where(fixed, torch.full_like(variance, 1e-18), variance)
    if known is None:
        known = curvature.new_zeros(curvature.shape[:2])
    spread = (1.0 / (1.0 / variance + known)).sqrt()
    # Prior information is now the unit matrix.
    scaled = curvature * spread[:, :, None] * spread[:, None, :]
    scaled = (scaled + scaled.mT) / 2.0 + torch.eye(size, dtype=curvature.dtype, device=curvature.device)
    factor, _ = torch.linalg.cholesky_ex(scaled)
    posterior = torch.cholesky_inverse(factor)
    diagonal = torch.diagonal(posterior, dim1=1, dim2=2)
    information = (1.0 - diagonal).clamp(0.0, 1.0)
    without_own = diagonal / information.clamp_min(_NO_INFORMATION)
    widened = torch.where(known > 0, diagonal, without_own)
    errors = widened.sqrt() * spread
    errors = torch.where(fixed, torch.zeros_like(errors), errors)
    correlation = posterior * diagonal.rsqrt()[:, :, None] * diagonal.rsqrt()[:, None, :]
    covariance = correlation * errors[:, :, None] * errors[:, None, :]
    return Uncertainty(errors, covariance, information)
