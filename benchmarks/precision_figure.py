"""Precision of every label as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from precision import Precision

#: Fewest unflagged fits of which a number is drawn.
_FEWEST = 30

#: What is drawn, and between which limits it should be.
_PANELS = (
    ("scatter", "scatter of repeats\n/ bound of photons", (0.0, 1.15)),
    ("pull", "spread of\n(fit - truth) / error", (0.85, 1.15)),
    ("bias", "median of\n(fit - truth) / error", (-0.3, 0.3)),
)
_COLOURS = ("#4c9fd6", "#2b5f96", "#12263f")
_MARKERS = ("o", "D")


def draw_precision(found: Mapping[str, Sequence[Precision]]) -> Figure:
    """Draw what `measure` gave, for one or two kinds of spectra.

    Parameters
    ----------
    found : mapping of str to sequence of Precision
        What the spectra are, and every label at every S/N.
    """
    first = next(iter(found.values()))
    labels = list(dict.fromkeys(item.label for item in first))
    drawn = [
        name
        for name in labels
        if any(item.fits >= _FEWEST for items in found.values() for item in items if item.label == name)
    ]
    snrs = sorted({item.snr for item in first})
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(len(_PANELS), 1, sharex=True)
    for axis, (quantity, title, (lower, upper)) in zip(axes, _PANELS, strict=True):
        axis.axhspan(lower, upper, color="0.93", zorder=0)
        axis.axhline(0.0 if quantity == "bias" else 1.0, color="0.6", linewidth=0.8, zorder=1)
        for kind, (marker, items) in enumerate(zip(_MARKERS, found.values(), strict=False)):
            for number, snr in enumerate(snrs):
                place = 0.24 * (number - (len(snrs) - 1) / 2) + 0.08 * kind
                some = {i.label: getattr(i, quantity) for i in items if i.snr == snr and i.fits >= _FEWEST}
                x = [drawn.index(name) + place for name in some]
                axis.plot(
                    x, list(some.values()), marker, color=_COLOURS[number % len(_COLOURS)],
                    markersize=6 if kind == 0 else 4.5, fillstyle="full" if kind == 0 else "none",
                    label=f"S/N {snr:.0f}" if kind == 0 else None,
                )  # fmt: skip
        axis.set_ylabel(title)
        axis.set_xlim(-0.7, len(drawn) - 0.3)
        for edge in np.arange(len(drawn) - 1) + 0.5:
            axis.axvline(edge, color="0.93", linewidth=0.6, zorder=0)
    axes[0].set_ylim(0.5, 1.5)
    axes[1].set_ylim(0.5, 1.5)
    axes[2].set_ylim(-1.0, 1.0)
    for marker, fill, name in zip(_MARKERS, ("full", "none"), found, strict=False):
        axes[0].plot([], [], marker, color="0.3", fillstyle=fill, label=name)
    axes[0].legend(ncols=5, frameon=False, loc="upper center", fontsize=9)
    axes[-1].set_xticks(range(len(drawn)), [_short(name) for name in drawn], rotation=0, fontsize=9)
    return figure


def _short(name: str) -> str:
    """The name of an axis."""
    own = {"teff": "Teff", "logg": "log g", "v_micro": "vmic", "fe_h": "Fe", "rv": "rv"}
    return own.get(name, name.removesuffix("_fe").capitalize())
