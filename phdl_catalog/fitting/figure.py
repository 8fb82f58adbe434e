"""A fit as a picture: data, model, residuals in sigma, masked pixels, the strongest lines, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.fitting.flags import FitFlag, LabelFlag, flag_names
from phdl_catalog.fitting.result import FitResult, FittedPixels
from phdl_catalog.labels import LABELS
from phdl_catalog.spectra.grid import SPEED_OF_LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Lines that are named [Angstrom in vacuum], and which way the name goes: neighbours keep apart.
_LINES = (
    ("Ca K", 3934.8, "right"), ("Ca H + Hε", 3969.6, "left"), ("Hδ", 4102.9, "center"),
    ("Ca I", 4227.9, "center"), ("CH G", 4305.0, "right"), ("Hγ", 4341.7, "left"), ("Hβ", 4862.7, "center"),
    ("Mg b", 5176.0, "center"), ("Fe I", 5271.0, "center"), ("Ca I", 6164.0, "center"),
    ("Na D", 5894.6, "center"), ("Hα", 6564.6, "center"), ("", 8500.4, "center"), ("Ca II", 8544.4, "center"),
    ("Ca II", 8664.5, "center"),
)  # fmt: skip

#: Panels of wavelength.
_PANELS = 3

#: Units that stand beside a label; abundances and gravities have none that a reader waits for.
_SHOWN_UNITS = {"K": " [K]", "km.s**-1": " [km/s]"}

#: Residuals shown [sigma].
_DEEPEST_RESIDUAL = 5.5


def plot_fit(flux: ArrayLike, result: FitResult, row: int = 0, title: str = "") -> Figure:
    """Draw one fit.

    Parameters
    ----------
    flux : (P,) array_like
        What was fitted, in its own units.
    result : FitResult
        From a fit with ``keep_pixels=True``.
    row : int
        Which of its stars.
    title : str
        What stands above.

    Returns
    -------
    Figure
        Not shown and not saved.

    Raises
    ------
    InputError
        If the result has no pixels or `flux` has another shape.
    """
    from matplotlib.figure import Figure

    pixels = result.pixels
    if pixels is None:
        raise InputError("the result has no pixels to draw: fit with keep_pixels=True")
    values = np.asarray(flux, dtype=np.float64)
    if values.shape != pixels.wavelength.shape:
        raise InputError(f"flux has shape {values.shape} but the fit has shape {pixels.wavelength.shape}")
    figure = Figure(figsize=(15, 10), layout="constrained")
    grid = figure.add_gridspec(_PANELS, 2, width_ratios=(5.6, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        normalised = values / pixels.continuum[row]
    used = np.isfinite(pixels.error[row])
    first, last = _extent(pixels.wavelength, used)
    edges = 10.0 ** np.linspace(np.log10(first), np.log10(last), _PANELS + 1)
    for panel in range(_PANELS):
        # Residuals hang on their spectrum: no gap, one axis of wavelength.
        pair = grid[panel, 0].subgridspec(2, 1, height_ratios=(2.4, 1), hspace=0.0)
        upper = figure.add_subplot(pair[0])
        lower = figure.add_subplot(pair[1], sharex=upper)
        _draw_panel(
            upper, lower, pixels, row, normalised, values, edges[panel : panel + 2], float(result.rv[row])
        )
        if panel == 0:
            upper.legend(loc="lower right", fontsize=8, ncols=3, frameon=False)
    lower.set_xlabel("vacuum wavelength [Å]")
    _write_labels(figure.add_subplot(grid[:, 1]), result, row)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    return figure


def _extent(wavelength: NDArray[np.float64], used: NDArray[np.bool_]) -> tuple[float, float]:
    shown = wavelength[used] if used.any() else wavelength
    return float(shown[0]), float(shown[-1])


def _draw_panel(
    upper: Axes,
    lower: Axes,
    pixels: FittedPixels,
    row: int,
    normalised: NDArray[np.float64],
    flux: NDArray[np.float64],
    limits: NDArray[np.float64],
    rv: float,
) -> None:
    """One stretch of wavelength: spectrum above, residuals in sigma below."""
    shown = (pixels.wavelength >= limits[0]) & (pixels.wavelength <= limits[1])
    wavelength = pixels.wavelength[shown]
    model, error = pixels.model[row, shown], pixels.error[row, shown]
    used = np.isfinite(error)
    data = np.where(np.isfinite(normalised[shown]), normalised[shown], np.nan)
    residual = np.where(used, (flux[shown] - model * pixels.continuum[row, shown]) / error, np.nan)
    for axes in (upper, lower):
        axes.fill_between(
            wavelength, 0, 1, where=~used, step="mid", transform=axes.get_xaxis_transform(),
            color="0.9", linewidth=0, label="not used" if axes is upper else None,
        )  # fmt: skip
    upper.step(wavelength, np.where(used, data, np.nan), where="mid", color="0.15", lw=1.0, label="observed")
    upper.plot(wavelength, model, color="tab:red", lw=0.8, label="model")
    deepest = np.nanmin(model, initial=1.0, where=np.isfinite(model))
    upper.set_ylim(max(0.0, deepest - 0.1), 1.24)
    upper.set_ylabel("flux / continuum")
    upper.tick_params(labelbottom=False, bottom=False)
    for name, at_rest, side in _LINES:
        place = at_rest * (1.0 + (rv if np.isfinite(rv) else 0.0) / SPEED_OF_LIGHT)
        if limits[0] < place < limits[1]:
            upper.plot([place, place], [1.05, 1.11], color="tab:blue", lw=0.9)
            upper.text(place, 1.12, name, ha=side, va="bottom", fontsize=9, color="tab:blue")
    lower.axhspan(-1, 1, color="tab:red", alpha=0.12, lw=0)
    lower.axhline(0.0, color="tab:red", lw=0.6)
    lower.step(wavelength, residual, where="mid", color="black", lw=0.6)
    lower.set_ylim(-_DEEPEST_RESIDUAL, _DEEPEST_RESIDUAL)
    lower.set_yticks([-3, 0, 3])
    lower.set_ylabel("residual [σ]")
    upper.set_xlim(*limits)


def _write_labels(axes: Axes, result: FitResult, row: int) -> None:
    """Labels with errors at the side; grey what the spectrum does not constrain."""
    axes.set_axis_off()
    flags = ", ".join(flag_names(int(result.flags[row]), FitFlag)) or "none"
    head = [
        f"rv  {result.rv[row]:.1f} ± {result.e_rv[row]:.1f} km/s",
        f"χ²  {result.chi2[row]:.2f}   S/N {result.snr[row]:.0f}",
        f"error floor  {100 * result.error_floor[row]:.1f} %",
        f"flags: {flags}",
        "grey: at a bound, or not constrained",
    ]
    step = 1.0 / (len(result.label_names) + len(head) + 2)
    for number, text in enumerate(head):
        axes.text(0.0, 1.0 - number * step, text, fontsize=9, va="top", wrap=True)
    for index, name in enumerate(result.label_names):
        label = LABELS.get(name)
        symbol, decimals = (name, 2) if label is None else (label.symbol, label.decimals)
        height = 1.0 - (index + len(head) + 1) * step
        flag = int(result.label_flags[row, index])
        weak = flag & (LabelFlag.UNCONSTRAINED | LabelFlag.AT_BOUND | LabelFlag.NO_FIT)
        color = "0.6" if weak else "black"
        value = f"{result.labels[row, index]:.{decimals}f} ± {result.errors[row, index]:.{decimals}f}"
        unit = "" if label is None else _SHOWN_UNITS.get(label.unit, "")
        axes.text(0.0, height, symbol + unit, fontsize=9, va="top", color=color)
        axes.text(1.0, height, value, fontsize=9, va="top", ha="right", color=color, family="monospace")
