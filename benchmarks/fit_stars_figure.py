"""Fits of real stars as a picture: against the survey's pipeline, against themselves, and of the Sun."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from phdl_catalog.fitting import FitResult
from phdl_catalog.fitting.known_stars import SUN
from phdl_catalog.labels import is_abundance

_COLOUR = "#2b5f96"
_PIPELINE = (("teff", "Teff [K]", 400.0), ("logg", "log g", 0.6), ("fe_h", "[Fe/H]", 0.4))

#: Error of an abundance of the Sun over which it says nothing [dex].
_LARGEST_ERROR = 0.3


def draw_stars(
    index: pd.DataFrame,
    result: FitResult,
    repeats: Mapping[str, NDArray[np.float64]],
    sun: FitResult | None,
    least_snr: float,
) -> Figure:
    """Draw fitted minus pipeline's labels, what repeats say of the errors, and the Sun.

    Parameters
    ----------
    index : DataFrame
        Of N spectra: teff, logg, fe_h of the pipeline, snrg.
    result : FitResult
        Their fits.
    repeats : mapping of str to (M,) ndarray
        Differences of repeats over their errors, of each label.
    sun : FitResult, optional
        Of the Sun alone.
    least_snr : float
        S/N from which on stars are compared.
    """
    figure = Figure(figsize=(13, 8), layout="constrained")
    grid = figure.add_gridspec(2, 6)
    good = ((result.flags == 0) & (index["snrg"] > least_snr) & index["teff"].between(4000, 7000)).to_numpy()
    for column, (name, title, reach) in enumerate(_PIPELINE):
        axis = figure.add_subplot(grid[0, 2 * column : 2 * column + 2])
        place = result.label_names.index(name)
        _against_pipeline(axis, index[good], result.labels[good, place] - index[name].to_numpy()[good], reach)
        axis.set_title(f"{title}: fitted - LASP", fontsize=10)
    _repeats(figure.add_subplot(grid[1, :3]), repeats)
    if sun is not None:
        _sun(figure.add_subplot(grid[1, 3:]), sun)
    return figure


def _against_pipeline(axis: Axes, stars: pd.DataFrame, difference: NDArray[np.float64], reach: float) -> None:
    teff = stars["teff"].to_numpy()
    axis.axhline(0.0, color="0.6", linewidth=0.8)
    shown = np.clip(difference, -reach, reach)
    axis.plot(teff, shown, "o", color=_COLOUR, markersize=3, alpha=0.5, markeredgewidth=0)
    edges = np.arange(4000, 7001, 300)
    for lower, upper in itertools.pairwise(edges):
        own = difference[(teff >= lower) & (teff < upper)]
        if len(own) >= 4:
            middle = np.median(own)
            scatter = 1.4826 * np.median(np.abs(own - middle))
            axis.errorbar(
                (lower + upper) / 2, middle, scatter, fmt="s", color="black", markersize=4, capsize=2
            )
    axis.set_xlim(7100, 4000)
    axis.set_ylim(-reach * 1.05, reach * 1.05)
    axis.set_xlabel("Teff of LASP [K]")


def _repeats(axis: Axes, repeats: Mapping[str, NDArray[np.float64]]) -> None:
    names = list(repeats)
    deviation = [values.std() for values in repeats.values()]
    error = [
        own / np.sqrt(2 * max(len(values), 1))
        for own, values in zip(deviation, repeats.values(), strict=True)
    ]
    axis.axhspan(0.7, 1.4, color="0.93", zorder=0)
    axis.axhline(1.0, color="0.6", linewidth=0.8)
    axis.errorbar(range(len(names)), deviation, error, fmt="o", color=_COLOUR, capsize=2)
    axis.set_xticks(range(len(names)), [_short(name) for name in names])
    axis.set_ylim(0.5, 1.6)
    pairs = max(len(values) for values in repeats.values())
    axis.set_title(f"difference of repeats / error, standard deviation of {pairs} pairs", fontsize=10)


def _sun(axis: Axes, sun: FitResult) -> None:
    rows = [
        (name, sun.labels[0, place] - (0.0 if is_abundance(name) else SUN[name]), sun.errors[0, place])
        for place, name in enumerate(sun.label_names)
        if (is_abundance(name) or name in SUN)
        and sun.errors[0, place] < (_LARGEST_ERROR if name != "teff" else 1e3)
    ]
    axis.axhspan(-0.1, 0.1, color="0.93", zorder=0)
    axis.axhline(0.0, color="0.6", linewidth=0.8)
    for place, (name, difference, error) in enumerate(rows):
        unit = 1000.0 if name == "teff" else 1.0
        axis.errorbar(place, difference / unit, error / unit, fmt="o", color=_COLOUR, markersize=4, capsize=2)
    names = [{"teff": "T", "logg": "g"}.get(name, _short(name)) for name, _, _ in rows]
    axis.set_xticks(range(len(rows)), names, fontsize=8)
    axis.set_ylim(-0.3, 0.3)
    axis.set_title("the Sun: fitted - known, and errors (T in 1000 K)", fontsize=10)


def _short(name: str) -> str:
    own = {"teff": "Teff", "logg": "log g", "fe_h": "Fe", "rv": "rv", "v_micro": "vmic"}
    return own.get(name, name.removesuffix("_fe").capitalize())
