"""A figure of what a grid covers: Kiel diagram, metallicities, abundances against metallicity."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from phdl_catalog.emulator.grid_files.coverage import GridCoverage
from phdl_catalog.emulator.grid_files.reading import GridContents
from phdl_catalog.errors import InputError
from phdl_catalog.labels import Label, is_abundance

_TRAINING, _VALIDATION, _REFERENCE = "0.55", "tab:orange", "black"
_DRAWN_AT_LEFT = ("teff", "logg", "v_micro", "fe_h")
_FORMATS = {".png", ".pdf", ".svg"}


def plot_coverage(coverage: GridCoverage, output: Path) -> None:
    """Draw what a grid covers.

    Parameters
    ----------
    coverage : GridCoverage
    output : Path
        File to write; its suffix, png, pdf or svg, decides the format.

    Raises
    ------
    InputError
        If the suffix is another.
    """
    if output.suffix.lower() not in _FORMATS:
        raise InputError(f"a figure is written as .png, .pdf or .svg, not as '{output.suffix}'")
    contents = coverage.contents
    others = [label for label in contents.definitions if label.name not in _DRAWN_AT_LEFT]
    columns = max(1, min(6, math.ceil(math.sqrt(len(others) * 1.3))))
    rows = max(2, math.ceil(len(others) / columns))
    figure = Figure(figsize=(7.0 + 1.75 * columns, max(6.5, 1.5 * rows + 1.2)), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[6.2, 1.75 * columns + 0.6])[0]
    _draw_atmospheres(left, coverage)
    if others:
        _draw_labels(right, contents, others, rows, columns)
    figure.suptitle(_title(coverage), fontsize=11)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)


def _title(coverage: GridCoverage) -> str:
    contents = coverage.contents
    return (
        f"{coverage.path.name}: {len(contents.labels):,} spectra of {coverage.n_stars:,} stars, "
        f"{coverage.n_validation_stars:,} of them for validation; R = {contents.resolution:g}, "
        f"{contents.wavelength[0]:.0f}–{contents.wavelength[-1]:.0f} Å"
    )


def _first_of_each(contents: GridContents) -> NDArray[np.int64]:
    """(S,) one row of each distinct atmosphere, in no order that favours a metallicity."""
    atmosphere = np.stack([contents.column(name) for name in ("teff", "logg", "fe_h")], axis=1)
    _, first = np.unique(atmosphere, axis=0, return_index=True)
    return np.random.default_rng(0).permutation(first)


def _draw_atmospheres(panel: SubFigure, coverage: GridCoverage) -> None:
    contents = coverage.contents
    upper, lower = panel.subfigures(2, 1, squeeze=False, height_ratios=[3.2, 1])[:, 0]
    kiel = upper.subplots()
    rows = _first_of_each(contents)
    teff, logg, fe_h = (contents.column(name)[rows] for name in ("teff", "logg", "fe_h"))
    validation = contents.is_validation[rows]
    limits = (float(fe_h.min()), float(fe_h.max()))
    size = float(np.clip(6000 / len(rows), 4, 36))
    shown: ScalarMappable = kiel.scatter(
        teff[~validation], logg[~validation], c=fe_h[~validation], s=size, lw=0,
        cmap="viridis", vmin=limits[0], vmax=limits[1], label="training",
    )  # fmt: skip
    kiel.scatter(
        teff[validation], logg[validation], c=fe_h[validation], s=1.6 * size, lw=1.1,
        edgecolors=_VALIDATION, cmap="viridis", vmin=limits[0], vmax=limits[1], label="validation",
    )  # fmt: skip
    _mark_reference_stars(kiel, contents, "teff", "logg", size=11, label="with differential spectra")
    kiel.set(xlabel=r"$T_\mathrm{eff}$ [K]", ylabel=r"$\log g$ [dex]")
    kiel.invert_xaxis()
    kiel.invert_yaxis()
    kiel.legend(frameon=False, loc="upper left", fontsize=9)
    upper.colorbar(shown, ax=kiel, label="[Fe/H]", pad=0.01)
    with_v_micro = "v_micro" in contents.label_names
    below = lower.subplots(1, 2 if with_v_micro else 1, squeeze=False)[0]
    histogram = below[0]
    bins = np.linspace(*limits, 25) if limits[1] > limits[0] else 10
    histogram.hist(fe_h[~validation], bins, color=_TRAINING, label="training")
    histogram.hist(fe_h[validation], bins, histtype="step", color=_VALIDATION, lw=1.4, label="validation")
    histogram.set(xlabel="[Fe/H]", ylabel="stars")
    histogram.legend(frameon=False, fontsize=8, loc="upper left")
    if with_v_micro:
        v_micro = contents.column("v_micro")[rows]
        below[1].plot(logg[~validation], v_micro[~validation], ".", ms=3, color=_TRAINING)
        below[1].plot(logg[validation], v_micro[validation], ".", ms=4, color=_VALIDATION)
        _mark_reference_stars(below[1], contents, "logg", "v_micro")
        below[1].set(xlabel=r"$\log g$ [dex]", ylabel=r"$v_\mathrm{mic}$ [km/s]")
        below[1].invert_xaxis()


def _draw_labels(
    panel: SubFigure, contents: GridContents, labels: list[Label], rows: int, columns: int
) -> None:
    """Every other label against metallicity, validation on top, reference stars marked."""
    shown = panel.subplots(rows, columns, sharex=True, squeeze=False)
    fe_h, validation = contents.column("fe_h"), contents.is_validation
    abundances = [contents.column(label.name) for label in labels if is_abundance(label.name)]
    # One scale for all abundances: how wide each of them is drawn is seen at once.
    limits = np.array([np.min(abundances), np.max(abundances)]) * 1.12 if abundances else np.zeros(2)
    for axes, label in zip(shown.flat, labels, strict=False):
        values = contents.column(label.name)
        _draw_density(axes, fe_h[~validation], values[~validation])
        axes.plot(fe_h[validation], values[validation], ".", ms=1.8, color=_VALIDATION, alpha=0.8)
        _mark_reference_stars(axes, contents, "fe_h", label.name)
        axes.text(
            0.04, 0.95, label.symbol, transform=axes.transAxes, va="top", fontsize=9,
            bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1.2},
        )  # fmt: skip
        axes.tick_params(labelsize=7)
        if is_abundance(label.name):
            axes.set_ylim(*limits)
            axes.tick_params(labelleft=axes in shown[:, 0])
    for axes in shown.flat[len(labels) :]:
        axes.set_axis_off()
    for axes in shown.flat[max(0, len(labels) - columns) : len(labels)]:
        axes.tick_params(labelbottom=True)
    panel.supxlabel("[Fe/H]", fontsize=10)


def _mark_reference_stars(
    axes: Axes, contents: GridContents, x: str, y: str, size: float = 5.5, label: str | None = None
) -> None:
    if contents.gradients is None:
        return
    names, values = contents.label_names, contents.gradients.labels
    axes.plot(
        values[:, names.index(x)], values[:, names.index(y)], "*",
        ms=size, mfc="none", mec=_REFERENCE, mew=0.09 * size, label=label,
    )  # fmt: skip


def _draw_density(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Points where they are few, a density where they would hide each other."""
    if len(x) > 20_000:
        axes.hexbin(x, y, gridsize=40, cmap="Greys", mincnt=1, bins="log", lw=0)
    else:
        axes.plot(x, y, ".", ms=1.4, color=_TRAINING, alpha=0.5, rasterized=True)
