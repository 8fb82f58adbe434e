"""All labels together: they share which calibrators are bad, how far surveys differ, and where stars are.

A chance pair is a chance pair in every label, so the evidence of all labels is pooled; each label may have
bad calibrators of its own.  The zero-points of the surveys have one spread, learned from all labels.  The
coordinates of a reference star are uncertain; where the reference says more about them, the weighted mean is
used, because its error is independent of the residual that is fitted: without that, noise in fe_h would look
like a correction that depends on fe_h.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from phdl_catalog.calibration.basis import COORDINATES, SmoothBasis
from phdl_catalog.calibration.calibrators import Calibrators, is_shared_by_siblings
from phdl_catalog.calibration.inference import (
    PAIR,
    REFERENCE,
    Equations,
    Posterior,
    Scales,
    learn,
    learn_outliers,
    marginalise,
    outlier_evidence,
    solve,
)

Floats = NDArray[np.float64]

#: Rounds over all labels; the answer changes by less than a tenth of its error after the fourth.
_ROUNDS = 6

#: L-BFGS iterations of each round: none at first, while no calibrator has been recognised as bad.
_STEPS = (0, 25, 10, 8, 8, 8)

#: Evidence of one label for or against one calibrator is limited to this, so that none decides alone.
_MOST_EVIDENCE = 15.0
_LEAST_EVIDENCE = -2.0

#: A survey whose zero-point is fixed: prior variance [dex^2].
_FIXED = 1e-10

#: Smallest spread of survey zero-points worth distinguishing [dex].
_LEAST_SPREAD = 0.003

#: A combined coordinate is only used where raw and independent value agree within this many sigma.
_AGREEMENT = 4.0


@dataclass
class LabelProblem:
    """Working state of one label.

    Parameters
    ----------
    label : int
        Column of the label.
    pair_rows, reference_rows : arrays of int
        Which pairs and references have an equation; pairs come first in every array of equations.
    y, variance : (n,) arrays
        Right side, and squared quoted error [units of `Calibrators.units`].
    """

    label: int
    pair_rows: NDArray[np.int64]
    reference_rows: NDArray[np.int64]
    y: Floats
    variance: Floats
    scales: Scales = field(init=False)
    own: Floats = field(init=False)
    equations: Equations = field(init=False)
    posterior: Posterior = field(init=False)

    @property
    def kind(self) -> NDArray[np.int8]:
        kinds = np.full(len(self.y), REFERENCE, dtype=np.int8)
        kinds[: len(self.pair_rows)] = PAIR
        return kinds


@dataclass
class JointSolution:
    """The state after the last round.

    Parameters
    ----------
    basis : SmoothBasis
        Functions of the correction, K of them.
    problems : list of LabelProblem
        Labels that have equations.
    pair_points : (M, 2, 3) array
        Coordinates of the stars of each pair.
    reference_points : (K, 3) array
        Coordinates of the reference stars.
    pair_errors, reference_errors : (M, 2, 3) and (K, 3) arrays
        Errors of the coordinates.
    bad_pairs, bad_references : (M,) and (K,) arrays
        Probability of being bad in every label.
    survey_spread : float
        Standard deviation of survey zero-points [dex].
    """

    basis: SmoothBasis
    problems: list[LabelProblem]
    pair_points: Floats
    reference_points: Floats
    pair_errors: Floats
    reference_errors: Floats
    bad_pairs: Floats
    bad_references: Floats
    survey_spread: float = 0.05
    _pair_design: Floats = field(init=False, repr=False)
    _reference_design: Floats = field(init=False, repr=False)
    _pair_slopes: Floats = field(init=False, repr=False)
    _reference_slopes: Floats = field(init=False, repr=False)

    def shared_bad(self, problem: LabelProblem) -> Floats:
        """(n,) probability of being bad in every label, for each equation."""
        return np.r_[self.bad_pairs[problem.pair_rows], self.bad_references[problem.reference_rows]]

    def bad(self, problem: LabelProblem) -> Floats:
        """(n,) probability of being bad for any reason."""
        return np.asarray(1 - (1 - self.shared_bad(problem)) * (1 - problem.own))

    def equations(
        self, calibrators: Calibrators, problem: LabelProblem, coefficients: Floats | None = None
    ) -> Equations:
        """The equations of a label at the present coordinates.

        Parameters
        ----------
        calibrators : Calibrators
            Checked calibrators.
        problem : LabelProblem
            The label, and which calibrators.
        coefficients : (K,) array, optional
            The correction as known so far: its slopes turn errors of the coordinates into noise.
        """
        equations = _equations(calibrators, problem, self._pair_design, self._reference_design)
        if coefficients is None:
            return equations
        noise = self._coordinate_noise(problem, coefficients)
        return replace(equations, variance=equations.variance + noise)

    def _coordinate_noise(self, problem: LabelProblem, coefficients: Floats) -> Floats:
        """(n,) variance of each equation that comes from the errors of its stars' coordinates."""
        rows = problem.pair_rows
        moved = (self._pair_slopes[rows] @ coefficients) * self.pair_errors[rows]
        pairs = np.square(moved[:, :, :2]).sum(axis=(1, 2))
        # Siblings have one fe_h, and one error of it.
        pairs += np.square(moved[:, 0, 2] - moved[:, 1, 2])
        rows = problem.reference_rows
        moved = (self._reference_slopes[rows] @ coefficients) * self.reference_errors[rows]
        return np.r_[pairs, np.square(moved).sum(axis=1)]

    def evaluate(self) -> None:
        """Evaluate the functions at the coordinates; to be called when these change."""
        first, second = self.pair_points[:, 0], self.pair_points[:, 1]
        self._pair_design = self.basis.functions(first) - self.basis.functions(second)
        self._reference_design = self.basis.functions(self.reference_points)
        self._pair_slopes = np.stack([self.basis.slopes(first), self.basis.slopes(second)], axis=1)
        self._reference_slopes = self.basis.slopes(self.reference_points)


