"""Observed ab initio spectra whose labels are known, and models to fit them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator import Emulator
from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.emulator.grid import AbInitioGrid, load_grid
from phdl_catalog.emulator.left_out import left_out_residuals
from phdl_catalog.emulator.region import CARBON_STARS_BELOW, LARGEST_CARBON_EXCESS
from phdl_catalog.labels import is_abundance
from phdl_catalog.spectra.grid import SURVEY_GRID
from phdl_catalog.spectra.masks import good_pixels
from phdl_catalog.spectra.mock import Conditions, observe
from phdl_catalog.spectra.spectrum import Layout, SpectrumHeader


@dataclass(frozen=True)
class Observed:
    """Spectra on the survey's grid, and their truth."""

    labels: NDArray[np.float64]
    rv: NDArray[np.float64]
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    bad: NDArray[np.bool_]
    star: NDArray[np.int64]


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
    """Random spectra of a grid as LAMOST would see them, each `repeats` times in a row.

    Stars of a grid have one spectrum or many; they are drawn equally often.
    """
    generator = np.random.default_rng(seed)
    names = np.unique(grid.star)
    turns = np.concatenate([generator.permutation(names) for _ in range(-(-stars // len(names)))])[:stars]
    rows = np.repeat([generator.choice(np.flatnonzero(grid.star == star)) for star in turns], repeats)
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
    return Observed(grid.labels[rows], rv, flux, ivar, bad, grid.star[rows].astype(np.int64))


class Stating:
    """A model that states another error, or none."""

    def __init__(self, model: Emulator, stated: ExpectedError | None) -> None:
        self._model = model
        self.error_model = stated
        self.expected_error = None if stated is None else stated.at

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)


#: Spectra, and the model that they are fitted with.
Part = tuple[Emulator | Stating, AbInitioGrid]


def left_out_halves(model: Emulator, path: Path, seed: int) -> list[Part]:
    """Training stars as wrong as if the model had not seen them: ten times as many as validation stars.

    Each half of them is fitted with the error that the other half tells of.
    """
    grid = load_grid(path, model.pixels, model.resolution)
    grid = grid.select(~grid.is_validation)
    config = TrainingConfig.model_validate(model.metadata["training"]).interpolant
    if config is None:
        raise SystemExit("a model without an interpolant says nothing of its training stars left out")
    network = model.transformer
    left_out = left_out_residuals(model.compiled.flux, grid, network.transform, network.network.basis, config)
    if left_out is None:
        raise SystemExit(f"{path} is too large for all of it to be interpolated")
    size = max(model.metadata["expected_error"]["validation_over_left_out"], 1.0)
    flux = model.compiled.predict(grid.labels) - size * left_out.flux
    unseen_grid = replace(grid, flux=flux.astype(np.float32))
    first = np.isin(grid.star, np.random.default_rng(seed).permutation(np.unique(grid.star))[::2])
    inside = model.atmosphere_distance(grid.labels) <= 1.0
    parts: list[Part] = []
    for half in (first, ~first):
        stated = ExpectedError.from_residuals(model.label_names, left_out.of(~half)).scaled(size)
        parts.append((Stating(model, stated), unseen_grid.select(half & inside)))
    return parts


def with_other_compositions(parts: Sequence[Part], number: int, seed: int) -> list[Part]:
    """Each star `number` times, with abundances of other stars, and its own error of the emulator.

    Stars of a grid have few compositions, and some labels are measured in few stars: how far these are from
    what is asked, a few dozen cannot tell.  Abundances are independent of the atmosphere by the grid's
    design, but that there are no carbon stars.
    """
    generator = np.random.default_rng(seed)
    donors = np.concatenate([grid.labels for _, grid in parts])
    out: list[Part] = []
    for model, grid in parts:
        names = list(grid.label_names)
        teff, carbon, oxygen = (names.index(name) for name in ("teff", "c_fe", "o_fe"))
        abundances = [index for index, name in enumerate(names) if is_abundance(name)]
        stars = np.repeat(np.unique(grid.star), number)
        rows = np.array([generator.choice(np.flatnonzero(grid.star == star)) for star in stars])
        labels = grid.labels[rows]
        wanted = np.arange(len(rows))
        while len(wanted):
            drawn = donors[generator.integers(len(donors), size=len(wanted))]
            labels[np.ix_(wanted, abundances)] = drawn[:, abundances]
            rich = drawn[:, carbon] - drawn[:, oxygen] > LARGEST_CARBON_EXCESS
            wanted = wanted[rich & (labels[wanted, teff] < CARBON_STARS_BELOW)]
        error = grid.flux - model.compiled.predict(grid.labels)
        flux = model.compiled.predict(labels) + error[rows]
        none = np.zeros(len(rows), dtype=bool)
        parts_of_grid = {"flux": flux.astype(np.float32), "star": grid.star[rows], "is_validation": none}
        out.append((model, replace(grid, labels=labels, **parts_of_grid)))
    return out
