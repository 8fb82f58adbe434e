"""What each survey's labels differ by from the common scale: a zero-point, and a scale.

    reference = true + z + k (true - pivot)

The true label of a reference star is the mean of its corrected value and of the reference, weighted by their
variances: the error of that mean is independent of their difference, which is what is fitted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.calibrators import Calibrators

Floats = NDArray[np.float64]

#: Prior standard deviation of a survey's scale: five per cent of the distance from the pivot.
SCALE_SIGMA = 0.05

#: A zero-point or a scale that is fixed: prior variance [dex^2].
_FIXED = 1e-10

#: A survey of so many stars counts half in the mean of all.
_HALF_WEIGHT = 10.0


def survey_columns(survey: NDArray[np.int64], count: int, beyond_pivot: Floats) -> Floats:
    """(n, 2 S) columns of the equations raw - reference = b - z - k (true - pivot): zero-points, then scales.

    Parameters
    ----------
    survey : (n,) int array
        Number of the survey of each equation; -1 for a pair.
    count : int
        Number of surveys, S.
    beyond_pivot : (n,) array
        True label minus pivot [units of the equations]; NaN where it is not known, as for pairs.
    """
    columns = np.zeros((len(survey), 2 * count))
    rows = np.flatnonzero(survey >= 0)
    columns[rows, survey[rows]] = -1.0
    columns[rows, count + survey[rows]] = -np.nan_to_num(beyond_pivot[rows])
    return columns


def survey_precision(
    calibrators: Calibrators, rows: NDArray[np.int64], spread: float, scale_survey: str | None
) -> Floats:
    """(2 S, 2 S) prior inverse covariance of zero-points and scales of a label.

    One combination of each must be fixed, because a constant may be given to the correction or to all
    zero-points, and a slope to the correction or to all scales: that of `scale_survey`, or else the sum over
    surveys with equal weights, less for those of few stars.

    Parameters
    ----------
    calibrators : Calibrators
        Checked calibrators.
    rows : (k,) int array
        References that have the label.
    spread : float
        Standard deviation of the zero-points [dex].
    scale_survey : str or None
        Survey whose scale the labels get.
    """
    names = calibrators.survey_names
    size = len(names)
    counts = np.bincount(calibrators.survey[rows], minlength=size)
    result = np.zeros((2 * size, 2 * size))
    for block, sigma in ((slice(0, size), spread), (slice(size, 2 * size), SCALE_SIGMA)):
        if scale_survey is not None and counts[names.index(scale_survey)] > 0:
            variance = np.where([name == scale_survey for name in names], _FIXED, sigma**2)
            result[block, block] = np.diag(1 / variance)
        elif np.count_nonzero(counts) <= 1:
            result[block, block] = np.eye(size) / _FIXED
        else:
            weight = counts / (counts + _HALF_WEIGHT)
            weight /= weight.sum()
            result[block, block] = np.eye(size) / sigma**2 + np.outer(weight, weight) / _FIXED
    return result
