"""One observed spectrum as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Share of the good fluxes that must fit into the picture; the rest are cosmic rays and sky residuals.
_SHOWN = (0.2, 99.8)


def plot_spectrum(
    wavelength: NDArray[np.float64],
    flux: NDArray[np.float32],
    ivar: NDArray[np.float32],
    title: str,
    *,
    best_fit: NDArray[np.floating] | None = None,
) -> Figure:
    """Draw flux and its error, pixels that must not be used, and the best fit if there is one.

    Parameters
    ----------
    wavelength : (P,) float64
        In vacuum [Angstrom].
    flux, ivar : (P,) float32
        Flux, and inverse variance, 0 where a pixel must not be used.
    title : str
        What stands above.
    best_fit : (P,) array, optional
        Flux of the model, in the units of `flux`; NaN where there is none.

    Returns
    -------
    Figure
        Not shown and not saved.
    """
    from matplotlib.figure import Figure

    good = ivar > 0
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.add_subplot()
    shown = np.where(good, flux, np.nan)
    error = np.where(good, 1.0 / np.sqrt(np.where(good, ivar, 1.0)), np.nan)
    axes.fill_between(
        wavelength, shown - error, shown + error, color="0.85", linewidth=0, step="mid", label="1 sigma"
    )
    axes.step(wavelength, shown, where="mid", color="black", linewidth=0.6, label="observed")
    if best_fit is not None:
        axes.plot(wavelength, best_fit, color="tab:red", linewidth=0.8, label="best fit")
    for start, stop in _stretches(~good):
        axes.axvspan(wavelength[start], wavelength[stop - 1], color="tab:orange", alpha=0.3, linewidth=0)
    axes.plot([], [], color="tab:orange", alpha=0.3, linewidth=6, label="masked")
    if good.any():
        lower, upper = np.percentile(flux[good], _SHOWN)
        room = 0.08 * max(upper - lower, 1e-3 * abs(upper), 1e-30)
        axes.set_ylim(lower - room, upper + room)
    axes.set_xlim(wavelength[0], wavelength[-1])
    axes.set_xlabel("vacuum wavelength [Angstrom]")
    axes.set_ylabel("relative flux")
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(loc="upper right", fontsize=8, ncols=4)
    return figure


def _stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
