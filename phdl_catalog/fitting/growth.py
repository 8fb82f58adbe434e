"""Labels that spectra answer to more and more, or less and less: beyond linear theory, one label at a time.

The lines of a rare element double with its abundance.  A spectrum that has them half as strong is less far
from the fit, in units of the noise, than one that has them twice as strong: what is possible thins out slowly
towards low abundances and fast towards high ones.  The Gaussian of linear theory has its mean too high, by a
tenth to a half of the error.

What the data say of one label, whatever the others are, is found by following it, while the others follow as
the covariance tells.  Along this way, in units t of the error, spectra are ``(exp(g t) - 1) / g`` away from
the fit, in units of the noise: each further step changes them ``exp(g)`` times as much.  The *growth* g is
measured on spectra to either side.  It is 0 where linear theory holds, large for the few weak lines of a rare
element, and may be negative for a label whose lines others imitate.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phdl_catalog.fitting.box import Box
from phdl_catalog.fitting.curvature import Curvature
from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.objective import Point, Weights

#: Longest step to either side, in units of the error, and the shortest, near a bound.
_STEP, _LEAST_STEP = 0.7, 0.1

#: Growth beyond this is not that of lines.
_LARGEST = 2.0

#: Spectra that are worked on at one time.
_TOGETHER = 512

#: Points of sums over what is possible, and how far these reach [errors]: growth goes on for so long at most.
_NODES, REACH = 48, 8.0


def growth(
    forward: ForwardModel,
    curvature: Curvature,
    place: tuple[Point, Weights],
    values: Tensor,
    covariance: Tensor,
    box: Box,
    which: tuple[Tensor, Tensor],
) -> Tensor:
    """By how much more spectra change in each further step along a label, as a logarithm.

    Parameters
    ----------
    forward : ForwardModel
        The model.
    curvature : Curvature
        Of the cost.
    place : (Point, Weights)
        Where fits of N stars ended, and what pixels count.
    values, covariance : (N, D) and (N, D, D) Tensor
        Parameters, float64.
    box : Box
        Their bounds.
    which : pair of (M,) Tensor
        Numbers of stars, and of one of their labels each.

    Returns
    -------
    (M,) Tensor
        For steps of the error that `covariance` has, float64.
    """
    star, label = which
    sigma = torch.diagonal(covariance, dim1=1, dim2=2).sqrt()[which][:, None]
    along = covariance[star, label] / sigma
    room = torch.stack([(box.upper - values)[which], (values - box.lower)[which]], dim=1)
    steps = (room / sigma).clamp(_LEAST_STEP, _STEP)
    signed = steps * steps.new_tensor([1.0, -1.0])
    middle = forward.coefficients(forward.labels(values).float())
    moved = values[star][:, None] + signed[:, :, None] * along[:, None]
    moved = torch.minimum(torch.maximum(moved, box.lower[star][:, None]), box.upper[star][:, None])
    there = forward.labels(moved.flatten(0, 1)).float().split(_TOGETHER)
    change = torch.cat([forward.coefficients(labels) for labels in there]).unflatten(0, moved.shape[:2])
    change -= middle[star][:, None]
    others = (moved - values[star][:, None])[:, :, -2:].float()
    found = curvature.squared_lengths(*place, star, change, others)
    each = torch.log(found.clamp_min(1e-12)) / 2.0 - torch.log(steps)
    return ((each[:, 0] - each[:, 1]) / steps.mean(dim=1)).clamp(-_LARGEST, _LARGEST)


def moments_with_growth(
    mean: Tensor, sigma: Tensor, grows: Tensor, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of what is possible between bounds; all (M,), float64.

    Parameters
    ----------
    mean, sigma : (M,) Tensor
        Of the Gaussian that linear theory has without these bounds; means are between them.
    grows : (M,) Tensor
        Growth in steps of `sigma`.
    lower, upper : (M,) Tensor
        The bounds.
    """
    nodes, shares = (mean.new_tensor(x) for x in np.polynomial.legendre.leggauss(_NODES))
    low, high = torch.maximum(lower, mean - REACH * sigma), torch.minimum(upper, mean + REACH * sigma)
    at = ((high + low) / 2.0)[:, None] + ((high - low) / 2.0)[:, None] * nodes
    steps = (at - mean[:, None]) / sigma[:, None]
    rate = grows[:, None]
    safe = torch.where(rate.abs() < 1e-6, 1e-6, rate)
    away = torch.expm1((safe * steps).clamp_max(50.0)) / safe
    cost = away.square() / 2.0
    weight = torch.exp(cost.amin(dim=1, keepdim=True) - cost) * shares
    weight /= weight.sum(dim=1, keepdim=True)
    middle = (weight * at).sum(dim=1)
    return middle, (weight * (at - middle[:, None]).square()).sum(dim=1).sqrt()
