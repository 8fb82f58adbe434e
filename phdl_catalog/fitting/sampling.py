"""Samples of the posterior of one star, to check the Gaussian errors of its fit.

The ensemble sampler emcee (Foreman-Mackey et al. 2013, PASP 125, 306) walks in all labels, velocity and line
width; the pseudo-continuum is at its best everywhere, as in the fit, and pixels count what they counted at
the end of the fit.  Labels are even within the bounds of the fit: they are the prior here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.fitting.box import Box
from phdl_catalog.fitting.fit import Fitter
from phdl_catalog.fitting.objective import Observation, Weights
from phdl_catalog.spectra.grid import PIXEL_VELOCITY

#: Walkers for each parameter.
_WALKERS = 4

#: Largest spread of the walkers at the start, as a fraction of what the bounds allow.
_FIRST_WIDTH = 0.15

#: Share of the steps that is thrown away: walkers have to forget where they began.
_BURN_IN = 0.4


@dataclass(frozen=True)
class Posterior:
    """Samples of one star.

    Parameters
    ----------
    names : tuple of str
        The L labels, then ``rv`` and ``line_variance``.
    samples : (S, L + 2) float64
        The velocity relative to that of the fit [km/s], other columns in their units.
    errors : (L + 2,) float64
        Of the fit, to compare.
    acceptance : float
        Share of the steps that were taken.
    autocorrelation : float
        Steps after which the slowest parameter has forgotten where it was; the number of steps should be 50
        times as many.
    """

    names: tuple[str, ...]
    samples: NDArray[np.float64]
    errors: NDArray[np.float64]
    acceptance: float
    autocorrelation: float

    def summary(self) -> dict[str, dict[str, float]]:
        """Median, half of the central 68 %, and the ratio of that to the error of the fit."""
        low, middle, high = np.percentile(self.samples, [15.865, 50.0, 84.135], axis=0)
        return {
            name: {
                "median": float(middle[column]),
                "sigma": float((high - low)[column] / 2.0),
                "sigma_over_error": float((high - low)[column] / 2.0 / self.errors[column]),
            }
            for column, name in enumerate(self.names)
        }


def sample_posterior(
    fitter: Fitter,
    wavelength: ArrayLike,
    flux: ArrayLike,
    ivar: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    steps: int = 2000,
    rng: np.random.Generator,
) -> Posterior:
    """Sample the posterior of one star.

    Parameters
    ----------
    fitter : Fitter
    wavelength, flux, ivar, mask : (P,) array_like
        As for `fit_spectra`.
    steps : int
        Of each walker; a step takes some 50 ms of a processor.
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        If the spectrum cannot be fitted or there are fewer than 20 steps.
    """
    import emcee

    if steps < 20:
        raise InputError(f"{steps} steps say nothing; at least 20 are needed, 2000 are usual")
    if np.atleast_2d(np.asarray(flux)).shape[0] != 1:
        raise InputError(f"flux has shape {np.shape(flux)}; the posterior of one star is wanted")
    fitted = fitter.solve(wavelength, flux, ivar, mask)
    if fitted is None:
        raise InputError("the spectrum cannot be fitted, so there is no posterior to sample")
    forward, solution = fitter.forward, fitted.solution
    box = Box(solution.box.lower.cpu(), solution.box.upper.cpu())
    lower, upper = box.lower[0].numpy(), box.upper[0].numpy()
    size = len(lower)
    free = np.ones(size, dtype=bool)
    free[-1] = fitter.options.fit_line_width
    best = solution.point.parameters[0].cpu().numpy()
    with torch.no_grad():
        # Pixels err one by one here.
        gaussian = fitter.estimate(replace(solution, noise=solution.curvature))
    sigma = gaussian.errors[0].cpu().numpy()

    def log_probability(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        full = np.tile(best, (len(rows), 1))
        full[:, free] = rows
        inside = np.all((full >= lower) & (full <= upper), axis=1)
        out = np.full(len(rows), -np.inf)
        if inside.any():
            index = torch.zeros(int(inside.sum()), dtype=torch.long)
            parameters = torch.as_tensor(full[inside], device=forward.device)
            with torch.no_grad():
                cost = _cost(fitter, solution.observation, solution.weights, index, parameters)
            out[inside] = -0.5 * cost
        return out

    walkers = _WALKERS * int(free.sum()) + 2
    # A walker that starts in a corner of the bounds stays there: correlations hold near the fit.
    narrower = np.minimum(1.0, _FIRST_WIDTH * (upper - lower) / np.where(free, sigma, np.inf))
    covariance = gaussian.covariance[0].cpu().numpy() * narrower[:, None] * narrower
    middle = gaussian.values[0].cpu().numpy()
    start = rng.multivariate_normal(middle, covariance, walkers, check_valid="ignore", method="eigh")
    start = np.clip(start, lower + 1e-3 * (upper - lower), upper - 1e-3 * (upper - lower))[:, free]
    sampler = emcee.EnsembleSampler(
        walkers, int(free.sum()), log_probability, vectorize=True,
        moves=[(emcee.moves.DEMove(), 0.9), (emcee.moves.DEMove(gamma0=1.0), 0.1)],
    )  # fmt: skip
    sampler.random_state = np.random.RandomState(rng.integers(2**31)).get_state()
    sampler.run_mcmc(start, steps)
    chain = sampler.get_chain(discard=int(_BURN_IN * steps), flat=True)
    full = np.tile(best, (len(chain), 1))
    full[:, free] = chain
    scale = np.concatenate([forward.half_range.cpu().numpy(), [PIXEL_VELOCITY, 1.0]])
    origin = np.concatenate([forward.middle.cpu().numpy(), [-best[-2] * PIXEL_VELOCITY, 0.0]])
    return Posterior(
        names=(*forward.label_names, "rv", "line_variance"),
        samples=full * scale + origin,
        errors=sigma * scale,
        acceptance=float(np.mean(sampler.acceptance_fraction)),
        autocorrelation=float(np.max(sampler.get_autocorr_time(tol=0))),
    )


def _cost(
    fitter: Fitter, observation: Observation, weights: Weights, index: torch.Tensor, parameters: torch.Tensor
) -> NDArray[np.float64]:
    """The fit's cost of one star at many places, without the gradient."""
    objective = fitter.objective
    state = fitter.forward.evaluate(parameters)
    return objective.price(observation.rows(index), parameters, state, weights.rows(index)).cpu().numpy()
