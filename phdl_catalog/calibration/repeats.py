"""What repeated observations say of the quoted errors: a scale that changes with S/N, and a floor.

The two fits of one star differ by nothing but their noise.  For every label

    sigma**2 = (scale * (snr / 50)**slope * quoted)**2 + floor**2

is fitted to the differences; a few of them may be wrong (another star in the fibre, a bad spectrum), which
wide components take up.  What is the same in every observation of a star is not seen this way: that is
what pairs and references are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

Floats = NDArray[np.float64]

#: S/N at which the scale is quoted, and the range outside which it is not extrapolated.
PIVOT_SNR = 50.0
SNR_RANGE = (5.0, 500.0)

#: Fewer differences than this and the quoted errors stand; fewer than the second, and their slope does.
LEAST_REPEATS = 20
_LEAST_FOR_SLOPE = 100

#: Share of the differences, and how many times wider than noise they scatter: good ones, poor ones, and those
#: of another star, which at high S/N are far beyond any error and must not raise the floor.
_COMPONENTS = ((0.97, 1.0), (0.02, 6.0), (0.01, 60.0))

#: Log-normal prior of the scale, normal prior of the slope, and of the floor's share [median quoted errors].
_SCALE_WIDTH, _SLOPE_WIDTH, _FLOOR_WIDTH = 1.0, 0.3, 1.0

#: S/N that separate the lines of the table in a report.
SNR_EDGES = (0.0, 20.0, 40.0, 80.0, 160.0, np.inf)


@dataclass(frozen=True)
class SnrBin:
    """Repeats of one range of S/N.

    Parameters
    ----------
    low, high : float or None
        Range of S/N; None: without end.
    count : int
        Differences.
    quoted, scaled : float
        Robust scatter of the differences in units of the quoted error, and of the error after scaling: 1
        where it is right.
    """

    low: float
    high: float | None
    count: int
    quoted: float
    scaled: float


@dataclass(frozen=True)
class ErrorScale:
    """How the quoted errors of one label are to be changed.

    Parameters
    ----------
    label : str
        Label name.
    scale, slope, floor : float
        See above; the floor in label units.
    count : int
        Differences they come from; 0: there were too few, the quoted errors stand.
    bins : tuple of SnrBin
        By S/N, how right the errors are before and after.
    """

    label: str
    scale: float = 1.0
    slope: float = 0.0
    floor: float = 0.0
    count: int = 0
    bins: tuple[SnrBin, ...] = ()

    def factor(self, snr: Floats) -> Floats:
        """(n,) number by which a quoted error is multiplied; at `PIVOT_SNR` where the S/N is not known."""
        known = np.where(np.isfinite(snr), np.clip(snr, *SNR_RANGE), PIVOT_SNR)
        return np.asarray(self.scale * (known / PIVOT_SNR) ** self.slope)

    def apply(self, errors: Floats, snr: Floats) -> Floats:
        """(n,) errors as the repeats have them."""
        return np.hypot(errors * self.factor(snr), self.floor)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "bins": [asdict(entry) for entry in self.bins]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ErrorScale:
        """Inverse of `to_dict`."""
        return cls(**{**document, "bins": tuple(SnrBin(**entry) for entry in document["bins"])})


def learn_error_scale(
    label: str, difference: Floats, errors: Floats, snr: Floats, unit: float = 1.0
) -> ErrorScale:
    """Scale, slope and floor of one label's errors.

    Parameters
    ----------
    label : str
        Label name.
    difference : (R,) array
        First fit minus second; NaN where one has no value.
    errors : (R, 2) array
        Quoted errors of both.
    snr : (R, 2) array
        S/N of both; NaN where unknown.
    unit : float
        Size of a dex in label units.

    Returns
    -------
    ErrorScale
        The quoted errors as they are if there are fewer than `LEAST_REPEATS` differences.
    """
    good = np.isfinite(difference) & np.all(np.isfinite(errors) & (errors > 0), axis=1)
    y, e = difference[good] / unit, errors[good] / unit
    given = snr[good]
    if len(y) < LEAST_REPEATS:
        return ErrorScale(label)
    logarithm = np.log(np.where(np.isfinite(given), np.clip(given, *SNR_RANGE), PIVOT_SNR) / PIVOT_SNR)
    typical = float(np.median(e))
    free = len(y) >= _LEAST_FOR_SLOPE and float(np.ptp(logarithm)) > np.log(2)

    def minus_log_posterior(vector: Floats) -> float:
        scale, slope, floor = vector if free else (vector[0], 0.0, vector[1])
        variance = np.square(e * np.exp(scale + slope * logarithm)).sum(axis=1) + 2 * (typical * floor) ** 2
        terms = [
            np.log(share) - 0.5 * np.log(ratio**2 * variance) - 0.5 * y**2 / (ratio**2 * variance)
            for share, ratio in _COMPONENTS
        ]
        prior = (scale / _SCALE_WIDTH) ** 2 + (slope / _SLOPE_WIDTH) ** 2 + (floor / _FLOOR_WIDTH) ** 2
        return float(0.5 * prior - logsumexp(np.stack(terms), axis=0).sum())

    bounds = [(np.log(0.1), np.log(20.0)), *([(-1.5, 1.5)] if free else []), (0.0, 20.0)]
    start = np.array([0.0, *([0.0] if free else []), 0.3])
    found = minimize(minus_log_posterior, start, method="L-BFGS-B", bounds=bounds).x
    slope = float(found[1]) if free else 0.0
    scale = ErrorScale(label, float(np.exp(found[0])), slope, float(found[-1]) * typical * unit, len(y))
    return ErrorScale(
        label, scale.scale, scale.slope, scale.floor, scale.count, _by_snr(scale, y * unit, e * unit, given)
    )


def _by_snr(scale: ErrorScale, difference: Floats, errors: Floats, snr: Floats) -> tuple[SnrBin, ...]:
    least = np.min(np.where(np.isfinite(snr), snr, PIVOT_SNR), axis=1)
    quoted = np.sqrt(np.square(errors).sum(axis=1))
    scaled = np.hypot(*(scale.apply(errors[:, side], snr[:, side]) for side in (0, 1)))
    bins = []
    for low, high in pairwise(SNR_EDGES):
        chosen = (least >= low) & (least < high)
        if np.count_nonzero(chosen) < LEAST_REPEATS:
            continue
        spread = [1.4826 * float(np.median(np.abs(difference / error)[chosen])) for error in (quoted, scaled)]
        end = float(high) if np.isfinite(high) else None
        bins.append(SnrBin(float(low), end, int(chosen.sum()), *spread))
    return tuple(bins)


def scaled_errors(scales: tuple[ErrorScale, ...], errors: Floats, snr: Floats) -> Floats:
    """(N, L) errors as the repeats have them.

    Parameters
    ----------
    scales : (L,) tuple of ErrorScale
        One a label.
    errors : (N, L) array
        Quoted errors.
    snr : (N,) array
        S/N of each fit; NaN where unknown.
    """
    return np.stack([entry.apply(errors[:, column], snr) for column, entry in enumerate(scales)], axis=1)
