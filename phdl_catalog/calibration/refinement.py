"""The last touch to each label: regularisation by cross-validation, uncertain coordinates, honest errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from phdl_catalog.calibration.calibrators import Calibrators
from phdl_catalog.calibration.evidence import marginalise
from phdl_catalog.calibration.inference import solve, solve_mean
from phdl_catalog.calibration.joint import JointSolution
from phdl_catalog.calibration.problem import LabelProblem
from phdl_catalog.calibration.resampling import bootstrap, choose_strength
from phdl_catalog.calibration.surveys import survey_precision

Floats = NDArray[np.float64]

#: Variance of what is left of the blurring, over the square of what was taken out.  With some hundred
#: calibrators it hardly counts; with thousands it is what limits a correction where it turns sharply.
_LEFT = 2.0


def refine(
    calibrators: Calibrators, state: JointSolution, scale_survey: str | None, generator: np.random.Generator
) -> None:
    """Refine every label of a joint solution.

    Parameters
    ----------
    calibrators : Calibrators
        Checked calibrators.
    state : JointSolution
        After its last round; `strength`, `scales`, `bootstrap` and `posterior` of its problems are changed.
    scale_survey : str or None
        Survey whose scale the labels get.
    generator : Generator
        Draws calibrators again.
    """
    by_pair, by_reference = star_groups(calibrators)
    for problem in state.problems:
        groups = np.r_[by_pair[problem.pair_rows], by_reference[problem.reference_rows]]
        precision = survey_precision(calibrators, problem.reference_rows, state.survey_spread, scale_survey)
        _refine(state, problem, precision, groups, generator)


def star_groups(calibrators: Calibrators) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(M,) and (K,) group of each pair and each reference: those that share a star share their noise."""
    first, second = calibrators.pairs.T
    count = len(calibrators.labels)
    links = coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
    group = connected_components(links, directed=False)[1].astype(np.int64)
    return group[first], group[calibrators.reference_rows]


def _refine(
    state: JointSolution,
    problem: LabelProblem,
    precision: Floats,
    groups: NDArray[np.int64],
    generator: np.random.Generator,
) -> None:
    """Uncertain coordinates flatten a curve, and shift it where stars crowd to one side.

    Coordinates shaken by their errors once more do it once more: the difference is taken out.  What that
    leaves is of its own order, and is added to the covariance.  Calibrators that are drawn again, with all
    equations of a star together, say whether the covariance is wide enough; it is widened where it is not.
    """
    basis, equations, bad = state.basis, problem.equations, state.bad(problem)
    problem.strength, problem.scales = choose_strength(basis, equations, problem.scales, bad, precision)
    scales = problem.scales
    posterior = solve(basis, equations, scales, bad, precision)
    moved = [solve_mean(basis, again, scales, bad, precision) for again in state.shaken_equations(problem)]
    shift = np.mean(moved, axis=0) - posterior.mean
    sampling = posterior.covariance @ equations.design.T * posterior.precision
    sampling = sampling @ equations.design @ posterior.covariance
    problem.bootstrap = bootstrap(basis, equations, scales, bad, precision, groups, sampling, generator)
    wider = marginalise(basis, equations, scales, bad, precision, posterior).covariance
    wider = wider + max(problem.bootstrap**2 - 1, 0) * sampling + _LEFT * np.outer(shift, shift)
    mean = posterior.mean - shift
    problem.posterior = replace(
        posterior, mean=mean, covariance=wider, residual=equations.y - equations.design @ mean
    )
