"""`calibrate`: from raw fits of calibrator stars to a correction of every label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.assessment import assess
from phdl_catalog.calibration.basis import COORDINATES, SmoothBasis
from phdl_catalog.calibration.calibrators import Calibrators, Use, check_calibrators, row_numbers, to_array
from phdl_catalog.calibration.joint import solve_jointly
from phdl_catalog.calibration.problem import LabelProblem, label_problem
from phdl_catalog.calibration.refinement import refine
from phdl_catalog.calibration.repeats import ErrorScale, learn_error_scale, scaled_errors
from phdl_catalog.calibration.solution import CalibrationSolution
from phdl_catalog.errors import CalibrationError, InputError

#: Fewer calibrators than this and none is held out: all are needed.
_LEAST_FOR_HOLDING_OUT = 20

#: Fewer equations than this do not make a label a calibrated one.
LEAST_EQUATIONS = 3


def calibrate(
    label_names: Sequence[str],
    labels: Any,
    errors: Any,
    *,
    pairs: Any = None,
    reference_rows: Any = None,
    reference_labels: Any = None,
    reference_errors: Any = None,
    surveys: Any = None,
    pair_chance: Any = None,
    repeats: Any = None,
    snr: Any = None,
    coordinate_covariance: Any = None,
    held_out_fraction: float = 0.2,
    scale_survey: str | None = None,
    seed: int = 0,
) -> CalibrationSolution:
    """Find the correction of every label from wide binaries and high-resolution reference stars.

    For each label a smooth b(teff, logg, fe_h) of the raw labels, with b(A) - b(B) = x_A - x_B for the two
    stars of a wide binary (abundances only: they were born with the same) and b(s) = x_s - reference for a
    reference star.  Amplitude, length scales and intrinsic scatters are learned by marginal likelihood; bad
    calibrators are recognised and weighted out; see ``docs/explanation/calibration.md``.

    Parameters
    ----------
    label_names : (L,) sequence of str
        Label names; teff, logg and fe_h must be among them.
    labels, errors : (N, L) array_like
        Raw fits of the calibrator stars [label units]; NaN where a fit failed.
    pairs : (M, 2) array_like of int, optional
        Row numbers of the two stars of each wide binary.
    reference_rows : (K,) array_like of int, optional
        Row numbers of stars with reference labels.
    reference_labels : (K, L) array_like, optional
        Reference labels, NaN where the reference has no value.
    reference_errors : (K, L) array_like, optional
        Their errors; a missing one is taken as the median of its survey and label.
    surveys : (K,) sequence of str, optional
        Survey of each reference.  Every survey has its own zero-point and scale in every label.
    pair_chance : (M,) array_like, optional
        Probability that a pair is a chance alignment; NaN if unknown.
    repeats : (R, 2) array_like of int, optional
        Row numbers of two fits of one star each: they say how right the quoted errors are, which are scaled
        before anything else is done.
    snr : (N,) array_like, optional
        S/N of each fit, on which the scale of the errors depends; NaN if unknown.
    coordinate_covariance : (N, L, 3) array_like, optional
        Covariance of the errors of every label with those of teff, logg and fe_h of the same fit.
    held_out_fraction : float
        Part of pairs and of reference stars that is kept out of the solution and used to test it; none where
        there are fewer than 20.
    scale_survey : str, optional
        Survey whose scale the corrected labels get.  Default: the mean of all surveys, those with few stars
        (10 and less) counting less.
    seed : int
        Seed of the choice of held-out calibrators.

    Returns
    -------
    CalibrationSolution
        Corrections, errors, validity and a report.

    Raises
    ------
    InputError
        If shapes do not agree; the message quotes both.
    CalibrationError
        If there are neither pairs nor references.
    """
    calibrators = check_calibrators(
        label_names,
        labels,
        errors,
        pairs,
        reference_rows,
        reference_labels,
        reference_errors,
        surveys,
        pair_chance,
        coordinate_covariance,
    )
    if not 0 <= held_out_fraction <= 0.5:
        raise InputError(f"held_out_fraction must be between 0 and 0.5, not {held_out_fraction}")
    if scale_survey is not None and scale_survey not in calibrators.survey_names:
        known = ", ".join(calibrators.survey_names) or "none"
        raise InputError(f"scale_survey '{scale_survey}' is not among the surveys: {known}")
    calibrators, scales = _with_scaled_errors(calibrators, repeats, snr)
    _require_usable(calibrators)
    generator = np.random.default_rng(seed)
    _hold_out(calibrators, held_out_fraction, generator)
    basis = SmoothBasis.around(_support(calibrators))
    solved = solve_jointly(calibrators, basis, _problems(calibrators), scale_survey, generator)
    refine(calibrators, solved, scale_survey, generator)
    configuration = {
        "held_out_fraction": held_out_fraction,
        "scale_survey": scale_survey,
        "seed": seed,
        "surveys": list(calibrators.survey_names),
    }
    return assess(calibrators, solved, scales, configuration, scale_survey)


def _with_scaled_errors(
    calibrators: Calibrators, repeats: Any, snr: Any
) -> tuple[Calibrators, tuple[ErrorScale, ...]]:
    """The calibrators with errors as the repeats have them, and the scale of each label."""
    count = len(calibrators.labels)
    rows = row_numbers("repeats", repeats, 2, count)
    known = np.full(count, np.nan) if snr is None else to_array(snr)
    if known.shape != (count,):
        raise InputError(f"snr must have shape ({count},) like the rows of labels, not {known.shape}")
    first, second = rows.T
    scales = tuple(
        learn_error_scale(
            name,
            calibrators.labels[first, column] - calibrators.labels[second, column],
            calibrators.errors[rows, column],
            known[rows],
            float(calibrators.units[column]),
        )
        for column, name in enumerate(calibrators.label_names)
    )
    errors = scaled_errors(scales, calibrators.errors, known)
    with np.errstate(invalid="ignore"):
        factor = errors / calibrators.errors
    axes = [calibrators.label_names.index(name) for name in COORDINATES]
    coupling = np.nan_to_num(calibrators.coupling * factor[:, :, None] * factor[:, None, axes])
    return replace(calibrators, errors=errors, coupling=coupling), scales


def _require_usable(calibrators: Calibrators) -> None:
    uses = {"pairs": calibrators.pair_use, "references": calibrators.reference_use}
    if any(np.any(use == Use.USED) for use in uses.values()):
        return
    counts = "; ".join(
        f"{len(use)} {kind}: "
        + ", ".join(f"{number} {name}" for name, number in Counter(map(str, use)).items())
        for kind, use in uses.items()
        if len(use)
    )
    raise CalibrationError(
        f"no calibrator can be used ({counts.replace('_', ' ')}): both stars of a pair and each reference "
        "star need a fit with teff, logg and fe_h inside their physical bounds, errors above zero, and a "
        "label in common"
    )


def _hold_out(calibrators: Calibrators, fraction: float, generator: np.random.Generator) -> None:
    """Mark a random part of pairs and of reference stars; a star is held out from all its surveys at once."""
    pairs = np.flatnonzero(calibrators.pair_use == Use.USED)
    if len(pairs) >= _LEAST_FOR_HOLDING_OUT:
        chosen = generator.choice(pairs, round(fraction * len(pairs)), replace=False)
        calibrators.pair_use[chosen] = Use.HELD_OUT
    used = calibrators.reference_use == Use.USED
    stars = np.unique(calibrators.reference_rows[used])
    if len(stars) >= _LEAST_FOR_HOLDING_OUT:
        held = generator.choice(stars, round(fraction * len(stars)), replace=False)
        calibrators.reference_use[used & np.isin(calibrators.reference_rows, held)] = Use.HELD_OUT


def _support(calibrators: Calibrators) -> NDArray[np.float64]:
    """(n, 3) coordinates of the stars in the equations."""
    pairs = calibrators.pairs[calibrators.pair_use == Use.USED]
    rows = calibrators.reference_rows[calibrators.reference_use == Use.USED]
    stars = np.unique(np.r_[pairs.ravel(), rows])
    return calibrators.coordinates[stars]


def _problems(calibrators: Calibrators) -> list[LabelProblem]:
    pairs = np.flatnonzero(calibrators.pair_use == Use.USED)
    references = np.flatnonzero(calibrators.reference_use == Use.USED)
    problems = [
        label_problem(calibrators, label, pairs, references) for label in range(len(calibrators.label_names))
    ]
    return [problem for problem in problems if len(problem.y) >= LEAST_EQUATIONS]
