"""Scales of prior and noise that make the calibrators most likely: amplitudes, length scales, scatters.

They maximise the marginal likelihood for given probabilities of being bad, which is the variational lower
bound of the mixture.  It is asked for some hundred times a label, and the equations only enter through sums:
those of alike noise are added up once, after which a step costs the same for a hundred and for ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from phdl_catalog.calibration.basis import SMOOTHNESS_FIELDS, SmoothBasis, Smoothness
from phdl_catalog.calibration.inference import (
    PAIR,
    REFERENCE,
    SCALE_PRIORS,
    Equations,
    Posterior,
    Scales,
    gaussian,
)

Floats = NDArray[np.float64]

_MEDIAN = np.log([median for median, _ in SCALE_PRIORS.values()])
_WIDTH = np.array([width for _, width in SCALE_PRIORS.values()])
_BOUNDS = [
    (np.log(low), np.log(high))
    for low, high in [
        (1e-3, 2), (1e-3, 2), (0.7, 8), (0.5, 8), (1e-3, 1), (1e-3, 1), (1e-3, 0.5), (1e-3, 0.5),
    ]
]  # fmt: skip
_SMOOTH = len(SMOOTHNESS_FIELDS)

#: Equations are alike whose quoted variances differ by less than this factor.
_ALIKE = 1.2


def learn(
    basis: SmoothBasis,
    equations: Equations,
    scales: Scales,
    bad: Floats,
    survey_precision: Floats,
    *,
    steps: int,
) -> Scales:
    """Move the scales towards the maximum of the marginal likelihood.

    Parameters
    ----------
    basis, equations, bad, survey_precision
        As for `inference.solve`.
    scales : Scales
        Where to start.
    steps : int
        Most iterations of L-BFGS.

    Returns
    -------
    Scales
        With new smoothness and intrinsic scatters.
    """
    evidence = Evidence(basis, equations, scales, bad, survey_precision)
    start = np.clip(_vector(scales), *_limits())
    found = minimize(evidence, start, jac=True, method="L-BFGS-B", bounds=_BOUNDS, options={"maxiter": steps})
    return _scales(found.x, scales)


def marginalise(
    basis: SmoothBasis,
    equations: Equations,
    scales: Scales,
    bad: Floats,
    survey_precision: Floats,
    posterior: Posterior,
) -> Posterior:
    """Add to a posterior what it owes to the uncertainty of the learned scales.

    Every scale is moved by its own one sigma up and down; how far the coefficients follow, and how their
    covariance changes on average, is added to the covariance.

    Parameters
    ----------
    basis, equations, scales, bad, survey_precision
        As for `inference.solve`.
    posterior : Posterior
        The posterior for exactly these scales.
    """
    evidence = Evidence(basis, equations, scales, bad, survey_precision)
    center = np.clip(_vector(scales), *_limits())
    mean, root = evidence.posterior(center)
    covariance = root.T @ root
    extra = np.zeros_like(covariance)
    for number in range(center.size):
        axis = np.eye(center.size)[number]
        step = 0.1
        curvature = (evidence(center + step * axis)[1] - evidence(center - step * axis)[1])[number] / (
            2 * step
        )
        # The prior of the scales bounds the curvature from below.
        sigma = 1 / np.sqrt(max(curvature, 1 / _WIDTH[number] ** 2))
        for sign in (-1, 1):
            moved, root = evidence.posterior(np.clip(center + sign * sigma * axis, *_limits()))
            shift = moved - mean
            extra += 0.5 * (np.outer(shift, shift) + root.T @ root - covariance)
    total = posterior.covariance + extra
    value, vectors = np.linalg.eigh(0.5 * (total + total.T))
    positive = vectors * np.clip(value, 0, None)
    return replace(posterior, covariance=positive @ vectors.T)


class Evidence:
    """Minus the logarithm of the marginal likelihood and prior of the scales, and its gradient.

    Parameters
    ----------
    basis, equations, bad, survey_precision
        As for `inference.solve`.
    scales : Scales
        What is not learned here: how wide bad calibrators scatter.
    """

    def __init__(
        self, basis: SmoothBasis, equations: Equations, scales: Scales, bad: Floats, survey_precision: Floats
    ) -> None:
        self._basis, self._scales, self._survey_precision = basis, scales, survey_precision
        sums = list(_alike(equations, bad))
        self._kind = np.array([entry.kind for entry in sums])
        self._is_bad = np.array([entry.is_bad for entry in sums])
        self._variance = np.array([entry.variance for entry in sums])
        self._count = np.array([entry.weight for entry in sums])
        self._square = np.array([entry.square for entry in sums])
        self._right = np.stack([entry.right for entry in sums])
        self._matrix = np.stack([entry.matrix for entry in sums])

    def _noise(self, trial: Scales) -> Floats:
        """(G,) variance of each group of equations: quoted, intrinsic, and that of bad ones."""
        variance = self._variance + np.square(trial.scatter)[self._kind]
        return np.asarray(variance + np.where(self._is_bad, np.square(trial.outlier)[self._kind], 0.0))

    def _solve(self, trial: Scales, noise: Floats) -> tuple[Floats, Floats, float, Floats]:
        right = self._right.T @ (1 / noise)
        matrix = np.tensordot(1 / noise, self._matrix, axes=1)
        prior, _ = self._basis.prior(trial.smoothness)
        return *gaussian(matrix, right, prior, self._survey_precision), right

    def posterior(self, vector: Floats) -> tuple[Floats, Floats]:
        """Mean and root of the covariance for a vector of logarithms of the scales."""
        trial = _scales(vector, self._scales)
        mean, root, _, _ = self._solve(trial, self._noise(trial))
        return mean, root

    def __call__(self, vector: Floats) -> tuple[float, Floats]:
        """Value and gradient at a vector of logarithms of the scales."""
        trial = _scales(vector, self._scales)
        prior, by_scale = self._basis.prior(trial.smoothness)
        noise = self._noise(trial)
        mean, root, log_determinant, right = self._solve(trial, noise)
        penalty = (vector - _MEDIAN) / _WIDTH
        value = 0.5 * (
            float(self._square @ (1 / noise) - right @ mean)
            + float(self._count @ np.log(noise))
            + log_determinant
            + float(penalty @ penalty)
        )
        second = root.T @ root + np.outer(mean, mean)
        gradient = penalty / _WIDTH
        gradient[:_SMOOTH] += 0.5 * ((1 - np.diag(second)[: prior.size] / prior) @ by_scale)
        # Squared residuals and leverages of each group.
        squares = self._square - 2 * self._right @ mean + np.tensordot(self._matrix, second, axes=2)
        by_variance = 0.5 * (self._count - squares / noise) / noise
        for kind in (PAIR, REFERENCE):
            total = float(by_variance[self._kind == kind].sum())
            gradient[_SMOOTH + kind] += 2 * trial.scatter[kind] ** 2 * total
        return value, gradient


class _Sums(NamedTuple):
    """Sums over equations of one kind with alike noise, weighted by being good (or bad)."""

    kind: int
    is_bad: bool
    variance: float
    weight: float
    square: float
    right: Floats
    matrix: Floats


def _alike(equations: Equations, bad: Floats) -> Iterator[_Sums]:
    """Sums over groups; all bad ones of a kind are one: they scatter far beyond their quoted errors."""
    with np.errstate(divide="ignore"):
        level = np.floor(np.log(equations.variance) / np.log(_ALIKE)).astype(np.int64)
    for kind in (PAIR, REFERENCE):
        chosen = equations.kind == kind
        groups = [(False, np.flatnonzero(chosen & (level == value))) for value in np.unique(level[chosen])]
        groups.append((True, np.flatnonzero(chosen)))
        for is_bad, rows in groups:
            weight = bad[rows] if is_bad else 1 - bad[rows]
            count = float(weight.sum())
            if count <= 0:
                continue
            design, y = equations.design[rows], equations.y[rows]
            weighted = design * weight[:, None]
            variance = float(weight @ equations.variance[rows]) / count
            yield _Sums(
                kind, is_bad, variance, count, float(weight @ y**2), weighted.T @ y, weighted.T @ design
            )


def _limits() -> tuple[list[float], list[float]]:
    return [low for low, _ in _BOUNDS], [high for _, high in _BOUNDS]


def _vector(scales: Scales) -> Floats:
    fields = [getattr(scales.smoothness, name) for name in SMOOTHNESS_FIELDS]
    return np.log([*fields, *scales.scatter])


def _scales(vector: Floats, scales: Scales) -> Scales:
    values = np.exp(vector)
    smoothness = Smoothness(*(float(value) for value in values[:_SMOOTH]))
    return replace(
        scales, smoothness=smoothness, scatter=(float(values[_SMOOTH]), float(values[_SMOOTH + 1]))
    )
