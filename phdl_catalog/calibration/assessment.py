"""Judge a joint solution: cross-validation, held-out calibrators, validity, and what is not constrained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from phdl_catalog.calibration.basis import CONSTANT_SIGMA
from phdl_catalog.calibration.calibrators import Calibrators, Use
from phdl_catalog.calibration.inference import (
    PAIR,
    REFERENCE,
    Equations,
    Scales,
    constant_only,
    leave_one_out,
)
from phdl_catalog.calibration.joint import JointSolution, LabelProblem, label_problem, survey_precision
from phdl_catalog.calibration.members import Members
from phdl_catalog.calibration.report import CalibrationReport, Constraint, LabelReport, Scatter
from phdl_catalog.calibration.solution import CalibrationSolution, LabelCorrection
from phdl_catalog.calibration.validity import CellGrid

Floats = NDArray[np.float64]

#: References of a label that fix its zero-point: fewer cannot tell a bad one from the others.
_LEAST_REFERENCES = 3

#: A correction is of use where its error is below this [dex; 1000 K], or below the label's own median error.
_USEFUL_ERROR = 0.1

#: Pairs whose stars differ by less than this in teff [K] and logg say nothing on the shape of a correction.
_LEAST_DIFFERENCE = {"teff": 150.0, "logg": 0.15}

#: Lower limits of logg of the populations that are counted.
_POPULATIONS = {"dwarfs": 4.1, "subgiants": 3.2, "giants": -np.inf}


def assess(
    calibrators: Calibrators,
    state: JointSolution,
    configuration: Mapping[str, Any],
    scale_survey: str | None,
) -> CalibrationSolution:
    """Make the solution that users see of the state of the last round.

    Parameters
    ----------
    calibrators : Calibrators
        Checked calibrators, with some held out.
    state : JointSolution
        The joint solution of the used ones.
    configuration : dict
        Options to be stored.
    scale_survey : str or None
        Survey whose zero-point is zero by definition.
    """
    size = len(calibrators.label_names)
    members = (Members.empty(calibrators.pair_use, size), Members.empty(calibrators.reference_use, size))
    grid = CellGrid.of(state.basis)
    functions = state.basis.functions(grid.centers)
    solved = {problem.label: problem for problem in state.problems}
    corrections, entries = [], []
    for label, name in enumerate(calibrators.label_names):
        problem = solved.get(label)
        if problem is None:
            corrections.append(_uncalibrated(name, state.basis.size, grid.size))
            entries.append(LabelReport(name, Constraint.NOTHING, notes=(_why_nothing(calibrators, label),)))
            continue
        correction, entry = _assess_label(calibrators, state, problem, scale_survey, grid, functions, members)
        corrections.append(correction)
        entries.append(entry)
    failed = int(np.count_nonzero(~np.all(np.isfinite(calibrators.coordinates), axis=1)))
    report = CalibrationReport(
        stars=len(calibrators.labels),
        failed_stars=failed,
        pair_use=_tally(calibrators.pair_use),
        reference_use=_tally(calibrators.reference_use),
        populations=_populations(calibrators),
        labels=tuple(entries),
        notes=_notes(calibrators, state),
    )
    return CalibrationSolution(
        calibrators.label_names, state.basis, grid, tuple(corrections), *members, dict(configuration), report
    )


def _assess_label(
    calibrators: Calibrators,
    state: JointSolution,
    problem: LabelProblem,
    scale_survey: str | None,
    grid: CellGrid,
    functions: Floats,
    members: tuple[Members, Members],
) -> tuple[LabelCorrection, LabelReport]:
    name, unit = calibrators.label_names[problem.label], calibrators.units[problem.label]
    size = state.basis.size
    bad = state.bad(problem)
    precision = survey_precision(calibrators, problem, state.survey_spread, scale_survey)
    mean, form = _choose_form(problem, bad, precision)
    _fill_members(members, problem, problem.equations, mean, size, bad, unit)
    good = problem.kind[bad < 0.5]
    pairs, references = int(np.sum(good == PAIR)), int(np.sum(good == REFERENCE))
    zero_point = references >= _LEAST_REFERENCES
    covariance = problem.posterior.covariance[:size, :size] * unit**2
    blurred = state.basis.blurring(_coordinate_errors(calibrators)) * mean[:size] * unit
    covariance = covariance + np.outer(blurred, blurred)
    support = _support_points(calibrators, state, problem, bad)
    cells = grid.supported(support)
    error = np.full(grid.size, np.inf)
    error[cells] = _shape_error(
        functions[cells], covariance, None if zero_point else state.basis.functions(support)
    )
    column = calibrators.errors[:, problem.label]
    useful = max(_USEFUL_ERROR * unit, float(np.nanmedian(column)))
    correction = LabelCorrection(
        name, mean[:size] * unit, covariance, cells & (error <= useful), zero_point, True
    )
    if pairs and references >= _LEAST_REFERENCES:
        constraint = Constraint.PAIRS_AND_REFERENCES
    else:
        constraint = Constraint.REFERENCES_ONLY if zero_point else Constraint.PAIRS_ONLY
    held = _held_out(calibrators, state, problem, mean, members)
    own = state.basis.functions(support)
    entry = LabelReport(
        label=name,
        constraint=constraint,
        pairs=_scatter(problem.equations, mean, size, problem.scales, bad, PAIR, unit),
        references=_scatter(problem.equations, mean, size, problem.scales, bad, REFERENCE, unit),
        held_out_pairs=held[PAIR],
        held_out_references=held[REFERENCE],
        pair_scatter=problem.scales.scatter[PAIR] * unit if pairs else None,
        reference_scatter=problem.scales.scatter[REFERENCE] * unit if references else None,
        amplitude=float(np.std(own @ correction.coefficients)) if len(own) else None,
        median_error=float(np.median(_shape_error(own, covariance, None))) if len(own) else None,
        zero_points=_zero_points(calibrators, problem, mean, unit, size),
        form=form,
        notes=_label_notes(calibrators, problem, bad, constraint, held, correction),
    )
    return correction, entry


def _coordinate_errors(calibrators: Calibrators) -> Floats:
    """(3,) typical errors of teff, logg and fe_h of the calibrators."""
    return np.asarray(np.nanmedian(calibrators.coordinate_errors, axis=0))


def _choose_form(problem: LabelProblem, bad: Floats, precision: Floats) -> tuple[Floats, str]:
    """The smooth correction, unless leaving calibrators out one by one shows that less is better."""
    posterior, equations = problem.posterior, problem.equations
    count = posterior.mean.size - len(precision)
    residual, variance = leave_one_out(posterior)
    constant = constant_only(equations, posterior, precision, CONSTANT_SIGMA)
    none = np.zeros_like(posterior.mean)
    none[count:] = posterior.mean[count:]
    noise = 1 / posterior.precision

    def score(difference: Floats, spread: Floats) -> float:
        return float(((1 - bad) * (-0.5 * np.log(spread) - 0.5 * difference**2 / spread)).sum())

    scores = {
        "smooth": score(residual, variance),
        "constant": score(equations.y - equations.design @ constant, noise),
        "none": score(equations.y - equations.design @ none, noise),
    }
    best = max(scores, key=lambda form: scores[form])
    return {"smooth": posterior.mean, "constant": constant, "none": none}[best], best


def _fill_members(
    members: tuple[Members, Members],
    problem: LabelProblem,
    equations: Equations,
    mean: Floats,
    size: int,
    bad: Floats,
    unit: float,
) -> None:
    before, after = _differences(equations, mean, size)
    for kind, rows in ((PAIR, problem.pair_rows), (REFERENCE, problem.reference_rows)):
        chosen = equations.kind == kind
        table = members[kind]
        table.weight[rows, problem.label] = 1 - bad[chosen]
        table.before[rows, problem.label] = before[chosen] * unit
        table.after[rows, problem.label] = after[chosen] * unit
        table.error[rows, problem.label] = np.sqrt(equations.variance[chosen]) * unit


def _differences(equations: Equations, mean: Floats, size: int) -> tuple[Floats, Floats]:
    """(n,) differences with raw and with corrected labels; survey zero-points are taken out of both."""
    before = equations.y - equations.design[:, size:] @ mean[size:]
    return before, before - equations.design[:, :size] @ mean[:size]


def _support_points(
    calibrators: Calibrators, state: JointSolution, problem: LabelProblem, bad: Floats
) -> Floats:
    """(n, 3) coordinates of the distinct stars in good equations."""
    count = len(problem.pair_rows)
    pairs = problem.pair_rows[bad[:count] < 0.5]
    references = problem.reference_rows[bad[count:] < 0.5]
    stars = np.r_[calibrators.pairs[pairs].ravel(), calibrators.reference_rows[references]]
    points = np.concatenate([state.pair_points[pairs].reshape(-1, 3), state.reference_points[references]])
    _, first = np.unique(stars, return_index=True)
    return np.asarray(points[first])


def _shape_error(functions: Floats, covariance: Floats, relative_to: Floats | None) -> Floats:
    """(n,) error of the correction; of its difference from its mean over calibrators if those are given."""
    values = functions if relative_to is None else functions - relative_to.mean(axis=0)
    return np.sqrt(np.clip(np.einsum("nk,kl,nl->n", values, covariance, values, optimize=True), 0, None))


def _scatter(
    equations: Equations, mean: Floats, size: int, scales: Scales, bad: Floats, kind: int, unit: float
) -> Scatter:
    chosen = equations.kind == kind
    if not chosen.any():
        return Scatter()
    good = (1 - bad)[chosen]
    noise = scales.inlier_variance(equations)
    weight = good / noise[chosen]
    before, after = _differences(equations, mean, size)

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


def _held_out(
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
    equations = state.equations(calibrators, held, mean[: state.basis.size])
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
    _fill_members(members, held, equations, mean, size, bad, unit)
    return {
        kind: _scatter(equations, mean, size, problem.scales, bad, kind, unit) for kind in (PAIR, REFERENCE)
    }


def _zero_points(
    calibrators: Calibrators, problem: LabelProblem, mean: Floats, unit: float, size: int
) -> dict[str, tuple[float, float]]:
    present = np.unique(calibrators.survey[problem.reference_rows])
    sigma = np.sqrt(np.diag(problem.posterior.covariance)[size:])
    return {
        calibrators.survey_names[number]: (float(mean[size + number] * unit), float(sigma[number] * unit))
        for number in present
    }


def _label_notes(
    calibrators: Calibrators,
    problem: LabelProblem,
    bad: Floats,
    constraint: Constraint,
    held: Mapping[int, Scatter],
    correction: LabelCorrection,
) -> tuple[str, ...]:
    notes = []
    if constraint is Constraint.PAIRS_ONLY:
        notes.append(
            "no zero-point: fewer than three reference stars have this label, so a constant may be added; "
            "valid() is False, valid(zero_point=False) tells where the shape is known"
        )
    if len(problem.pair_rows) and (note := _span_note(calibrators, problem)):
        notes.append(note)
    if not correction.cells.any():
        notes.append("valid nowhere: the calibrators are too few or too far apart")
    if bad.mean() > 0.3:
        notes.append(
            f"{100 * bad.mean():.0f} % of the calibrators disagree with the solution: look at them first"
        )
    for kind, word in ((PAIR, "pairs"), (REFERENCE, "references")):
        if held[kind].worse:
            notes.append(
                f"held-out {word} scatter more after the correction than before: do not certify unseen"
            )
    return tuple(notes)


def _span_note(calibrators: Calibrators, problem: LabelProblem) -> str | None:
    points = calibrators.coordinates[calibrators.pairs[problem.pair_rows]]
    difference = np.abs(points[:, 0] - points[:, 1])
    largest = np.quantile(difference, 0.95, axis=0)
    if largest[0] < _LEAST_DIFFERENCE["teff"] and largest[1] < _LEAST_DIFFERENCE["logg"]:
        return (
            f"the stars of every pair are alike (within {largest[0]:.0f} K and {largest[1]:.2f} in logg): "
            "pairs say nothing on how the correction changes"
        )
    return None


def _why_nothing(calibrators: Calibrators, label: int) -> str:
    if not np.isfinite(calibrators.labels[:, label]).any():
        return "not calibrated: no calibrator star has a fitted value"
    return "not calibrated: fewer than three pairs or references have this label"


def _uncalibrated(name: str, size: int, cells: int) -> LabelCorrection:
    return LabelCorrection(
        name, np.zeros(size), np.zeros((size, size)), np.zeros(cells, dtype=bool), False, False
    )


def _tally(use: NDArray[np.object_]) -> dict[str, int]:
    counts = Counter(str(entry) for entry in use)
    return {str(kind): counts[str(kind)] for kind in Use if counts[str(kind)]}


def _populations(calibrators: Calibrators) -> dict[str, dict[str, int]]:
    logg = calibrators.coordinates[:, 1]
    upper, result = np.inf, {}
    paired = np.unique(calibrators.pairs[calibrators.pair_use == Use.USED])
    referenced = calibrators.reference_rows[calibrators.reference_use == Use.USED]
    for name, lower in _POPULATIONS.items():
        inside = (logg >= lower) & (logg < upper)
        result[name] = {"pair_stars": int(inside[paired].sum()), "references": int(inside[referenced].sum())}
        upper = lower
    return result


def _notes(calibrators: Calibrators, state: JointSolution) -> tuple[str, ...]:
    notes = []
    if not np.any(calibrators.pair_use == Use.USED):
        notes.append("no usable wide binary: shape and zero-point rest on the references alone")
    if not np.any(calibrators.reference_use == Use.USED):
        notes.append(
            "no usable reference star: zero-points are not known, and teff and logg are not calibrated"
        )
    for name, count in _populations(calibrators).items():
        if count["pair_stars"] and not count["references"] and np.any(calibrators.reference_use == Use.USED):
            notes.append(f"{name}: no reference star; their zero-point is that of the others")
    if len(calibrators.survey_names) > 1:
        notes.append(
            f"zero-points of the surveys differ by {state.survey_spread:.3f} dex (one sigma, all labels): "
            "the common scale is uncertain by about that over the square root of their number"
        )
    return tuple(notes)
