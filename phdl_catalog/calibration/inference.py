"""One label's correction: the posterior of its coefficients, with all scales learned from the calibrators.

The equations are linear, y = X w + noise, with a Gaussian prior on w (`basis`).  The noise of an equation is
its quoted error plus the intrinsic scatter of its kind (pairs, references); with some probability it is a bad
calibrator and has a wider scatter.  The amplitudes and length scales of the prior and the intrinsic scatters
maximise the marginal likelihood for given probabilities, which is the variational lower bound of the mixture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from phdl_catalog.calibration.basis import SMOOTHNESS_FIELDS, SmoothBasis, Smoothness

Floats = NDArray[np.float64]

#: Kinds of equations.
PAIR, REFERENCE = 0, 1

#: Log-normal priors of the learned scales: median, and width in natural logarithms.  Amplitudes and scatters
#: in dex; length scales in units of `basis.COORDINATE_UNIT`.  They only matter where calibrators say little.
_SCALE_PRIORS = {
    "linear": (0.10, 1.0),
    "surface": (0.10, 0.5),
    "scale_teff": (1.1, 0.4),
    "scale_logg": (0.7, 0.4),
    "metallicity": (0.03, 1.0),
    "interaction": (0.03, 1.0),
    "pair_scatter": (0.02, 0.7),
    "reference_scatter": (0.03, 0.7),
}
_MEDIAN = np.log([median for median, _ in _SCALE_PRIORS.values()])
_WIDTH = np.array([width for _, width in _SCALE_PRIORS.values()])
_BOUNDS = [
    (np.log(low), np.log(high))
    for low, high in [
        (1e-3, 2), (1e-3, 2), (0.7, 8), (0.5, 8), (1e-3, 1), (1e-3, 1), (1e-3, 0.5), (1e-3, 0.5),
    ]
]  # fmt: skip

#: A bad calibrator scatters at least this many times the ordinary scatter, or it is not called bad.
_LEAST_OUTLIER_RATIO = 2.0


@dataclass(frozen=True)
class Equations:
    """The equations of one label: ``y = design @ w + noise``.

    Parameters
    ----------
    design : (n, K + 2 S) array
        Basis functions, differenced for pairs; then zero-points and scales of the surveys.
    y : (n,) array
        Difference of the raw labels, or raw label minus reference [label units].
    variance : (n,) array
        Squared quoted error of `y`.
    kind : (n,) array
        `PAIR` or `REFERENCE`.
    """

    design: Floats
    y: Floats
    variance: Floats
    kind: NDArray[np.int8]


@dataclass(frozen=True)
class Scales:
    """What is learned beside the coefficients.

    Parameters
    ----------
    smoothness : Smoothness
        Prior of the correction.
    scatter : (2,) tuple
        Intrinsic scatter of pairs and references.
    outlier : (2,) tuple
        Scatter of bad pairs and bad references.
    contamination : (2,) tuple
        Fraction of equations that are bad in this label alone.
    """

    smoothness: Smoothness
    scatter: tuple[float, float]
    outlier: tuple[float, float]
    contamination: tuple[float, float]

    @classmethod
    def initial(cls, equations: Equations) -> Scales:
        """A start from robust spreads of the equations."""
        smoothness = Smoothness(*np.exp(_MEDIAN[: len(SMOOTHNESS_FIELDS)]))
        outlier = []
        for kind in (PAIR, REFERENCE):
            y = equations.y[equations.kind == kind]
            spread = 1.4826 * float(np.median(np.abs(y - np.median(y)))) if y.size else 0.0
            outlier.append(max(4 * spread, 0.3))
        scatter = np.exp(_MEDIAN[len(SMOOTHNESS_FIELDS) :])
        return cls(smoothness, (float(scatter[0]), float(scatter[1])), (outlier[0], outlier[1]), (0.02, 0.02))

    def inlier_variance(self, equations: Equations) -> Floats:
        """(n,) squared noise of good equations: quoted plus intrinsic."""
        return np.asarray(equations.variance + np.square(self.scatter)[equations.kind])

    def outlier_variance(self, equations: Equations) -> Floats:
        """(n,) squared noise of bad equations."""
        return np.asarray(self.inlier_variance(equations) + np.square(self.outlier)[equations.kind])


@dataclass(frozen=True)
class Posterior:
    """Mean and covariance of the coefficients, and how they predict the equations.

    Parameters
    ----------
    mean : (K + 2 S,) array
        Coefficients, then zero-points and scales of the surveys.
    covariance : (K + 2 S, K + 2 S) array
        Their covariance.
    residual : (n,) array
        ``y - design @ mean``.
    leverage : (n,) array
        Posterior variance of ``design @ w``.
    precision : (n,) array
        Expected inverse variance of each equation.
    """

    mean: Floats
    covariance: Floats
    residual: Floats
    leverage: Floats
    precision: Floats


def _limits() -> tuple[list[float], list[float]]:
    return [low for low, _ in _BOUNDS], [high for _, high in _BOUNDS]


def _vector(scales: Scales) -> Floats:
    fields = [getattr(scales.smoothness, name) for name in SMOOTHNESS_FIELDS]
    return np.log([*fields, *scales.scatter])


def _scales(vector: Floats, scales: Scales) -> Scales:
    values = np.exp(vector)
    count = len(SMOOTHNESS_FIELDS)
    smoothness = Smoothness(*(float(value) for value in values[:count]))
    return replace(scales, smoothness=smoothness, scatter=(float(values[count]), float(values[count + 1])))


def _precision(equations: Equations, scales: Scales, bad: Floats) -> Floats:
    inlier, outlier = scales.inlier_variance(equations), scales.outlier_variance(equations)
    return np.asarray((1 - bad) / inlier + bad / outlier)


def solve(
    basis: SmoothBasis,
    equations: Equations,
    scales: Scales,
    bad: Floats,
    survey_precision: Floats,
    weight: Floats | float = 1.0,
) -> Posterior:
    """Posterior of the coefficients for given scales.

    Parameters
    ----------
    basis : SmoothBasis
        The functions, K of them.
    equations : Equations
        n equations.
    scales : Scales
        Prior and noise.
    bad : (n,) array
        Probability that each equation is a bad calibrator.
    survey_precision : (2 S, 2 S) array
        Prior inverse covariance of the zero-points and scales of the surveys.
    weight : (n,) array or float
        How often each equation counts.
    """
    variance, _ = basis.prior(scales.smoothness)
    precision = _precision(equations, scales, bad) * weight
    return _posterior(equations, precision, variance, survey_precision)[0]


def _posterior(
    equations: Equations, precision: Floats, variance: Floats, survey_precision: Floats
) -> tuple[Posterior, float]:
    """The posterior, and log det(A) + log det(D): A its precision and D the prior covariance of w."""
    count = variance.size
    total = equations.design.shape[1]
    root = np.ones(total)
    root[:count] = np.sqrt(variance)
    weighted = equations.design * np.sqrt(precision)[:, None]
    scaled = weighted * root
    matrix = scaled.T @ scaled
    matrix[np.arange(count), np.arange(count)] += 1.0
    matrix[count:, count:] += survey_precision
    lower = cholesky(matrix, lower=True, check_finite=False)
    right = root * (equations.design.T @ (precision * equations.y))
    mean = root * cho_solve((lower, True), right, check_finite=False)
    inverse_root = solve_triangular(lower, np.diag(root), lower=True, check_finite=False)
    covariance = inverse_root.T @ inverse_root
    residual = equations.y - equations.design @ mean
    leverage = np.square(equations.design @ inverse_root.T).sum(axis=1)
    log_determinant = 2 * float(np.log(np.diag(lower)).sum())
    return Posterior(mean, covariance, residual, leverage, precision), log_determinant


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
        As for `solve`.
    scales : Scales
        Where to start.
    steps : int
        Most iterations of L-BFGS.

    Returns
    -------
    Scales
        With new smoothness and intrinsic scatters.
    """
    evidence = _Evidence(basis, equations, scales, bad, survey_precision)
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
        As for `solve`.
    posterior : Posterior
        The posterior for exactly these scales.
    """
    evidence = _Evidence(basis, equations, scales, bad, survey_precision)
    center = np.clip(_vector(scales), *_limits())
    extra = np.zeros_like(posterior.covariance)
    for number in range(center.size):
        axis = np.eye(center.size)[number]
        step = 0.1
        curvature = (evidence(center + step * axis)[1] - evidence(center - step * axis)[1])[number] / (
            2 * step
        )
        # The prior of the scales bounds the curvature from below.
        sigma = 1 / np.sqrt(max(curvature, 1 / _WIDTH[number] ** 2))
        for sign in (-1, 1):
            vector = np.clip(center + sign * sigma * axis, *_limits())
            moved = solve(basis, equations, _scales(vector, scales), bad, survey_precision)
            shift = moved.mean - posterior.mean
            extra += 0.5 * (np.outer(shift, shift) + moved.covariance - posterior.covariance)
    covariance = posterior.covariance + extra
    value, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    positive = vectors * np.clip(value, 0, None)
    return replace(posterior, covariance=positive @ vectors.T)


class _Evidence:
    """Minus the logarithm of the marginal likelihood and prior of the scales, and its gradient."""

    def __init__(
        self, basis: SmoothBasis, equations: Equations, scales: Scales, bad: Floats, survey_precision: Floats
    ) -> None:
        self.basis, self.equations, self.scales = basis, equations, scales
        self.bad, self.survey_precision = bad, survey_precision

    def __call__(self, vector: Floats) -> tuple[float, Floats]:
        bad, equations, count = self.bad, self.equations, len(SMOOTHNESS_FIELDS)
        trial = _scales(vector, self.scales)
        variance, by_scale = self.basis.prior(trial.smoothness)
        inlier, outlier = trial.inlier_variance(equations), trial.outlier_variance(equations)
        precision = (1 - bad) / inlier + bad / outlier
        posterior, log_determinant = _posterior(equations, precision, variance, self.survey_precision)
        logarithms = (1 - bad) * np.log(inlier) + bad * np.log(outlier)
        penalty = (vector - _MEDIAN) / _WIDTH
        value = 0.5 * (
            float(equations.y @ (precision * posterior.residual))
            + float(logarithms.sum())
            + log_determinant
            + float(penalty @ penalty)
        )
        size = variance.size
        spread = np.diag(posterior.covariance)[:size] + posterior.mean[:size] ** 2
        gradient = penalty / _WIDTH
        gradient[:count] += 0.5 * ((1 - spread / variance) @ by_scale)
        square = posterior.residual**2 + posterior.leverage
        by_variance = 0.5 * (precision - square * ((1 - bad) / inlier**2 + bad / outlier**2))
        for kind in (PAIR, REFERENCE):
            chosen = equations.kind == kind
            gradient[count + kind] += 2 * trial.scatter[kind] ** 2 * float(by_variance[chosen].sum())
        return value, gradient


def outlier_evidence(equations: Equations, scales: Scales, posterior: Posterior) -> Floats:
    """(n,) log likelihood ratio of each equation: bad against good."""
    inlier, outlier = scales.inlier_variance(equations), scales.outlier_variance(equations)
    square = posterior.residual**2 + posterior.leverage
    return np.asarray(0.5 * (np.log(inlier / outlier) + square * (1 / inlier - 1 / outlier)))


def learn_outliers(
    equations: Equations, scales: Scales, posterior: Posterior, bad: Floats, own: Floats
) -> Scales:
    """Update how bad the bad calibrators are and how many are bad in this label alone.

    Parameters
    ----------
    equations, scales, posterior
        The present solution.
    bad : (n,) array
        Probability of being bad for any reason.
    own : (n,) array
        Probability of being bad in this label alone.
    """
    outlier, contamination = list(scales.outlier), list(scales.contamination)
    inlier = scales.inlier_variance(equations)
    for kind in (PAIR, REFERENCE):
        chosen = equations.kind == kind
        if not chosen.any():
            continue
        weight = bad[chosen]
        square = (posterior.residual**2 + posterior.leverage - inlier)[chosen]
        least = _LEAST_OUTLIER_RATIO**2 * float(np.median(inlier[chosen]))
        # Two equations' worth of the present value keep the estimate alive when nothing is bad.
        estimate = (float(weight @ square) + 2 * outlier[kind] ** 2) / (float(weight.sum()) + 2)
        outlier[kind] = float(np.sqrt(max(estimate, least)))
        # Beta(1, 49) prior: two per cent.
        contamination[kind] = float((own[chosen].sum() + 1) / (chosen.sum() + 50))
    return replace(
        scales, outlier=(outlier[0], outlier[1]), contamination=(contamination[0], contamination[1])
    )
