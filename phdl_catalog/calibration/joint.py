"""All labels together: they share which calibrators are bad, how far surveys differ, and where stars are.

A chance pair is a chance pair in every label, so the evidence of all labels is pooled; each label may have
bad calibrators of its own.  The zero-points of the surveys have one spread, learned from all labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.basis import COORDINATES, SmoothBasis
from phdl_catalog.calibration.calibrators import Calibrators
from phdl_catalog.calibration.coordinates import combined, pair_coordinates, shaken
from phdl_catalog.calibration.evidence import learn
from phdl_catalog.calibration.inference import REFERENCE, Equations, Scales, solve
from phdl_catalog.calibration.problem import LabelProblem
from phdl_catalog.calibration.recognition import recognise_bad
from phdl_catalog.calibration.surveys import survey_columns, survey_precision

Floats = NDArray[np.float64]

#: Rounds over all labels; the answer changes by less than a tenth of its error after the fourth.
_ROUNDS = 6

#: L-BFGS iterations of each round: none at first, while no calibrator has been recognised as bad.
_STEPS = (0, 25, 10, 8, 8, 8)

#: Smallest spread of survey zero-points worth distinguishing [dex].
_LEAST_SPREAD = 0.003

#: How often the coordinates are shaken by their errors, each time up and down.
_SHAKES = 6


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
    _shaken: list[tuple[Floats, Floats]] = field(init=False, repr=False)

    def shared_bad(self, problem: LabelProblem) -> Floats:
        """(n,) probability of being bad in every label, for each equation."""
        return np.r_[self.bad_pairs[problem.pair_rows], self.bad_references[problem.reference_rows]]

    def bad(self, problem: LabelProblem) -> Floats:
        """(n,) probability of being bad for any reason."""
        return np.asarray(1 - (1 - self.shared_bad(problem)) * (1 - problem.own))

    def equations(
        self, calibrators: Calibrators, problem: LabelProblem, mean: Floats | None = None
    ) -> Equations:
        """The equations of a label at the present coordinates.

        Parameters
        ----------
        calibrators : Calibrators
            Checked calibrators.
        problem : LabelProblem
            The label, and which calibrators.
        mean : (K + 2 S,) array, optional
            The solution as known so far: its slopes turn errors of the coordinates into noise, and it tells
            the true labels of the references, on which the scales of the surveys work.
        """
        design = self._design(problem, self._pair_design, self._reference_design)
        count = len(calibrators.survey_names)
        survey = np.r_[np.full(len(problem.pair_rows), -1), calibrators.survey[problem.reference_rows]]
        beyond = np.full(len(survey), np.nan)
        variance = problem.variance
        if mean is not None:
            variance = variance + self._coordinate_noise(calibrators, problem, mean[: self.basis.size])
            beyond[len(problem.pair_rows) :] = self.beyond_pivot(calibrators, problem, mean)
        columns = survey_columns(survey, count, beyond)
        return Equations(np.hstack([design, columns]), problem.y, variance, problem.kind)

    def shaken_equations(self, problem: LabelProblem) -> list[Equations]:
        """The equations of a label with the coordinates moved by noise as large as their errors."""
        size = self.basis.size
        return [
            replace(
                problem.equations,
                design=np.hstack([self._design(problem, *shaken), problem.equations.design[:, size:]]),
            )
            for shaken in self._shaken
        ]

    def _design(self, problem: LabelProblem, pairs: Floats, references: Floats) -> Floats:
        return np.concatenate([pairs[problem.pair_rows], references[problem.reference_rows]])

    def beyond_pivot(self, calibrators: Calibrators, problem: LabelProblem, mean: Floats) -> Floats:
        """(k,) true label of each reference, as known so far, minus the middle of all."""
        rows, size, unit = problem.reference_rows, self.basis.size, calibrators.units[problem.label]
        stars, survey = calibrators.reference_rows[rows], calibrators.survey[rows]
        raw = calibrators.labels[stars, problem.label] / unit
        corrected = raw - self._reference_design[rows] @ mean[:size]
        reference = calibrators.reference_labels[rows, problem.label] / unit - mean[size + survey]
        one = (calibrators.errors[stars, problem.label] / unit) ** 2
        other = (calibrators.reference_errors[rows, problem.label] / unit) ** 2
        other = other + problem.scales.scatter[REFERENCE] ** 2
        true, _ = combined(corrected, one, reference, other)
        return np.asarray(true - problem.pivot)

    def _coordinate_noise(
        self, calibrators: Calibrators, problem: LabelProblem, coefficients: Floats
    ) -> Floats:
        """(n,) variance of each equation that comes from the errors of its stars' coordinates.

        With the covariance of label and coordinate: an error of teff moves the label and the correction.
        """
        unit = calibrators.units[problem.label]
        rows = problem.pair_rows
        slopes = self._pair_slopes[rows] @ coefficients
        moved = slopes * self.pair_errors[rows]
        # Siblings have one fe_h, and one error of it.
        pairs = np.square(moved[:, :, :2]).sum(axis=(1, 2)) + np.square(moved[:, 0, 2] - moved[:, 1, 2])
        coupling = calibrators.coupling[calibrators.pairs[rows], problem.label, :2] / unit
        pairs -= 2 * (slopes[:, :, :2] * coupling).sum(axis=(1, 2))
        rows = problem.reference_rows
        stars = calibrators.reference_rows[rows]
        slopes = self._reference_slopes[rows] @ coefficients
        references = np.square(slopes * self.reference_errors[rows]).sum(axis=1)
        # A combined coordinate has only its share of the fit's error.
        share = np.square(self.reference_errors[rows] / calibrators.coordinate_errors[stars])
        coupling = calibrators.coupling[stars, problem.label] / unit * share
        names = calibrators.label_names
        coupling[:, [names[problem.label] == name for name in COORDINATES]] = 0.0
        references -= 2 * (slopes * coupling).sum(axis=1)
        # Whatever the covariance says, half of the quoted variance stays.
        return np.maximum(np.r_[pairs, references], -0.5 * problem.variance)

    def evaluate(self) -> None:
        """Evaluate the functions at the coordinates; to be called when these change."""
        first, second = self.pair_points[:, 0], self.pair_points[:, 1]
        self._pair_design = self.basis.functions(first) - self.basis.functions(second)
        self._reference_design = self.basis.functions(self.reference_points)
        self._pair_slopes = np.stack([self.basis.slopes(first), self.basis.slopes(second)], axis=1)
        self._reference_slopes = self.basis.slopes(self.reference_points)

    def shake(self, generator: np.random.Generator) -> None:
        """Evaluate the functions at shaken coordinates."""
        self._shaken = []
        for _ in range(_SHAKES):
            for points, references in shaken(
                self.pair_points, self.pair_errors, self.reference_points, self.reference_errors, generator
            ):
                first, second = points[:, 0], points[:, 1]
                self._shaken.append(
                    (
                        self.basis.functions(first) - self.basis.functions(second),
                        self.basis.functions(references),
                    )
                )


def solve_jointly(
    calibrators: Calibrators,
    basis: SmoothBasis,
    problems: list[LabelProblem],
    scale_survey: str | None,
    generator: np.random.Generator,
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
        Survey whose zero-point is zero and whose scale is one by definition.
    generator : Generator
        Shakes the coordinates.
    """
    pair_points, pair_errors = pair_coordinates(calibrators)
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
            problem.equations = state.equations(
                calibrators, problem, problem.posterior.mean if number else None
            )
            if number == 0:
                problem.scales = Scales.initial(problem.equations)
            precision = survey_precision(
                calibrators, problem.reference_rows, state.survey_spread, scale_survey
            )
            bad = state.bad(problem)
            if _STEPS[number]:
                problem.scales = learn(
                    basis, problem.equations, problem.scales, bad, precision, steps=_STEPS[number]
                )
            problem.posterior = solve(basis, problem.equations, problem.scales, bad, precision)
        if number < _ROUNDS - 1:
            recognise_bad(calibrators, state)
            _learn_survey_spread(calibrators, state)
            _improve_coordinates(calibrators, state)
    state.shake(generator)
    return state


