"""Figures of a calibration: what it did to pairs and references, the corrections themselves, the pulls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.basis import COORDINATES
from phdl_catalog.calibration.directions import POPULATIONS
from phdl_catalog.calibration.report import CalibrationReport, LabelReport
from phdl_catalog.calibration.solution import CalibrationSolution
from phdl_catalog.labels import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

_USED, _HELD_OUT, _BAD = "#3b6ea5", "#d9822b", "#b9b9b9"
_POPULATION_COLOURS = {"dwarfs": "#3b6ea5", "subgiants": "#d9822b", "giants": "#9a3b3b"}

_LEGEND: Mapping[str, Any] = {"framealpha": 0.8, "edgecolor": "none", "fontsize": 8}
_LEGEND_ABOVE: Mapping[str, Any] = {
    **_LEGEND, "loc": "upper left", "ncols": 3, "columnspacing": 0.8, "handletextpad": 0.1,
}  # fmt: skip

#: A median is drawn of so many points and more, and a distribution of pulls.
_LEAST_POINTS, _LEAST_PULLS = 8, 20

#: Calibrators of a population that a curve needs, and distance of a curve's points [K].
_LEAST_STARS, _STEP = 5, 25.0


@dataclass(frozen=True, eq=False)
class Equations:
    """Equations of one label and one kind, as a set has them.

    Parameters
    ----------
    at : (n, 2) or (n,) array
        Of pairs, teff of both stars [K]; of references, teff of the star.
    value : (n,) array
        Of references, the reference label on the common scale; NaN for pairs.
    before, after, error : (n,) arrays
        Difference with raw and with corrected labels, and its error [label units].
    held_out : (n,) bool array
        Whether the solution never saw it.
    weight : (n,) array
        Probability of being good; 0 where held out.
    """

    at: Floats
    value: Floats
    before: Floats
    after: Floats
    error: Floats
    held_out: NDArray[np.bool_]
    weight: Floats

    def __len__(self) -> int:
        return len(self.before)


@dataclass(frozen=True, eq=False)
class CalibratorStars:
    """teff, logg and fe_h, (n, 3), of the calibrator stars of a set."""

    points: Floats


def draw_label(
    solution: CalibrationSolution,
    label: str,
    pairs: Equations,
    references: Equations,
    stars: CalibratorStars,
    output: Path | BinaryIO,
    title: str,
) -> None:
    """Draw one label: pairs before and after, references one to one, the correction, the pulls.

    Parameters
    ----------
    solution : CalibrationSolution
        The solution.
    label : str
        Name of the label.
    pairs, references : Equations
        Its equations.
    stars : CalibratorStars
        Where calibrators are.
    output : Path or binary file
        Where to; the suffix of a path decides the format, a file gets PNG.
    title : str
        Stands above.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5 if len(pairs) else 8, 6.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    # teff, logg and v_micro have no pairs: no column for them.
    panels = figure.subplots(2, 3 if len(pairs) else 2)
    unit = "K" if label == "teff" else "dex" if label != "v_micro" else "km/s"
    entry = solution.report()[label]
    if len(pairs):
        _draw_pairs(panels[0, 0], panels[1, 0], pairs, entry, unit)
    _draw_references(panels[0, -2], panels[1, -2], references, label, unit)
    _draw_correction(panels[0, -1], solution, label, stars.points, unit)
    _draw_pulls(panels[1, -1], pairs, references, entry)
    figure.savefig(output, dpi=150)


