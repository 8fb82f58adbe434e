"""Trial steps of a fit: cost and gradient where the pseudo-continuum of a model nearby is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vecdot

from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.kernel import REACH
from phdl_catalog.fitting.pixel_loops import try_spectra
from phdl_catalog.fitting.prior import Prior
from phdl_catalog.spectra import loops
from phdl_catalog.spectra.continuum import ContinuumBasis, NormalSystem


@dataclass(frozen=True)
class Target:
    """What trials of N stars are compared with, as long as weights are held.

    Parameters
    ----------
    flux, weight : (M, P) Tensor
        Observed flux, and what pixels count, of these stars and perhaps others.
    which : (N,) Tensor
        Rows of these stars, int64: pixels of the few that are left are not copied for each trial.
    prior : Prior
        What is known of the labels beforehand.
    system : NormalSystem
        Of the pseudo-continua with these weights, for a model that is not far.
    """

    flux: Tensor
    weight: Tensor
    which: Tensor
    prior: Prior
    system: NormalSystem

    @classmethod
    def of(cls, flux: Tensor, weight: Tensor, prior: Prior, system: NormalSystem) -> Target:
        """That of all stars."""
        return cls(flux, weight, torch.arange(len(flux), device=flux.device), prior, system)

    def rows(self, index: Tensor) -> Target:
        """That of some of the stars."""
        return Target(
            self.flux, self.weight, self.which[index], self.prior.rows(index), self.system.rows(index)
        )


@dataclass(frozen=True)
class Trial:
    """A trial.

    Parameters
    ----------
    parameters : (N, L + 2) Tensor
        float64.
    cost : (N,) Tensor
        Weighted sum of squared residuals, float64.
    gradient : (N, L + 2) Tensor
        Of half the cost, float64.
    continuum : (N, J) Tensor
        Coefficients of the pseudo-continua, float64.
    """

    parameters: Tensor
    cost: Tensor
    gradient: Tensor
    continuum: Tensor


def attempt(
    forward: ForwardModel, basis: ContinuumBasis, target: Target, parameters: Tensor, continuum: Tensor
) -> Trial:
    """Cost and gradient at `parameters` (N, L + 2).

    Parameters
    ----------
    forward : ForwardModel
        The model.
    basis : ContinuumBasis
        Of the pseudo-continua.
    target : Target
        The data.
    parameters : (N, L + 2) Tensor
        Where.
    continuum : (N, J) Tensor
        Coefficients of the pseudo-continua of a model nearby.
    """
    if basis.in_loops:
        cost, gradient, continuum = _in_loops(forward, basis, target, parameters, continuum)
    else:
        cost, gradient, continuum = _in_batches(forward, basis, target, parameters, continuum)
    prior = target.prior
    return Trial(parameters, cost + prior.price(parameters), prior.pull(parameters) - gradient, continuum)


def _in_batches(
    forward: ForwardModel, basis: ContinuumBasis, target: Target, parameters: Tensor, continuum: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Cost and gradient by the data, and coefficients of the pseudo-continua, as operations of torch."""
    state = forward.evaluate(parameters)
    flux, weight = target.flux[target.which], target.weight[target.which]
    curve = basis.curve(continuum)
    residual = torch.addcmul(flux, curve, state.flux, value=-1.0)
    continuum = basis.improve(continuum, weight * state.flux * residual, target.system)
    curve = basis.curve(continuum)
    residual = torch.addcmul(flux, curve, state.flux, value=-1.0)
    weighted = weight * residual
    return vecdot(weighted, residual).double(), forward.pull_back(state, weighted * curve), continuum


def _in_loops(
    forward: ForwardModel, basis: ContinuumBasis, target: Target, parameters: Tensor, continuum: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same on the processor, star by star."""
    source = forward.begin(parameters)
    size, pixels = len(target.which), target.flux.shape[1]
    cost = loops.empty(size, dtype=torch.float64)
    found = loops.empty(size, basis.size, dtype=torch.float64)
    sums = loops.empty(size, 2)
    back = loops.empty(size, pixels + 2 * REACH)
    given = (source.spectra, source.filters.taps, target.flux, target.weight, target.which, continuum)
    loops.for_stars(
        try_spectra, size, *given, *basis.loop_arrays(target.system),
        cost, found, sums, back,
    )  # fmt: skip
    return cost, forward.pull_through(source, back, sums), found
