"""One label's correction: the posterior of its coefficients, with all scales learned from the calibrators.

The equations are linear, y = X w + noise, with a Gaussian prior on w (`basis`).  The noise of an equation is
its quoted error plus the intrinsic scatter of its kind (pairs, references); with some probability it is a bad
calibrator and has a wider scatter.  The scales of prior and noise are learned in `evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from phdl_catalog.calibration.basis import SMOOTHNESS_FIELDS, SmoothBasis, Smoothness

Floats = NDArray[np.float64]

#: Kinds of equations.
PAIR, REFERENCE = 0, 1

#: Log-normal priors of the learned scales: median, and width in natural logarithms.  Amplitudes and scatters
#: in dex; length scales in units of `basis.COORDINATE_UNIT`.  They only matter where calibrators say little.
SCALE_PRIORS = {
    "linear": (0.10, 1.0),
    "surface": (0.10, 0.5),
    "scale_teff": (1.1, 0.4),
    "scale_logg": (0.7, 0.4),
    "metallicity": (0.03, 1.0),
    "interaction": (0.03, 1.0),
    "pair_scatter": (0.02, 0.7),
    "reference_scatter": (0.03, 0.7),
}
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
        median = [value for value, _ in SCALE_PRIORS.values()]
        smoothness = Smoothness(*median[: len(SMOOTHNESS_FIELDS)])
        outlier = []
        for kind in (PAIR, REFERENCE):
            y = equations.y[equations.kind == kind]
            spread = 1.4826 * float(np.median(np.abs(y - np.median(y)))) if y.size else 0.0
            outlier.append(max(4 * spread, 0.3))
        scatter = median[len(SMOOTHNESS_FIELDS) :]
        return cls(smoothness, (scatter[0], scatter[1]), (outlier[0], outlier[1]), (0.02, 0.02))

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
    matrix, right = _normal_equations(equations, precision)
    mean, root, _ = gaussian(matrix, right, variance, survey_precision)
    residual = equations.y - equations.design @ mean
    leverage = np.square(equations.design @ root.T).sum(axis=1)
    return Posterior(mean, root.T @ root, residual, leverage, precision)


def solve_mean(
    basis: SmoothBasis,
    equations: Equations,
    scales: Scales,
    bad: Floats,
    survey_precision: Floats,
    weight: Floats | float = 1.0,
) -> Floats:
    """(K + 2 S,) mean of the posterior alone; arguments as for `solve`, in a third of its time."""
    variance, _ = basis.prior(scales.smoothness)
    precision = _precision(equations, scales, bad) * weight
    matrix, right = _normal_equations(equations, precision)
    return gaussian(matrix, right, variance, survey_precision)[0]


def _normal_equations(equations: Equations, precision: Floats) -> tuple[Floats, Floats]:
    weighted = equations.design * np.sqrt(precision)[:, None]
    return weighted.T @ weighted, equations.design.T @ (precision * equations.y)


def gaussian(
    matrix: Floats, right: Floats, variance: Floats, survey_precision: Floats
) -> tuple[Floats, Floats, float]:
    """Mean, root of the covariance, and log determinant of a posterior.

    Parameters
    ----------
    matrix, right : (K + 2 S, K + 2 S) and (K + 2 S,) arrays
        Normal equations of the data.
    variance : (K,) array
        Prior variances of the coefficients.
    survey_precision : (2 S, 2 S) array
        Prior inverse covariance of the zero-points and scales of the surveys.

    Returns
    -------
    mean : (K + 2 S,) array
        Of coefficients, zero-points and scales.
    root : (K + 2 S, K + 2 S) array
        R with R^T R their covariance.
    log_determinant : float
        log det(A) + log det(D): A the posterior precision and D the prior covariance of the coefficients.
    """
    count = variance.size
    scale = np.ones(len(matrix))
    scale[:count] = np.sqrt(variance)
    scaled = matrix * scale * scale[:, None]
    scaled[np.arange(count), np.arange(count)] += 1.0
    scaled[count:, count:] += survey_precision
    lower = cholesky(scaled, lower=True, check_finite=False)
    root = solve_triangular(lower, np.diag(scale), lower=True, check_finite=False)
    mean = root.T @ (root @ right)
    return mean, root, 2 * float(np.log(np.diag(lower)).sum())


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
