"""One step of a bounded Gauss-Newton fit, for a batch of stars at once."""

from __future__ import annotations

import torch
from torch import Tensor

from phdl_catalog.fitting.matrix_loops import active_set, update
from phdl_catalog.spectra import loops

#: Rounds of the active-set method (fewer where all stars of a batch have to go through all of them), passes
#: of each, and sweeps of coordinate descent between rounds.
_ROUNDS, _ROUNDS_IN_BATCHES, _PASSES, _SWEEPS = 4, 2, 5, 2

#: Smallest curvature along a step that a secant update accepts, as a fraction of the expected one.
_LEAST_CURVATURE = 0.2

#: Smallest curvature along a parameter.
_LEAST = 1e-30

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
    # What a rough curvature says nothing of, or nonsense by rounding, stays at rest.
    known = torch.diagonal(curvature, dim1=1, dim2=2) > _LEAST
    root = torch.diagonal(curvature, dim1=1, dim2=2).clamp_min(_LEAST).sqrt()
    scale = known / root
    matrix = curvature * scale[:, :, None] * scale[:, None, :]
    torch.diagonal(matrix, dim1=1, dim2=2).add_(_RIDGE + (~known).to(matrix.dtype))
    right = -gradient * scale
    low, high = lower * root * known, upper * root * known

    if loops.wanted(right.device):
        step = loops.empty(*right.shape, dtype=torch.float64)
        loops.for_stars(active_set, len(right), matrix, right, low, high, _ROUNDS, _PASSES, _SWEEPS, step)
    else:
        step = _active_set(matrix, right, low, high)
    length = (step * torch.bmm(matrix, step[:, :, None])[:, :, 0]).sum(dim=1).clamp_min(0.0).sqrt()
    return step * scale, length


def _active_set(matrix: Tensor, right: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The minimum in a box by the primal-dual active-set method (Hintermueller et al. 2002).

    Its passes find the exact minimum nearly always, but may go in circles.  Then a few sweeps of coordinate
    descent from the best point that they found, which cannot, say where the next round begins.
    """
    best = torch.zeros_like(right)
    lowest = torch.zeros_like(right[:, 0])
    pushed = best
    for number in range(_ROUNDS_IN_BATCHES):
        if number > 0:
            best = _descend(matrix, right, low, high, best)
            along = torch.bmm(matrix, best[:, :, None])[:, :, 0]
            lowest = (best * (0.5 * along - right)).sum(dim=1)
            pushed = best - (along - right)
        for turn in range(_PASSES):
            # A parameter is held on a face if it would cross it, or is there and pushed against it.
            held = (pushed <= low) | (pushed >= high) if number + turn > 0 else torch.zeros_like(low).bool()
            face = torch.where(pushed <= low, low, high) * held
            inside, value, pushed = _on_faces(matrix, right, low, high, held, face)
            better = value < lowest
            best = torch.where(better[:, None], inside, best)
            lowest = torch.where(better, value, lowest)
    return best


def _descend(matrix: Tensor, right: Tensor, low: Tensor, high: Tensor, x: Tensor) -> Tensor:
    """Minimise along one parameter after the other, a few times."""
    x = x.clone()
    for _ in range(_SWEEPS):
        for i in range(x.shape[1]):
            along = right[:, i] - (matrix[:, i] * x).sum(dim=1)
            x[:, i] = torch.clamp(x[:, i] + along / matrix[:, i, i], low[:, i], high[:, i])
    return x


def _on_faces(
    matrix: Tensor, right: Tensor, low: Tensor, high: Tensor, held: Tensor, face: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The minimum with some parameters held on faces.

    Returns the nearest point in the box, the value there, and where from the minimum a step down the gradient
    of the held parameters would lead.
    """
    free = (~held).to(matrix.dtype)
    reduced = matrix * free[:, :, None] * free[:, None, :]
    torch.diagonal(reduced, dim1=1, dim2=2).add_(1.0 - free)
    target = torch.where(held, face, right - torch.bmm(matrix, face[:, :, None])[:, :, 0])
    factor, _ = torch.linalg.cholesky_ex(reduced)
    solution = torch.cholesky_solve(target.unsqueeze(-1), factor).squeeze(-1)
    inside = torch.minimum(torch.maximum(solution, low), high)
    both = torch.bmm(matrix, torch.stack([inside, solution], dim=2))
    value = (inside * (0.5 * both[:, :, 0] - right)).sum(dim=1)
    return inside, value, solution - (both[:, :, 1] - right)


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
    if loops.wanted(step.device):
        out = loops.empty(*curvature.shape, dtype=torch.float64)
        loops.for_stars(update, len(step), curvature, step, change, _LEAST_CURVATURE, out)
        return out
    expected = torch.bmm(curvature, step[:, :, None])[:, :, 0]
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
