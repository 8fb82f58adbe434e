"""How near to the bound fits of ab initio spectra come: ``python benchmarks/precision.py [--grid FILE]``.

Spectra that trained no model (a grid's validation stars; by default the sample that comes with the package)
are observed as LAMOST would: its run of S/N with wavelength, its masks, random velocities, a wrong smooth
response.  They are fitted without the correction for real stars, with the model's stated error added to the
noise.  For each label: scatter over the bound of photons alone, standard deviation of (fit - truth) / error,
and bias over error.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from phdl_catalog import load_model
from phdl_catalog.cli.output import print_table
from phdl_catalog.emulator import Emulator
from phdl_catalog.emulator.grid import AbInitioGrid, load_grid
from phdl_catalog.fitting import FitOptions, FitResult, Fitter
from phdl_catalog.spectra.grid import SURVEY_GRID
from phdl_catalog.spectra.masks import good_pixels
from phdl_catalog.spectra.mock import Conditions, observe
from phdl_catalog.spectra.spectrum import Layout, SpectrumHeader

SNRS = (30.0, 50.0, 100.0)
SHOWN = (
    "teff", "logg", "v_micro", "fe_h", "c_fe", "mg_fe", "si_fe", "ca_fe", "ti_fe", "cr_fe", "ni_fe", "rv",
)  # fmt: skip


@dataclass(frozen=True)
class Observed:
    """Spectra on the survey's grid, and their truth."""

    labels: NDArray[np.float64]
    rv: NDArray[np.float64]
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    bad: NDArray[np.bool_]


def packaged_sample() -> Path:
    """The cut of an ab initio grid that comes with the package."""
    from importlib.resources import files

    return Path(str(files("phdl_catalog.emulator") / "sample" / "ab_initio_sample.h5"))


def unseen(model: Emulator, path: Path) -> AbInitioGrid:
    """Spectra of a grid that did not train the model, inside its training region."""
    grid = load_grid(path, model.pixels, model.resolution)
    own = grid.source["sha256"] == model.metadata["grid"]["sha256"]
    rows = grid.is_validation if own or grid.is_validation.any() else np.ones(len(grid), dtype=bool)
    rows = rows & (model.atmosphere_distance(grid.labels) <= 1.0)
    return grid.select(rows)


def observe_grid(grid: AbInitioGrid, stars: int, repeats: int, snr: float, seed: int) -> Observed:
    """Random stars of a grid as LAMOST would see them, each `repeats` times in a row."""
    generator = np.random.default_rng(seed)
    rows = np.repeat(generator.choice(len(grid), stars, replace=stars > len(grid)), repeats)
    rv = generator.uniform(-300.0, 300.0, len(rows))
    shape = (len(rows), SURVEY_GRID.size)
    flux, ivar = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    bad = np.ones(shape, dtype=bool)
    header = SpectrumHeader(obsid=1, layout=Layout.DR9, ra=0.0, dec=0.0)
    for row, (source, velocity) in enumerate(zip(rows, rv, strict=True)):
        conditions = Conditions(snr, float(velocity))
        spectrum = observe(grid.pixels.wavelength, grid.flux[source], header, conditions, generator)
        where = SURVEY_GRID.slice_of(spectrum.grid)
        flux[row, where], ivar[row, where] = spectrum.flux, spectrum.ivar
        bad[row, where] = ~good_pixels(spectrum.ivar, spectrum.andmask, spectrum.ormask)
    return Observed(grid.labels[rows], rv, flux, ivar, bad)


class Certain:
    """A model that states no error."""

    expected_error = None
    error_model = None

    def __init__(self, model: Emulator) -> None:
        self._model = model

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)


def fit(model: Emulator, observed: Observed, stated: bool) -> FitResult:
    """Fits without the correction for real stars; the error floor goes with the stated error."""
    options = FitOptions(correct_model=False, velocity_floor=0.0, fit_error_floor=stated)
    fitter = Fitter(model if stated else Certain(model), options)
    return fitter.fit(SURVEY_GRID.wavelength, observed.flux, observed.ivar, observed.bad)


def spread(values: NDArray[np.float64]) -> float:
    """Half of the central 68 %."""
    return float(np.diff(np.percentile(values, [15.87, 84.13]))[0] / 2) if len(values) > 5 else float("nan")


@dataclass(frozen=True)
class Precision:
    """One label at one S/N.

    Parameters
    ----------
    scatter : float
        Of repeated observations of one star, over the bound of photons.
    pull : float
        Standard deviation (of the central 68 %) of (fit - truth) / error.
    bias : float
        Median of (fit - truth) / error.
    """

    label: str
    snr: float
    scatter: float
    pull: float
    bias: float


def measure(
    model: Emulator, grid: AbInitioGrid, stars: int, repeats: int, seed: int, snrs: Sequence[float] = SNRS
) -> list[Precision]:
    """Observe, fit twice, compare; label by label and S/N by S/N, velocity last."""
    out = []
    for snr in snrs:
        observed = observe_grid(grid, stars, repeats, snr, seed)
        photons, result = fit(model, observed, stated=False), fit(model, observed, stated=True)
        truth = np.column_stack([observed.labels, observed.rv])
        values = [np.column_stack([item.labels, item.rv]) for item in (photons, result)]
        errors = [np.column_stack([item.errors, item.e_rv]) for item in (photons, result)]
        flags = [np.pad(item.label_flags, ((0, 0), (0, 1))) for item in (photons, result)]
        ratio = values[0] / errors[0]
        steady = (flags[0] == 0).reshape(stars, repeats, -1).all(axis=1)
        grouped = (ratio - truth / errors[0]).reshape(stars, repeats, -1)
        within = (grouped - grouped.mean(axis=1, keepdims=True)) * np.sqrt(repeats / (repeats - 1))
        pull = (values[1] - truth) / errors[1]
        for column, name in enumerate((*model.label_names, "rv")):
            good = flags[1][:, column] == 0
            scatter = within[steady[:, column], :, column].ravel()
            middle = float(np.median(pull[good, column])) if good.any() else float("nan")
            out.append(Precision(name, snr, spread(scatter), spread(pull[good, column]), middle))
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--grid", type=Path, help="ab initio grid; default: the sample of the package")
    parser.add_argument("--stars", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON for every label")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    grid = unseen(model, options.grid or packaged_sample())
    found = measure(model, grid, options.stars, options.repeats, options.seed)
    if options.json:
        print(json.dumps([asdict(item) for item in found]))
        return
    for quantity, title in (
        ("scatter", "scatter of repeats / bound of photons"),
        ("pull", "spread of (fit - truth) / error, the emulator's error included"),
        ("bias", "median of (fit - truth) / error"),
    ):
        rows = [
            (
                snr,
                *(
                    f"{getattr(item, quantity):.2f}"
                    for item in found
                    if item.snr == snr and item.label in SHOWN
                ),
            )
            for snr in SNRS
        ]
        print_table(title, ("S/N g", *SHOWN), rows)


if __name__ == "__main__":
    main()