def label_problem(
    calibrators: Calibrators, label: int, pair_rows: NDArray[np.int64], reference_rows: NDArray[np.int64]
) -> LabelProblem:
    """The equations of one label among some of the calibrators.

    Parameters
    ----------
    calibrators : Calibrators
        Checked calibrators.
    label : int
        Column of the label.
    pair_rows, reference_rows : arrays of int
        Pairs and references to take; those without this label are left out.
    """
    x, e = calibrators.labels[:, label], calibrators.errors[:, label]
    unit = calibrators.units[label]
    first, second = calibrators.pairs[pair_rows].T
    difference = x[first] - x[second]
    if not is_shared_by_siblings(calibrators.label_names[label]):
        difference = np.full_like(difference, np.nan)
    rows = calibrators.reference_rows[reference_rows]
    residual = x[rows] - calibrators.reference_labels[reference_rows, label]
    keep_pairs, keep_references = np.isfinite(difference), np.isfinite(residual)
    variance = np.r_[
        (e[first] ** 2 + e[second] ** 2)[keep_pairs],
        (e[rows] ** 2 + calibrators.reference_errors[reference_rows, label] ** 2)[keep_references],
    ]
    return LabelProblem(
        label=label,
        pair_rows=pair_rows[keep_pairs],
        reference_rows=reference_rows[keep_references],
        y=np.r_[difference[keep_pairs], residual[keep_references]] / unit,
        variance=variance / unit**2,
    )


def _equations(
    calibrators: Calibrators, problem: LabelProblem, pairs: Floats, references: Floats
) -> Equations:
    surveys = np.zeros((len(problem.y), len(calibrators.survey_names)))
    count = len(problem.pair_rows)
    column = calibrators.survey[problem.reference_rows]
    surveys[np.arange(count, len(problem.y)), column] = -1.0
    functions = np.concatenate([pairs[problem.pair_rows], references[problem.reference_rows]])
    return Equations(np.hstack([functions, surveys]), problem.y, problem.variance, problem.kind)


