"""Figure of the errors from repeats: against S/N, how right the quoted errors were and those of a set are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from phdl_catalog.calibration.figures import symbol
from phdl_catalog.calibration.repeats import PIVOT_SNR, SNR_EDGES, ErrorScale, SnrBin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_QUOTED, _SCALED, _FLOOR = "#d9822b", "#3b6ea5", "#6b6b6b"

#: Panels side by side, and where the last range of S/N, which has no end, is drawn to.
_COLUMNS, _LAST_SNR = 5, 320.0


def draw_errors(scales: Sequence[ErrorScale], output: Path | BinaryIO, title: str) -> None:
    """Draw, for every label with enough repeats, the scatter of repeats over their error against S/N.

    Parameters
    ----------
    scales : sequence of ErrorScale
        Of the labels of a set; those without repeats are left out.
    output : Path or binary file
        Where to; the suffix of a path decides the format, a file gets PNG.
    title : str
        Stands above.
    """
    from matplotlib.figure import Figure

    known = [scale for scale in scales if scale.count and scale.bins]
    columns = max(1, min(_COLUMNS, len(known)))
    rows = max(1, -(-len(known) // columns))
    figure = Figure(figsize=(2.2 * columns + 0.6, 1.7 * rows + 1.1), layout="constrained")
    figure.suptitle(title, fontsize=11)
    if not known:
        figure.text(0.5, 0.45, "too few repeated observations:\nthe quoted errors stand", ha="center")
        figure.savefig(output, dpi=150)
        return
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    values = [value for scale in known for entry in scale.bins for value in (entry.quoted, entry.scaled)]
    for axes, scale in zip(panels, known, strict=False):
        _draw_label(axes, scale)
    for axes in panels[len(known) :]:
        axes.set_axis_off()
    ends = (0.8 * min(0.7, *values), 1.7 * max(1.5, *values))
    panels[0].set(xscale="log", yscale="log", xlim=(8, _LAST_SNR), ylim=ends)
    panels[0].set_xticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    ticks = [tick for tick in (0.3, 0.5, 1, 2, 3, 5, 10, 20) if ends[0] <= tick <= ends[1]]
    panels[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panels[0].minorticks_off()
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    for number in range(len(known)):
        if number + columns >= len(known):
            panels[number].set_xlabel("S/N of the poorer one", fontsize=9)
            panels[number].tick_params(labelbottom=True)
    figure.supylabel("scatter of repeats over their error", fontsize=10)
    figure.savefig(output, dpi=150)


def _draw_label(axes: Axes, scale: ErrorScale) -> None:
    axes.axhline(1, color="black", lw=0.7)
    for which, colour, style, word in (
        ("quoted", _QUOTED, "s", "quoted errors"), ("scaled", _SCALED, "o", "errors of the set"),
    ):  # fmt: skip
        at = np.array([_middle(entry) for entry in scale.bins])
        ratio = np.array([getattr(entry, which) for entry in scale.bins])
        # A robust width of n differences is known to 1.17 over the root of 2 n.
        error = ratio * 1.17 / np.sqrt(2 * np.array([entry.count for entry in scale.bins]))
        axes.errorbar(at, ratio, error, fmt=style, ms=4, color=colour, lw=1.1, label=word)
    snr = np.geomspace(8, _LAST_SNR, 60)
    axes.plot(snr, scale.factor(snr), color=_FLOOR, lw=1.0, ls="--", label="scale (without floor)")
    slope = f" (S/N / {PIVOT_SNR:.0f})$^{{{scale.slope:+.2f}}}$" if scale.slope else ""
    size = scale.floor / (1000 if scale.label == "teff" else 1)
    floor = f"floor {scale.floor:.2g}{' K' if scale.label == 'teff' else ''}" if size > 1e-3 else "no floor"
    text = f"{symbol(scale.label)}: {scale.scale:.2f}{slope}\n{floor}, {scale.count} repeats"
    axes.text(0.96, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=7)


def _middle(entry: SnrBin) -> float:
    high = entry.high if entry.high is not None else _LAST_SNR
    return float(np.sqrt(max(entry.low, 0.5 * SNR_EDGES[1]) * high))
