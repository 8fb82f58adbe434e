"""The same equations again, with some left out or counted otherwise: cross-validation and the bootstrap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from phdl_catalog.calibration.basis import SmoothBasis
from phdl_catalog.calibration.inference import Equations, Posterior, Scales, solve, solve_mean

Floats = NDArray[np.float64]

#: Strengths of the regularisation that are tried: 4 allows half of the amplitude, 1/4 twice of it.
STRENGTHS = (16.0, 4.0, 1.0, 0.25)

#: Draws of the bootstrap, and equations at which it is looked at.
_DRAWS, _MOST_PLACES = 24, 400

#: Another strength than 1 must predict better by so many standard errors: chance prefers one often enough.
_LEAST_GAIN = 1.0


def leave_one_out(posterior: Posterior) -> tuple[Floats, Floats]:
    """Prediction of every equation by the others.

    Returns
    -------
    residual : (n,) array
        Residual against the prediction of all other equations.
    variance : (n,) array
        Variance of that prediction and of the equation's noise together.
    """
    rest = np.clip(1 - posterior.precision * posterior.leverage, 1e-6, None)
    return posterior.residual / rest, 1 / posterior.precision + posterior.leverage / rest


def constant_only(
    equations: Equations, posterior: Posterior, survey_precision: Floats, sigma: float
) -> Floats:
    """(K + S,) coefficients of the best correction that is a constant, beside the survey zero-points."""
    count = posterior.mean.size - len(survey_precision)
    columns = np.r_[0, count : posterior.mean.size]
    design = equations.design[:, columns]
    matrix = design.T @ (design * posterior.precision[:, None])
    matrix[0, 0] += 1 / sigma**2
    matrix[1:, 1:] += survey_precision
    mean = np.zeros_like(posterior.mean)
    mean[columns] = cho_solve(cho_factor(matrix), design.T @ (posterior.precision * equations.y))
    return mean


def predictive_scores(posterior: Posterior, bad: Floats) -> Floats:
    """(n,) log density of each good equation as the others predict it."""
    residual, variance = leave_one_out(posterior)
    return np.asarray((1 - bad) * (-0.5 * np.log(variance) - 0.5 * residual**2 / variance))


def choose_strength(
    basis: SmoothBasis, equations: Equations, scales: Scales, bad: Floats, survey_precision: Floats
) -> tuple[float, Scales]:
    """The strength of the regularisation that best predicts each calibrator from the others.

    Parameters
    ----------
    basis, equations, scales, bad, survey_precision
        As for `solve`; the scales are those of largest marginal likelihood, which are strength 1.

    Returns
    -------
    strength : float
        Of `STRENGTHS`; prior variances are divided by it.
    scales : Scales
        With that strength.
    """
    trials = {strength: _weakened(scales, strength) for strength in STRENGTHS}
    scores = {
        strength: predictive_scores(solve(basis, equations, trial, bad, survey_precision), bad)
        for strength, trial in trials.items()
    }
    best = max(scores, key=lambda strength: float(scores[strength].sum()))
    gain = scores[best] - scores[1.0]
    if gain.sum() <= _LEAST_GAIN * np.sqrt(len(gain)) * np.std(gain):
        best = 1.0
    return best, trials[best]


def _weakened(scales: Scales, strength: float) -> Scales:
    old = scales.smoothness
    factor = strength**-0.5
    smoothness = replace(
        old,
        linear=old.linear * factor,
        surface=old.surface * factor,
        metallicity=old.metallicity * factor,
        interaction=old.interaction * factor,
    )
    return replace(scales, smoothness=smoothness)


def bootstrap(
    basis: SmoothBasis,
    equations: Equations,
    scales: Scales,
    bad: Floats,
    survey_precision: Floats,
    groups: NDArray[np.int64],
    sampling: Floats,
    generator: np.random.Generator,
) -> float:
    """Scatter of the solution when calibrators are drawn again, over what is expected.

    The Bayesian bootstrap (Rubin 1981, Annals of Statistics 9, 130): every group of equations counts a random
    number of times, one on average, exponentially distributed; no label is left without equations.

    Parameters
    ----------
    basis, equations, scales, bad, survey_precision
        As for `solve`.
    groups : (n,) int array
        Equations of one group share a star, and are drawn together.
    sampling : (K + 2 S, K + 2 S) array
        Covariance of the solution over draws that is expected.
    generator : Generator
        Draws.

    Returns
    -------
    float
        Ratio of the standard deviations of the correction at the calibrators.
    """
    size = basis.size
    number = np.unique(groups, return_inverse=True)[1]
    means = []
    for _ in range(_DRAWS):
        weight = generator.exponential(size=int(number.max()) + 1)[number]
        means.append(solve_mean(basis, equations, scales, bad, survey_precision, weight))
    found = np.cov(np.stack(means, axis=1))
    # The equations themselves are the directions that matter: those of no calibrator would be noise.
    at = equations.design[bad < 0.5]
    at = at[:: max(1, len(at) // _MOST_PLACES), :size]
    have, expect = (
        np.einsum("nk,kl,nl->n", at, matrix[:size, :size], at, optimize=True) for matrix in (found, sampling)
    )
    return float(np.sqrt(have.mean() / expect.mean())) if expect.mean() > 0 else 1.0


def information(equations: Equations, precision: Floats, variance: Floats) -> Floats:
    """(K, K) covariance of the coefficients that some equations leave.

    Parameters
    ----------
    equations : Equations
        n equations with K columns.
    precision : (n,) array
        Their inverse variances.
    variance : (K,) array
        Prior variances of the coefficients.
    """
    matrix = equations.design.T @ (equations.design * precision[:, None]) + np.diag(1 / variance)
    return np.asarray(cho_solve(cho_factor(matrix), np.eye(len(variance))))