def survey_precision(
    calibrators: Calibrators, problem: LabelProblem, spread: float, scale_survey: str | None
) -> Floats:
    """(S, S) prior inverse covariance of the survey zero-points of a label.

    One combination must be fixed, because a constant may be given to the correction or to all zero-points:
    that of `scale_survey`, or else the sum over surveys with equal weights, less for those of few stars.
    """
    names = calibrators.survey_names
    counts = np.bincount(calibrators.survey[problem.reference_rows], minlength=len(names))
    if scale_survey is not None and counts[names.index(scale_survey)] > 0:
        variance = np.where([name == scale_survey for name in names], _FIXED, spread**2)
        return np.diag(1 / variance)
    weight = counts / (counts + 10.0)
    if np.count_nonzero(counts) <= 1:
        return np.eye(len(names)) / _FIXED
    weight /= weight.sum()
    return np.asarray(np.eye(len(names)) / spread**2 + np.outer(weight, weight) / _FIXED)


def solve_jointly(
    calibrators: Calibrators,
    basis: SmoothBasis,
    problems: list[LabelProblem],
    scale_survey: str | None,
) -> JointSolution:
    """Iterate between corrections, bad calibrators, survey spread and coordinates.

    Parameters
    ----------
    calibrators : Calibrators
        Checked calibrators.
    basis : SmoothBasis
        Functions of the corrections.
    problems : list of LabelProblem
        Labels with equations; their state is filled.
    scale_survey : str or None
        Survey whose zero-point is zero by definition.
    """
    pair_points, pair_errors = _pair_coordinates(calibrators)
    state = JointSolution(
        basis=basis,
        problems=problems,
        pair_points=pair_points,
        reference_points=calibrators.coordinates[calibrators.reference_rows],
        pair_errors=pair_errors,
        reference_errors=calibrators.coordinate_errors[calibrators.reference_rows],
        bad_pairs=np.full(len(calibrators.pairs), 0.05),
        bad_references=np.full(len(calibrators.reference_rows), 0.05),
    )
    for problem in problems:
        problem.own = np.full(len(problem.y), 0.02)
    for number in range(_ROUNDS):
        state.evaluate()
        for problem in problems:
            known = problem.posterior.mean[: basis.size] if number else None
            problem.equations = state.equations(calibrators, problem, known)
            if number == 0:
                problem.scales = Scales.initial(problem.equations)
            precision = survey_precision(calibrators, problem, state.survey_spread, scale_survey)
            bad = state.bad(problem)
            if _STEPS[number]:
                problem.scales = learn(
                    basis, problem.equations, problem.scales, bad, precision, steps=_STEPS[number]
                )
            problem.posterior = solve(basis, problem.equations, problem.scales, bad, precision)
            if number == _ROUNDS - 1:
                problem.posterior = marginalise(
                    basis, problem.equations, problem.scales, bad, precision, problem.posterior
                )
        if number < _ROUNDS - 1:
            _recognise_bad(calibrators, state)
            _learn_survey_spread(calibrators, state)
            _improve_coordinates(calibrators, state)
    return state


def _recognise_bad(calibrators: Calibrators, state: JointSolution) -> None:
    """Pool the evidence of all labels on each calibrator, then look at each label alone."""
    problems = state.problems
    pair_evidence = np.full((len(problems), len(state.bad_pairs)), np.nan)
    reference_evidence = np.full((len(problems), len(state.bad_references)), np.nan)
    for number, problem in enumerate(problems):
        evidence = outlier_evidence(problem.equations, problem.scales, problem.posterior)
        count = len(problem.pair_rows)
        pair_evidence[number, problem.pair_rows] = evidence[:count]
        reference_evidence[number, problem.reference_rows] = evidence[count:]
        prior = logit(np.asarray(problem.scales.contamination)[problem.kind])
        problem.own = expit(prior + np.clip(evidence, None, 50.0))
    state.bad_pairs = _pooled(pair_evidence, calibrators.pair_chance, state.bad_pairs)
    unknown = np.full(len(state.bad_references), np.nan)
    state.bad_references = _pooled(reference_evidence, unknown, state.bad_references)
    for problem in problems:
        problem.scales = learn_outliers(
            problem.equations, problem.scales, problem.posterior, state.bad(problem), problem.own
        )


