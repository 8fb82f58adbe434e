"""Judge a joint solution: cross-validation, held-out calibrators, validity, and what is not constrained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.basis import CONSTANT_SIGMA
from phdl_catalog.calibration.calibrators import Calibrators, Use
from phdl_catalog.calibration.directions import POPULATIONS, Directions
from phdl_catalog.calibration.inference import PAIR, REFERENCE
from phdl_catalog.calibration.joint import JointSolution
from phdl_catalog.calibration.members import Members
from phdl_catalog.calibration.problem import LabelProblem
from phdl_catalog.calibration.repeats import ErrorScale
from phdl_catalog.calibration.report import CalibrationReport, Constraint, LabelReport, Scatter
from phdl_catalog.calibration.resampling import constant_only, leave_one_out
from phdl_catalog.calibration.solution import CalibrationSolution, LabelCorrection
from phdl_catalog.calibration.surveys import survey_precision
from phdl_catalog.calibration.testing import fill_members, held_out_scatter, scatter_of
from phdl_catalog.calibration.validity import CellGrid

Floats = NDArray[np.float64]

#: References of a label that fix its zero-point: fewer cannot tell a bad one from the others.
_LEAST_REFERENCES = 3

#: A correction is of use where its error is below this [dex; 1000 K], or below the label's own median error.
_USEFUL_ERROR = 0.1

#: Pairs whose stars differ by less than this in teff [K] and logg say nothing on the shape of a correction.
_LEAST_DIFFERENCE = {"teff": 150.0, "logg": 0.15}


def assess(
    calibrators: Calibrators,
    state: JointSolution,
    error_scales: tuple[ErrorScale, ...],
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
    error_scales : (L,) tuple of ErrorScale
        What repeats say of the errors.
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
    known = Directions.of(calibrators, state.basis)
    corrections, entries = [], []
    for label, name in enumerate(calibrators.label_names):
        problem = solved.get(label)
        if problem is None:
            corrections.append(_uncalibrated(name, state.basis.size, grid.size, error_scales[label]))
            entries.append(LabelReport(name, Constraint.NOTHING, notes=(_why_nothing(calibrators, label),)))
            continue
        scale = error_scales[label]
        correction, entry = _assess_label(
            calibrators, state, problem, scale, scale_survey, grid, functions, members
        )
        corrections.append(correction)
        unseen = known.unseen(state, problem)
        entries.append(replace(entry, unseen_by_pairs=unseen.by_pairs, unseen=unseen.by_all))
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
    scale: ErrorScale,
    scale_survey: str | None,
    grid: CellGrid,
    functions: Floats,
    members: tuple[Members, Members],
) -> tuple[LabelCorrection, LabelReport]:
    name, unit = calibrators.label_names[problem.label], calibrators.units[problem.label]
    size = state.basis.size
    bad = state.bad(problem)
    precision = survey_precision(calibrators, problem.reference_rows, state.survey_spread, scale_survey)
    mean, form = _choose_form(problem, bad, precision)
    fill_members(members, problem, problem.equations, mean, size, bad, unit)
    good = problem.kind[bad < 0.5]
    pairs, references = int(np.sum(good == PAIR)), int(np.sum(good == REFERENCE))
    zero_point = references >= _LEAST_REFERENCES
    covariance = problem.posterior.covariance[:size, :size] * unit**2
    support = _support_points(calibrators, state, problem, bad)
    cells = grid.supported(support)
    error = np.full(grid.size, np.inf)
    error[cells] = _shape_error(
        functions[cells], covariance, None if zero_point else state.basis.functions(support)
    )
    column = calibrators.errors[:, problem.label]
    useful = max(_USEFUL_ERROR * unit, float(np.nanmedian(column)))
    correction = LabelCorrection(
        name, mean[:size] * unit, covariance, cells & (error <= useful), zero_point, True, scale
    )
    if pairs and references >= _LEAST_REFERENCES:
        constraint = Constraint.PAIRS_AND_REFERENCES
    else:
        constraint = Constraint.REFERENCES_ONLY if zero_point else Constraint.PAIRS_ONLY
    held = held_out_scatter(calibrators, state, problem, mean, members)
    own = state.basis.functions(support)
    entry = LabelReport(
        label=name,
        constraint=constraint,
        pairs=scatter_of(problem.equations, mean, size, problem.scales, bad, PAIR, unit),
        references=scatter_of(problem.equations, mean, size, problem.scales, bad, REFERENCE, unit),
        held_out_pairs=held[PAIR],
        held_out_references=held[REFERENCE],
        pair_scatter=problem.scales.scatter[PAIR] * unit if pairs else None,
        reference_scatter=problem.scales.scatter[REFERENCE] * unit if references else None,
        amplitude=float(np.std(own @ correction.coefficients)) if len(own) else None,
        median_error=float(np.median(_shape_error(own, covariance, None))) if len(own) else None,
        zero_points=_survey_terms(calibrators, problem, mean[size:] * unit, 0, unit),
        survey_scales=_survey_terms(calibrators, problem, mean[size:], len(calibrators.survey_names), 1.0),
        strength=problem.strength,
        bootstrap=problem.bootstrap,
        form=form,
        notes=_label_notes(calibrators, problem, bad, constraint, held, correction),
    )
    return correction, entry


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


def _survey_terms(
    calibrators: Calibrators, problem: LabelProblem, terms: Floats, first: int, unit: float
) -> dict[str, tuple[float, float]]:
    """Zero-points or scales of the surveys that have the label, and their errors."""
    present = np.unique(calibrators.survey[problem.reference_rows])
    count = len(calibrators.survey_names)
    sigma = np.sqrt(np.diag(problem.posterior.covariance)[-2 * count :])
    return {
        calibrators.survey_names[number]: (
            float(terms[first + number]),
            float(sigma[first + number] * unit),
        )
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


def _uncalibrated(name: str, size: int, cells: int, scale: ErrorScale) -> LabelCorrection:
    nowhere = np.zeros(cells, dtype=bool)
    return LabelCorrection(name, np.zeros(size), np.zeros((size, size)), nowhere, False, False, scale)


def _tally(use: NDArray[np.object_]) -> dict[str, int]:
    counts = Counter(str(entry) for entry in use)
    return {str(kind): counts[str(kind)] for kind in Use if counts[str(kind)]}


def _populations(calibrators: Calibrators) -> dict[str, dict[str, int]]:
    logg = calibrators.coordinates[:, 1]
    upper, result = np.inf, {}
    paired = np.unique(calibrators.pairs[calibrators.pair_use == Use.USED])
    referenced = calibrators.reference_rows[calibrators.reference_use == Use.USED]
    for name, lower in POPULATIONS.items():
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
