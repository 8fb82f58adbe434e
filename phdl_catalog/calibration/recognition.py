"""Which calibrators are bad: the evidence of all labels on each, then each label alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from phdl_catalog.calibration.calibrators import Calibrators
from phdl_catalog.calibration.inference import learn_outliers, outlier_evidence

if TYPE_CHECKING:
    from phdl_catalog.calibration.joint import JointSolution

Floats = NDArray[np.float64]

#: Evidence of one label for or against one calibrator is limited to this, so that none decides alone.
_MOST_EVIDENCE = 15.0
_LEAST_EVIDENCE = -2.0


def recognise_bad(calibrators: Calibrators, state: JointSolution) -> None:
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
