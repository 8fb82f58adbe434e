"""Checks against what was not used: stars of one cluster agree, well-known stars come out as known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.calibrators import is_shared_by_siblings

Floats = NDArray[np.float64]

#: Stars of a cluster, and range of their teff [K], from which scatter and trend are told.
_LEAST_STARS, _LEAST_RANGE = 5, 200.0

#: Stars further than this from the median are no members, or bad [robust sigma].
_OUTLIER = 5.0

#: The Sun: IAU 2015 nominal teff and logg; abundances are relative to it.
SUN = {"teff": 5772.0, "logg": 4.438, "fe_h": 0.0}


@dataclass(frozen=True)
class Trend:
    """Stars of one cluster in one label, raw or corrected.

    Parameters
    ----------
    median, scatter : float
        Median, and robust scatter about it [label units].
    slope, slope_error : float or None
        Change with teff [label units per 1000 K]; None where the range of teff is too small.
    """

    median: float
    scatter: float
    slope: float | None
    slope_error: float | None


@dataclass(frozen=True)
class ClusterCheck:
    """One label in one cluster.

    Parameters
    ----------
    cluster, label : str
        What is checked.
    stars, outliers : int
        Stars used, and stars left out because they are far from all others.
    raw, corrected : Trend
        Before and after the correction.
    expected : float
        Scatter that the errors of the corrected labels allow [label units].
    valid : float
        Fraction of the stars inside the validity range.
    """

    cluster: str
    label: str
    stars: int
    outliers: int
    raw: Trend
    corrected: Trend
    expected: float
    valid: float


@dataclass(frozen=True)
class StarCheck:
    """One label over well-known stars.

    Parameters
    ----------
    label : str
        Label name.
    stars : int
        Stars that have it.
    raw, corrected : float
        Median difference, ours minus known, before and after.
    raw_scatter, corrected_scatter : float or None
        Robust scatter of it; None of a single star.
    in_sigma : float
        Median of the corrected differences over their errors, in size.
    valid : float
        Fraction of the stars inside the validity range.
    """

    label: str
    stars: int
    raw: float
    corrected: float
    raw_scatter: float | None
    corrected_scatter: float | None
    in_sigma: float
    valid: float


@dataclass(frozen=True, eq=False)
class CheckedFits:
    """Fits of stars that are checked.

    Parameters
    ----------
    label_names : (L,) tuple of str
        Label names.
    raw, corrected, errors : (N, L) arrays
        Raw and corrected labels, and errors of the latter.
    valid : (N, L) bool array
        Whether the correction may be used.
    """

    label_names: tuple[str, ...]
    raw: Floats
    corrected: Floats
    errors: Floats
    valid: NDArray[np.bool_]


def check_clusters(fits: CheckedFits, clusters: Sequence[str]) -> list[ClusterCheck]:
    """Scatter and trend with teff of the abundances inside clusters.

    Parameters
    ----------
    fits : CheckedFits
        N stars.
    clusters : (N,) sequence of str
        Cluster of each.

    Returns
    -------
    list of ClusterCheck
        Clusters by name, labels in their order; those with fewer than five stars left out.
    """
    names, number = np.unique(np.array(clusters, dtype=object).astype(str), return_inverse=True)
    teff = fits.corrected[:, fits.label_names.index("teff")]
    checks = []
    for cluster, name in enumerate(names.tolist()):
        for column, label in enumerate(fits.label_names):
            if not is_shared_by_siblings(label):
                continue
            rows = (number == cluster) & np.isfinite(fits.corrected[:, column]) & np.isfinite(teff)
            rows = np.flatnonzero(rows & np.isfinite(fits.errors[:, column]))
            if rows.size < _LEAST_STARS:
                continue
            values = fits.corrected[rows, column]
            spread = max(_robust(values), float(np.median(fits.errors[rows, column])))
            good = rows[np.abs(values - np.median(values)) <= _OUTLIER * spread]
            checks.append(
                ClusterCheck(
                    cluster=name,
                    label=label,
                    stars=len(good),
                    outliers=len(rows) - len(good),
                    raw=_trend(teff[good], fits.raw[good, column], fits.errors[good, column]),
                    corrected=_trend(teff[good], fits.corrected[good, column], fits.errors[good, column]),
                    expected=float(np.sqrt(np.mean(np.square(fits.errors[good, column])))),
                    valid=float(fits.valid[good, column].mean()),
                )
            )
    return checks


def check_stars(fits: CheckedFits, known: Floats, known_errors: Floats) -> list[StarCheck]:
    """Differences from what is known of stars.

    Parameters
    ----------
    fits : CheckedFits
        N stars.
    known, known_errors : (N, L) arrays
        Known labels, NaN where they are not; a missing error counts as none.
    """
    checks = []
    for column, label in enumerate(fits.label_names):
        difference = fits.corrected[:, column] - known[:, column]
        rows = np.flatnonzero(np.isfinite(difference))
        if not rows.size:
            continue
        before = fits.raw[rows, column] - known[rows, column]
        error = np.hypot(fits.errors[rows, column], np.nan_to_num(known_errors[rows, column]))
        alone = rows.size < 2
        checks.append(
            StarCheck(
                label=label,
                stars=len(rows),
                raw=float(np.median(before)),
                corrected=float(np.median(difference[rows])),
                raw_scatter=None if alone else _robust(before),
                corrected_scatter=None if alone else _robust(difference[rows]),
                in_sigma=float(np.nanmedian(np.abs(difference[rows]) / error)),
                valid=float(fits.valid[rows, column].mean()),
            )
        )
    return checks


def _robust(values: Floats) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _trend(teff: Floats, values: Floats, errors: Floats) -> Trend:
    median, scatter = float(np.median(values)), _robust(values)
    if np.ptp(teff) < _LEAST_RANGE:
        return Trend(median, scatter, None, None)
    x = (teff - teff.mean()) / 1000.0
    weight = 1 / (np.square(errors) + scatter**2)
    x = x - np.average(x, weights=weight)
    information = float((weight * x**2).sum())
    slope = float((weight * x * (values - np.average(values, weights=weight))).sum() / information)
    return Trend(median, scatter, slope, information**-0.5)
