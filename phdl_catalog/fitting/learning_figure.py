"""A learnt imperfection as a picture: what the Sun says, what the stars say, and the error that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from phdl_catalog.emulator.model import Emulator
from phdl_catalog.fitting.held_out import Learnt
from phdl_catalog.fitting.learning import solar_absorption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Panels of wavelength, and the largest difference shown.
_PANELS, _LARGEST = 3, 0.06


def plot_imperfection(model: Emulator, learnt: Learnt) -> Figure:
    """Draw corrections of a solar spectrum and the error that is stated, in three stretches of wavelength."""
    from matplotlib.figure import Figure

    wavelength = model.wavelength
    absorption, _ = solar_absorption(model)
    figure = Figure(figsize=(13, 9), layout="constrained")
    edges = 10.0 ** np.linspace(np.log10(wavelength[0]), np.log10(wavelength[-1]), _PANELS + 1)
    for axes, first, last in zip(figure.subplots(_PANELS, 1), edges[:-1], edges[1:], strict=True):
        shown = (wavelength >= first) & (wavelength <= last)
        x = wavelength[shown]
        error = learnt.imperfection.error[shown]
        axes.fill_between(x, -error, error, color="0.85", lw=0, label="error that is stated")
        for part, color, name in (
            (learnt.sun, "tab:orange", "the Sun"), (learnt.survey, "tab:blue", "the survey's stars"),
        ):  # fmt: skip
            if part is not None:
                values = np.where(part.known, part.correction * absorption, np.nan)[shown]
                axes.plot(x, values, color=color, lw=0.8, label=name)
        axes.plot(
            x, (learnt.imperfection.correction * absorption)[shown], color="black", lw=0.7, label="correction"
        )
        axes.set_xlim(first, last)
        axes.set_ylim(-_LARGEST, _LARGEST)
        axes.set_ylabel("star − model")
    axes.set_xlabel("vacuum wavelength [Å]")
    figure.axes[0].legend(loc="upper right", ncols=4, fontsize=9, frameon=False)
    figure.axes[0].set_title(
        f"Model {model.name}: what real stars have and ab initio spectra have not, for the Sun's lines "
        "(fractions of the continuum)",
        loc="left", fontsize=11,
    )  # fmt: skip
    return figure