def _pooled(evidence: Floats, prior: Floats, present: Floats) -> Floats:
    """(n,) probability of being bad in every label from (L', n) evidence; NaN: no equation."""
    if not evidence.size:
        return present
    known = np.isfinite(evidence)
    limited = np.where(known, np.clip(evidence, _LEAST_EVIDENCE, _MOST_EVIDENCE), 0.0)
    seen = known.any(axis=0)
    fraction = float(np.clip((present[seen].sum() + 1) / (seen.sum() + 20), 0.005, 0.5))
    chance = np.where(np.isfinite(prior), np.clip(prior, 0.0, 0.98), 0.0)
    total = 1 - (1 - chance) * (1 - fraction)
    # Errors of the labels of one star are correlated (all follow teff), so that sixteen labels are no
    # sixteen independent witnesses: their evidence is halved.
    damping = np.maximum(known.sum(axis=0), 1) ** 0.25
    return np.asarray(expit(logit(total) + limited.sum(axis=0) / damping))


def _learn_survey_spread(calibrators: Calibrators, state: JointSolution) -> None:
    count = len(calibrators.survey_names)
    squares, weight = 1e-2 * state.survey_spread**2, 1e-2
    for problem in state.problems:
        present = np.unique(calibrators.survey[problem.reference_rows])
        if present.size < 2:
            continue
        mean = problem.posterior.mean[-count:][present]
        variance = np.diag(problem.posterior.covariance)[-count:][present]
        squares += float((mean**2 + variance).sum())
        weight += present.size - 1
    state.survey_spread = max(float(np.sqrt(squares / weight)), _LEAST_SPREAD)


def _pair_coordinates(calibrators: Calibrators) -> tuple[Floats, Floats]:
    """(M, 2, 3) coordinates of the stars of the pairs, and errors: own teff and logg, one fe_h for both.

    Siblings have one fe_h.  With their own raw ones, b = fe_h would explain every difference of fe_h.
    """
    points, errors = (
        calibrators.coordinates[calibrators.pairs],
        calibrators.coordinate_errors[calibrators.pairs],
    )
    weight = errors[:, :, 2] ** -2
    points[:, :, 2] = ((points[:, :, 2] * weight).sum(axis=1) / weight.sum(axis=1))[:, None]
    errors[:, :, 2] = weight.sum(axis=1)[:, None] ** -0.5
    return points, errors


def _improve_coordinates(calibrators: Calibrators, state: JointSolution) -> None:
    """Combine raw coordinates with what references say about them."""
    raw, names = calibrators.coordinates, calibrators.label_names
    reference_points = raw[calibrators.reference_rows].copy()
    reference_errors = calibrators.coordinate_errors[calibrators.reference_rows]
    functions = state.basis.functions(state.reference_points)
    solved = {problem.label: problem for problem in state.problems}
    for axis, name in enumerate(COORDINATES):
        problem = solved.get(names.index(name))
        if problem is None:
            continue
        unit, size = calibrators.units[problem.label], state.basis.size
        coefficients = problem.posterior.mean[:size] * unit
        if len(problem.reference_rows):
            rows = problem.reference_rows
            stars = calibrators.reference_rows[rows]
            zero = problem.posterior.mean[size:][calibrators.survey[rows]] * unit
            other = calibrators.reference_labels[rows, problem.label] - zero + functions[rows] @ coefficients
            scatter = problem.scales.scatter[REFERENCE] * unit
            other_variance = calibrators.reference_errors[rows, problem.label] ** 2 + scatter**2
            reference_points[rows, axis], reference_errors[rows, axis] = _combined(
                raw[stars, axis], calibrators.errors[stars, problem.label] ** 2, other, other_variance
            )
    state.reference_points, state.reference_errors = reference_points, reference_errors


def _combined(raw: Floats, variance: Floats, other: Floats, other_variance: Floats) -> tuple[Floats, Floats]:
    """Weighted mean of two values where they agree, else the raw one; and its error."""
    mean = (raw * other_variance + other * variance) / (variance + other_variance)
    agree = np.abs(raw - other) < _AGREEMENT * np.sqrt(variance + other_variance)
    combined = 1 / (1 / variance + 1 / other_variance)
    return np.where(agree, mean, raw), np.sqrt(np.where(agree, combined, variance))