def _learn_survey_spread(calibrators: Calibrators, state: JointSolution) -> None:
    count, size = len(calibrators.survey_names), state.basis.size
    squares, weight = 1e-2 * state.survey_spread**2, 1e-2
    for problem in state.problems:
        present = np.unique(calibrators.survey[problem.reference_rows])
        if present.size < 2:
            continue
        mean = problem.posterior.mean[size : size + count][present]
        variance = np.diag(problem.posterior.covariance)[size : size + count][present]
        squares += float((mean**2 + variance).sum())
        weight += present.size - 1
    state.survey_spread = max(float(np.sqrt(squares / weight)), _LEAST_SPREAD)


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
            stars, survey = calibrators.reference_rows[rows], calibrators.survey[rows]
            offset = problem.posterior.mean[size + survey] * unit
            beyond = state.beyond_pivot(calibrators, problem, problem.posterior.mean) * unit
            offset += problem.posterior.mean[size + len(calibrators.survey_names) + survey] * beyond
            reference = calibrators.reference_labels[rows, problem.label]
            other = reference - offset + functions[rows] @ coefficients
            scatter = problem.scales.scatter[REFERENCE] * unit
            other_variance = calibrators.reference_errors[rows, problem.label] ** 2 + scatter**2
            reference_points[rows, axis], reference_errors[rows, axis] = combined(
                raw[stars, axis], calibrators.errors[stars, problem.label] ** 2, other, other_variance
            )
    state.reference_points, state.reference_errors = reference_points, reference_errors
