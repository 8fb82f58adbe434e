"""One step of a bounded Gauss-Newton fit, for a batch of stars at once."""

from __future__ import annotations

import torch
from torch import Tensor

#: Times that parameters which would leave their bounds are put on them, and the others solved for again.
_PASSES = 3

#: Smallest curvature along a step that a secant update accepts, as a fraction of the expected one.
_LEAST_CURVATURE = 0.2

#: Added to the diagonal of the scaled curvature: keeps directions without any information at rest.
_RIDGE = 1e-9


def bounded_step(
    gradient: Tensor, curvature: Tensor, damping: Tensor, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimise the quadratic model of the cost inside a box.

    Parameters whose unbounded optimum is outside the box are put on its face and the others solved for again
    (a primal active-set method of a fixed number of passes); a parameter on a face leaves it as soon as the
    gradient points inside, because each call begins with all of them free.

    Parameters
    ----------
    gradient : (N, D) Tensor
        Of half the cost, float64.
    curvature : (N, D, D) Tensor
        Half the second derivatives, float64, positive semi-definite.
    damping : (N,) Tensor
        Levenberg-Marquardt damping, relative to the diagonal of the curvature.
    lower, upper : (N, D) Tensor
        Largest steps down (not positive) and up (not negative); where both are 0 a parameter is fixed.

    Returns
    -------
    step : (N, D) Tensor
        Inside the box.
    length : (N,) Tensor
        Length of the step in units of the error ellipsoid.
    """
    diagonal = torch.diagonal(curvature, dim1=1, dim2=2).clamp_min(1e-30)
    scale = diagonal.rsqrt()
    matrix = curvature * scale[:, :, None] * scale[:, None, :]
    matrix = matrix + torch.diag_embed((damping[:, None] + _RIDGE).expand_as(scale))
    right = -gradient * scale
    low, high = lower / scale, upper / scale

    held = torch.zeros_like(right, dtype=torch.bool)
    step = torch.zeros_like(right)
    identity = torch.eye(right.shape[1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(_PASSES):
        free = (~held).to(matrix.dtype)
        reduced = matrix * free[:, :, None] * free[:, None, :] + identity * (1.0 - free)[:, :, None]
        on_face = torch.where(held, step, torch.zeros_like(step))
        target = torch.where(held, step, right - torch.einsum("nij,nj->ni", matrix, on_face))
        factor, _ = torch.linalg.cholesky_ex(reduced)
        solution = torch.cholesky_solve(target.unsqueeze(-1), factor).squeeze(-1)
        step = torch.minimum(torch.maximum(solution, low), high)
        held = held | (solution <= low) | (solution >= high)
    length = torch.einsum("ni,nij,nj->n", step, matrix, step).clamp_min(0.0).sqrt()
    return step * scale, length


def secant_update(curvature: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """Correct a curvature by what a step showed (damped BFGS; Powell 1978).

    Gauss-Newton leaves out the second derivatives of the model.  For labels that the spectrum hardly
    constrains they matter, and without them steps overshoot back and forth.

    Parameters
    ----------
    curvature : (N, D, D) Tensor
        Positive definite.
    step : (N, D) Tensor
        A step, taken or rejected.
    change : (N, D) Tensor
        Change of the gradient along it.

    Returns
    -------
    (N, D, D) Tensor
        Positive definite; unchanged where the step is 0.
    """
    expected = torch.einsum("nij,nj->ni", curvature, step)
    along_expected = (step * expected).sum(dim=1)
    along_change = (step * change).sum(dim=1)
    enough = along_change >= _LEAST_CURVATURE * along_expected
    mix = (1.0 - _LEAST_CURVATURE) * along_expected / (along_expected - along_change).clamp_min(1e-30)
    mix = torch.where(enough, torch.ones_like(mix), mix)[:, None]
    change = mix * change + (1.0 - mix) * expected
    along_change = (step * change).sum(dim=1)
    moved = (along_expected > 1e-20) & (along_change > 1e-20)
    gain = change[:, :, None] * change[:, None, :] / along_change.clamp_min(1e-20)[:, None, None]
    loss = expected[:, :, None] * expected[:, None, :] / along_expected.clamp_min(1e-20)[:, None, None]
    return torch.where(moved[:, None, None], curvature + gain - loss, curvature)
