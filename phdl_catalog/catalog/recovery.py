"""How well a catalogue recovers labels that are known: before and after calibration, label by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.labels import get_label

#: Median absolute deviation of a normal distribution to its standard deviation.
_MAD_TO_SIGMA = 1.4826

#: Fewest stars from which a trend is stated.
_FEWEST_STARS = 10

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Deviation:
    """How values differ from the truth.

    Parameters
    ----------
    bias : float
        Median of value minus truth.
    scatter : float
        Robust standard deviation of value minus truth around that median.
    trend : float
        Slope of value minus truth with effective temperature, per 1000 K (Theil & Sen); NaN for few stars.
    """

    bias: float
    scatter: float
    trend: float


@dataclass(frozen=True)
class LabelRecovery:
    """One label: how it was before and after calibration.

    Parameters
    ----------
    name : str
        The label.
    n : int
        Stars that have a value.
    raw, calibrated : Deviation
        Before and after.
    error : float
        Median of the published errors.
    pull : float
        Robust standard deviation of (calibrated - truth) / error: 1 if the errors are right, less if they are
        too large.
    """

    name: str
    n: int
    raw: Deviation
    calibrated: Deviation
    error: float
    pull: float


def compare_with_truth(
    label_names: Sequence[str], truth: Floats, raw: Floats, calibrated: Floats, errors: Floats
) -> list[LabelRecovery]:
    """Compare labels with what is known to be true.

    Parameters
    ----------
    label_names : (L,) sequence of str
        Must have ``teff``, against whose true value trends are measured.
    truth, raw, calibrated, errors : (N, L) array
        True labels, labels before and after calibration, errors of the latter; NaN for missing.

    Returns
    -------
    list of LabelRecovery
        In the order of the labels; labels without any star are left out.
    """
    shapes = [np.shape(array) for array in (truth, raw, calibrated, errors)]
    if len(set(shapes)) != 1 or shapes[0][1:] != (len(label_names),):
        raise InputError(
            f"truth, raw, calibrated and errors must all have shape (N, {len(label_names)}), not {shapes}"
        )
    teff = truth[:, list(label_names).index("teff")]
    found = []
    for column, name in enumerate(label_names):
        there = (
            np.isfinite(calibrated[:, column]) & np.isfinite(raw[:, column]) & np.isfinite(truth[:, column])
        )
        if not there.any():
            continue
        known, sigma = truth[there, column], errors[there, column]
        difference = calibrated[there, column] - known
        found.append(
            LabelRecovery(
                name=name,
                n=int(there.sum()),
                raw=_deviation(raw[there, column] - known, teff[there]),
                calibrated=_deviation(difference, teff[there]),
                error=float(np.median(sigma)),
                pull=_robust_sigma(difference / sigma),
            )
        )
    return found


def _deviation(difference: Floats, teff: Floats) -> Deviation:
    trend = np.nan
    if difference.size >= _FEWEST_STARS:
        from scipy.stats import theilslopes

        trend = 1000.0 * float(theilslopes(difference, teff).slope)
    return Deviation(float(np.median(difference)), _robust_sigma(difference), trend)


def _robust_sigma(values: Floats) -> float:
    return float(_MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def draw_recovery(
    path: Path,
    label_names: Sequence[str],
    truth: Floats,
    raw: Floats,
    calibrated: Floats,
    wanted: Sequence[str],
) -> None:
    """Draw value minus truth against temperature, before and after calibration, one panel a label.

    Parameters
    ----------
    path : Path
        Picture to write; the suffix says the format.
    label_names : (L,) sequence of str
        Labels of the columns.
    truth, raw, calibrated : (N, L) array
        As for `compare_with_truth`.
    wanted : sequence of str
        Labels to draw; those that the columns have not are left out.
    """
    from matplotlib.figure import Figure

    names = [name for name in wanted if name in label_names]
    teff = truth[:, list(label_names).index("teff")]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        column = list(label_names).index(name)
        for values, colour, text in ((raw, "0.65", "as fitted"), (calibrated, "C0", "calibrated")):
            axis.plot(teff, values[:, column] - truth[:, column], ".", ms=4, mew=0, color=colour, label=text)
        axis.axhline(0.0, color="black", lw=0.8)
        axis.set_title(f"{get_label(name).symbol}", fontsize=10)
        spread = np.nanpercentile(np.abs(raw[:, column] - truth[:, column]), 97) * 1.4
        if np.isfinite(spread) and spread > 0:
            axis.set_ylim(-spread, spread)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for axis in axes[max(len(names) - columns, 0) : len(names)]:
        axis.set_xlabel("true Teff [K]")
    for axis in axes[: len(names) : columns]:
        axis.set_ylabel("recovered - true [dex]")
    axes[0].legend(loc="upper right", fontsize=8, markerscale=2, handletextpad=0.1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