def draw_overview(report: CalibrationReport, output: Path | BinaryIO, title: str) -> None:
    """Draw the scatter of all labels before and after, beside what noise and intrinsic scatter allow.

    Parameters
    ----------
    report : CalibrationReport
        Of a solution.
    output : Path or binary file
        Where to; the suffix of a path decides the format, a file gets PNG.
    title : str
        Stands above.
    """
    from matplotlib.figure import Figure

    entries = [
        entry
        for entry in report.labels
        if entry.label not in ("teff", "logg", "v_micro") and (entry.pairs.count or entry.references.count)
    ]
    figure = Figure(figsize=(9, 1.8 + 0.22 * len(entries)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, ("pairs", "references"), strict=True):
        rows = [getattr(entry, f"held_out_{kind}") for entry in entries]
        which = "held-out " if any(held.count for held in rows) else ""
        rows = [
            held if held.count else getattr(entry, kind) for held, entry in zip(rows, entries, strict=True)
        ]
        place = np.arange(len(entries))
        before, after, expected = (
            np.array([getattr(row, name) for row in rows], dtype=np.float64)
            for name in ("before", "after", "expected")
        )
        axes.hlines(place, after, before, color=_BAD, lw=1.5, zorder=1)
        axes.plot(before, place, "o", mfc="white", color=_HELD_OUT, label="raw")
        axes.plot(after, place, "o", color=_USED, label="corrected")
        axes.plot(expected, place, "|", color="black", ms=11, mew=1.6, label="noise and intrinsic scatter")
        axes.set(xlabel=f"scatter of {which}{kind} [dex]", xlim=(0, None))
        axes.set_yticks(place, [symbol(entry.label) for entry in entries])
        axes.grid(axis="x", alpha=0.25)
    panels[0].invert_yaxis()
    panels[0].legend(**_LEGEND, loc="lower right")
    figure.savefig(output, dpi=150)


def symbol(label: str) -> str:
    """How a label is written in a figure; one that a grid declared, by its name."""
    return LABELS[label].symbol if label in LABELS else label


def _draw_pairs(above: Axes, below: Axes, pairs: Equations, entry: LabelReport, unit: str) -> None:
    # The hotter star minus the cooler one.
    swap = np.where(pairs.at[:, 0] < pairs.at[:, 1], -1.0, 1.0)
    difference = np.abs(pairs.at[:, 0] - pairs.at[:, 1])
    most = _range(np.r_[pairs.before, pairs.after])
    used, held = entry.pairs, entry.held_out_pairs
    scatters = ((used.before, held.before), (used.after, held.after))
    for axes, values, word, scatter in zip(
        (above, below), (pairs.before, pairs.after), ("raw", "corrected"), scatters, strict=True
    ):
        _points(axes, difference, values * swap, pairs)
        good = pairs.held_out | (pairs.weight >= 0.5)
        _running_median(axes, difference[good], (values * swap)[good])
        axes.set(
            ylim=(-most, most), xlim=(0, None), xlabel="temperature difference of the pair [K]",
            ylabel=f"{symbol(entry.label)}, {word}, hot minus cool [{unit}]",
        )  # fmt: skip
        words = [
            f"{which} {value:.3f}"
            for which, value in zip(("used", "held out"), scatter, strict=True)
            if value is not None
        ]
        if words:
            axes.text(
                0.97, 0.04, f"rms: {', '.join(words)}", ha="right", transform=axes.transAxes, fontsize=8
            )
    above.legend(**_LEGEND_ABOVE)


def _draw_references(above: Axes, below: Axes, references: Equations, label: str, unit: str) -> None:
    if not len(references):
        for axes in (above, below):
            _say(axes, "no reference star has this label")
        return
    truth = references.value
    low, high = np.quantile(truth, [0.005, 0.995])
    margin = 0.08 * (high - low)
    span = (low - margin, high + margin)
    above.plot(truth, truth + references.before, ".", ms=3, color=_BAD, label="raw")
    above.plot(truth, truth + references.after, ".", ms=3, color=_USED, label="corrected")
    above.plot(span, span, color="black", lw=0.8)
    spread = _range(references.before)
    above.set(
        xlim=span, ylim=(span[0] - 0.3 * spread, span[1] + 0.3 * spread),
        xlabel=f"reference, on the common scale [{unit}]", ylabel=f"{symbol(label)} [{unit}]",
    )  # fmt: skip
    above.legend(**_LEGEND, loc="upper left")
    below.plot(references.at, references.before, ".", ms=3, color=_BAD, label="raw")
    held = references.held_out
    below.plot(references.at[~held], references.after[~held], ".", ms=3, color=_USED, label="used")
    below.plot(references.at[held], references.after[held], "o", ms=3, mfc="none", color=_HELD_OUT,
               label="held out")  # fmt: skip
    _running_median(below, references.at, references.after)
    below.set(ylim=(-spread, spread), xlabel="Teff [K]", ylabel=f"{symbol(label)} minus reference [{unit}]")
    below.legend(**_LEGEND_ABOVE)


def _draw_correction(
    axes: Axes, solution: CalibrationSolution, label: str, points: Floats, unit: str
) -> None:
    if not len(points):
        _say(axes, "no calibrator star is left")
        return
    column = solution.label_names.index(label)
    upper = np.inf
    for population, lower in POPULATIONS.items():
        inside = (points[:, 1] >= lower) & (points[:, 1] < upper)
        upper = lower
        if np.count_nonzero(inside) < _LEAST_STARS:
            continue
        teff, logg, fe_h = points[inside].T
        low, high = np.quantile(teff, [0.01, 0.99]).tolist()
        grid = np.arange(low, high, _STEP)
        if grid.size < 2:
            continue
        # Along the sequence of the population: its logg where the curve is drawn.
        order = np.argsort(teff)
        line = np.polynomial.Polynomial.fit(teff[order], logg[order], 2 if order.size > 20 else 0)
        labels = np.full((grid.size, len(solution.label_names)), np.nan)
        for name, values in zip(COORDINATES, (grid, line(grid), np.median(fe_h)), strict=True):
            labels[:, solution.label_names.index(name)] = values
        curve, error = solution.correction(labels)[:, column], solution.error(labels)[:, column]
        known = solution.valid(labels, zero_point=False)[:, column]
        colour = _POPULATION_COLOURS[population]
        axes.plot(grid, curve, lw=0.8, ls=":", color=colour)
        axes.plot(grid, np.where(known, curve, np.nan), lw=1.8, color=colour, label=population)
        axes.fill_between(grid, curve - error, curve + error, color=colour, alpha=0.2, lw=0, where=known)
    axes.axhline(0, color="black", lw=0.6)
    fe_h = np.median(points[:, 2])
    axes.set(xlabel="raw Teff [K]", ylabel=f"correction of {symbol(label)} [{unit}]")
    axes.legend(
        title=f"at [Fe/H] = {fe_h:.2f}; dotted: not valid", title_fontsize=8, loc="upper left", **_LEGEND
    )


def _draw_pulls(axes: Axes, pairs: Equations, references: Equations, entry: LabelReport) -> None:
    most = max(len(pairs), len(references))
    edges = np.linspace(-5, 5, 26 if most >= 200 else 14)
    line = np.linspace(-5, 5, 200)
    drawn, highest = False, 0.4
    for equations, scatter, word, style in (
        (pairs, entry.pair_scatter, "pairs", "-"), (references, entry.reference_scatter, "references", "--"),
    ):  # fmt: skip
        for held, colour in ((False, _USED), (True, _HELD_OUT)):
            chosen = (equations.held_out == held) & (held | (equations.weight >= 0.5))
            if np.count_nonzero(chosen) < _LEAST_PULLS:
                continue
            drawn = True
            pull = equations.after[chosen] / np.hypot(equations.error[chosen], scatter or 0.0)
            robust = 1.4826 * np.median(np.abs(pull - np.median(pull)))
            heights = np.histogram(pull, edges, density=True)[0]
            highest = max(highest, float(heights.max()))
            axes.stairs(
                heights, edges, color=colour, ls=style, lw=1.3,
                label=f"{word}, {'held out' if held else 'used'}: {robust:.2f}",
            )  # fmt: skip
    if not drawn:
        _say(axes, "too few calibrators")
        return
    axes.plot(line, np.exp(-0.5 * line**2) / np.sqrt(2 * np.pi), color="black", lw=0.9)
    axes.set(xlabel="corrected difference over its error", ylabel="density", ylim=(0, 1.55 * highest))
    axes.legend(title="robust width; line: unit Gaussian", title_fontsize=8, loc="upper right", **_LEGEND)


def _points(axes: Axes, x: Floats, y: Floats, equations: Equations) -> None:
    held, bad = equations.held_out, ~equations.held_out & (equations.weight < 0.5)
    used = ~held & ~bad
    axes.plot(x[bad], y[bad], "x", ms=3.5, color=_BAD, label="called bad")
    axes.plot(x[used], y[used], ".", ms=4, color=_USED, label="used")
    axes.plot(x[held], y[held], "o", ms=4, mfc="none", color=_HELD_OUT, label="held out")
    axes.axhline(0, color="black", lw=0.6)


def _running_median(axes: Axes, x: Floats, y: Floats) -> None:
    """Median and its error in bins of equally many points."""
    if len(x) < 3 * _LEAST_POINTS:
        return
    for rows in np.array_split(np.argsort(x), int(np.clip(len(x) // 40, 3, 10))):
        middle = np.median(y[rows])
        error = 1.2533 * 1.4826 * np.median(np.abs(y[rows] - middle)) / np.sqrt(len(rows))
        axes.errorbar(np.median(x[rows]), middle, error, fmt="s", ms=4, color="black", lw=1.2, zorder=5)


def _range(values: Floats) -> float:
    """Half of a symmetric range that shows all but the wildest."""
    return float(1.25 * np.quantile(np.abs(values), 0.97)) or 1.0


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="grey")
    axes.set_axis_off()
