"""One step of a bounded Gauss-Newton fit, for a batch of stars at once."""

from __future__ import annotations

import torch
from torch import Tensor

#: Passes of the active-set method.
_PASSES = 5

#: Smallest curvature along a step that a secant update accepts, as a fraction of the expected one.
_LEAST_CURVATURE = 0.2

#: Added to the diagonal of the scaled curvature: keeps directions without any information at rest.
_RIDGE = 1e-9


def bounded_step(gradient: Tensor, curvature: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise the quadratic model of the cost inside a box.

    Parameters
    ----------
    gradient : (N, D) Tensor
        Of half the cost, float64.
    curvature : (N, D, D) Tensor
        Half the second derivatives, float64, positive semi-definite.
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
    matrix = matrix + _RIDGE * torch.eye(scale.shape[1], dtype=scale.dtype, device=scale.device)
    right = -gradient * scale
    low, high = lower / scale, upper / scale

    step = _active_set(matrix, right, low, high)
    length = torch.einsum("ni,nij,nj->n", step, matrix, step).clamp_min(0.0).sqrt()
    return step * scale, length


def _active_set(matrix: Tensor, right: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The best point of a few passes of the primal-dual active-set method (Hintermueller et al. 2002).

    It finds the exact minimum nearly always, but may go in circles; what it returns is never worse than 0.
    """
    best = torch.zeros_like(right)
    lowest = torch.zeros_like(right[:, 0])
    identity = torch.eye(right.shape[1], dtype=matrix.dtype, device=matrix.device)
    face = torch.zeros_like(right)
    held = torch.zeros_like(right, dtype=torch.bool)
    for _ in range(_PASSES):
        free = (~held).to(matrix.dtype)
        reduced = matrix * free[:, :, None] * free[:, None, :] + identity * (1.0 - free)[:, :, None]
        target = torch.where(held, face, right - torch.einsum("nij,nj->ni", matrix, face))
        factor, _ = torch.linalg.cholesky_ex(reduced)
        solution = torch.cholesky_solve(target.unsqueeze(-1), factor).squeeze(-1)
        inside = torch.minimum(torch.maximum(solution, low), high)
        value = (inside * (0.5 * torch.einsum("nij,nj->ni", matrix, inside) - right)).sum(dim=1)
        better = value < lowest
        best = torch.where(better[:, None], inside, best)
        lowest = torch.where(better, value, lowest)
        # A parameter is held on a face if it would cross it, or is there and pushed against it.
        pushed = solution - (torch.einsum("nij,nj->ni", matrix, solution) - right)
        holding = (pushed <= low) | (pushed >= high)
        at = torch.where(pushed <= low, low, high) * holding
        # Where the device is this processor, a look whether anything changed is cheaper than a pass.
        if matrix.device.type == "cpu" and torch.equal(holding, held) and torch.equal(at, face):
            break
        held, face = holding, at
    return best


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
