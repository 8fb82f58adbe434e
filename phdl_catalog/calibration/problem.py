"""The equations of one label, and what is known of them so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.calibrators import Calibrators, is_shared_by_siblings
from phdl_catalog.calibration.inference import PAIR, REFERENCE, Equations, Posterior, Scales

Floats = NDArray[np.float64]


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
    pivot : float
        Label at which the scale of a survey does nothing [the same units].
    strength : float
        Of the regularisation, against that of largest marginal likelihood; chosen by cross-validation.
    bootstrap : float
        Scatter of the correction when calibrators are drawn again, over what its covariance says.
    """

    label: int
    pair_rows: NDArray[np.int64]
    reference_rows: NDArray[np.int64]
    y: Floats
    variance: Floats
    pivot: float
    strength: float = 1.0
    bootstrap: float = 1.0
    scales: Scales = field(init=False)
    own: Floats = field(init=False)
    equations: Equations = field(init=False)
    posterior: Posterior = field(init=False)

    @property
    def kind(self) -> NDArray[np.int8]:
        kinds = np.full(len(self.y), REFERENCE, dtype=np.int8)
        kinds[: len(self.pair_rows)] = PAIR
        return kinds


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
    references = calibrators.reference_labels[np.isfinite(calibrators.reference_labels[:, label]), label]
    return LabelProblem(
        pivot=float(np.median(references)) / unit if references.size else 0.0,
        label=label,
        pair_rows=pair_rows[keep_pairs],
        reference_rows=reference_rows[keep_references],
        y=np.r_[difference[keep_pairs], residual[keep_references]] / unit,
        variance=variance / unit**2,
    )
