"""Scatter before and after a correction: of the calibrators it was fitted to, and of those it never saw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from phdl_catalog.calibration.calibrators import Calibrators, Use
from phdl_catalog.calibration.inference import PAIR, REFERENCE, Equations, Scales
from phdl_catalog.calibration.joint import JointSolution
from phdl_catalog.calibration.members import Members
from phdl_catalog.calibration.problem import LabelProblem, label_problem
from phdl_catalog.calibration.report import Scatter

Floats = NDArray[np.float64]


def fill_members(
    members: tuple[Members, Members],
    problem: LabelProblem,
    equations: Equations,
    mean: Floats,
    size: int,
    bad: Floats,
    unit: float,
) -> None:
    before, after = differences(equations, mean, size)
    for kind, rows in ((PAIR, problem.pair_rows), (REFERENCE, problem.reference_rows)):
        chosen = equations.kind == kind
        table = members[kind]
        table.weight[rows, problem.label] = 1 - bad[chosen]
        table.before[rows, problem.label] = before[chosen] * unit
        table.after[rows, problem.label] = after[chosen] * unit
        table.error[rows, problem.label] = np.sqrt(equations.variance[chosen]) * unit


def differences(equations: Equations, mean: Floats, size: int) -> tuple[Floats, Floats]:
    """(n,) differences with raw and with corrected labels; survey zero-points are taken out of both."""
    before = equations.y - equations.design[:, size:] @ mean[size:]
    return before, before - equations.design[:, :size] @ mean[:size]


def scatter_of(
    equations: Equations, mean: Floats, size: int, scales: Scales, bad: Floats, kind: int, unit: float
) -> Scatter:
    chosen = equations.kind == kind
    if not chosen.any():
        return Scatter()
    good = (1 - bad)[chosen]
    noise = scales.inlier_variance(equations)
    weight = good / noise[chosen]
    before, after = differences(equations, mean, size)

    def spread(square: Floats) -> float | None:
        return (
            float(np.sqrt((weight * square[chosen]).sum() / weight.sum())) * unit
            if weight.sum() > 0
            else None
        )

    return Scatter(
        count=int(chosen.sum()),
        rejected=int(np.sum(good < 0.5)),
        before=spread(before**2),
        after=spread(after**2),
        expected=spread(noise),
    )


def held_out_scatter(
    calibrators: Calibrators,
    state: JointSolution,
    problem: LabelProblem,
    mean: Floats,
    members: tuple[Members, Members],
) -> dict[int, Scatter]:
    """Scatter of the calibrators the solution never saw, bad ones recognised by the same rule."""
    held = label_problem(
        calibrators,
        problem.label,
        np.flatnonzero(calibrators.pair_use == Use.HELD_OUT),
        np.flatnonzero(calibrators.reference_use == Use.HELD_OUT),
    )
    held.scales = problem.scales
    equations = state.equations(calibrators, held, mean)
    residual = equations.y - equations.design @ mean
    uncertainty = np.einsum(
        "nk,kl,nl->n", equations.design, problem.posterior.covariance, equations.design, optimize=True
    )
    inlier = problem.scales.inlier_variance(equations) + uncertainty
    outlier = problem.scales.outlier_variance(equations) + uncertainty
    evidence = 0.5 * (np.log(inlier / outlier) + residual**2 * (1 / inlier - 1 / outlier))
    shared = [state.bad_pairs, state.bad_references]
    used = [calibrators.pair_use == Use.USED, calibrators.reference_use == Use.USED]
    rates = np.array(
        [
            np.clip(shared[kind][used[kind]].mean() if used[kind].any() else 0.05, 0.005, 0.5)
            + problem.scales.contamination[kind]
            for kind in (PAIR, REFERENCE)
        ]
    )
    bad = expit(logit(np.clip(rates, 0.005, 0.6))[equations.kind] + evidence)
    unit, size = calibrators.units[problem.label], state.basis.size
    fill_members(members, held, equations, mean, size, bad, unit)
    return {
        kind: scatter_of(equations, mean, size, problem.scales, bad, kind, unit) for kind in (PAIR, REFERENCE)
    }
