"""How many fits miss the minimum of their cost: ``python benchmarks/minima.py [--grid FILE]``.

Spectra of the model itself, as LAMOST would see them, are fitted twice: as any spectrum is, and from their
true labels.  A fit that is worse than the other by 10 in chi2 has ended in a wrong place.  Two kinds,
with atmospheres of a grid (by default the sample that comes with the package): with compositions of the grid,
and cool ones with nearly as much carbon as oxygen, where molecules change everything.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from precision_samples import Observed, Stating, observe_grid, packaged_sample, with_other_compositions

from phdl_catalog import load_model
from phdl_catalog.cli.output import print_table
from phdl_catalog.emulator import Emulator
from phdl_catalog.emulator.grid import AbInitioGrid, load_grid
from phdl_catalog.emulator.region import CARBON_STARS_BELOW, LARGEST_CARBON_EXCESS
from phdl_catalog.fitting import FitOptions, Fitter
from phdl_catalog.spectra.grid import SURVEY_GRID

#: Excess of chi2 of a fit that missed its minimum, and of one that is lost.
MISSED, LOST = 10.0, 100.0

#: Spectra that are fitted together.
BATCH = 256


def carbon_rich(grid: AbInitioGrid, seed: int) -> AbInitioGrid:
    """Cool stars of a grid, with carbon up to the limit where carbon stars begin, and much nitrogen."""
    generator = np.random.default_rng(seed)
    names = list(grid.label_names)
    some = grid.select(grid.labels[:, names.index("teff")] < CARBON_STARS_BELOW)
    labels = some.labels.copy()
    carbon, nitrogen, oxygen = (names.index(f"{element}_fe") for element in "cno")
    labels[:, oxygen] = generator.uniform(0.0, 0.4, len(labels))
    labels[:, carbon] = labels[:, oxygen] + generator.uniform(0.0, LARGEST_CARBON_EXCESS, len(labels))
    labels[:, nitrogen] = generator.uniform(0.0, 0.8, len(labels))
    return replace(some, labels=labels)


def samples(model: Emulator, path: Path, stars: int, seed: int) -> dict[str, AbInitioGrid]:
    """Stars of both kinds, with the model's own spectra."""
    grid = load_grid(path, model.pixels, model.resolution)
    grid = grid.select(model.atmosphere_distance(grid.labels) <= 1.0)
    turns = -(-stars // len(np.unique(grid.star)))
    ((_, mixed),) = with_other_compositions([(model, grid)], turns, seed)
    kinds = {"any": mixed, "cool, rich in C and N": carbon_rich(mixed, seed)}
    return {
        kind: replace(sample, flux=model.compiled.predict(sample.labels).astype(np.float32))
        for kind, sample in kinds.items()
    }


def compare(fitter: Fitter, observed: Observed) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """By how much in chi2 (N,) fits are worse than such that begin at the truth, and their trials (N,)."""
    excess, trials = [], []
    for start in range(0, len(observed.labels), BATCH):
        some = slice(start, start + BATCH)
        given = (SURVEY_GRID.wavelength, observed.flux[some], observed.ivar[some], observed.bad[some])
        fits = [fitter.solve(*given), fitter.solve(*given, labels=observed.labels[some])]
        chi2 = []
        for fit in fits:
            if fit is None:
                raise SystemExit("a spectrum of the model cannot be fitted at all")
            observation = fit.solution.observation
            reduced = fitter.objective.reduced_chi2(observation, fit.solution.point)
            chi2.append((reduced * observation.use.sum(dim=1)).numpy())
            trials.append(fit.solution.evaluations.numpy())
        excess.append(chi2[0] - chi2[1])
    return np.concatenate(excess), np.concatenate(trials[::2])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--grid", type=Path, help="ab initio grid; default: the sample of the package")
    parser.add_argument("--stars", type=int, default=1000)
    parser.add_argument("--snr", type=float, nargs="+", default=[30.0, 100.0])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    # Spectra are the model's own, which has no error then.
    fitter = Fitter(Stating(model, None), FitOptions(correct_model=False))
    rows = []
    grid = options.grid or packaged_sample()
    for kind, sample in samples(model, grid, options.stars, options.seed).items():
        for snr in options.snr:
            observed = observe_grid(sample, options.stars, 1, snr, options.seed)
            excess, trials = compare(fitter, observed)
            missed, lost = (int((excess > limit).sum()) for limit in (MISSED, LOST))
            rows.append((kind, snr, len(excess), missed, lost, f"{trials.mean():.1f}"))
    print_table(
        "fits that are worse than those from the true labels",
        ("stars", "S/N g", "fits", f"by > {MISSED:.0f}", f"by > {LOST:.0f}", "trials"),
        rows,
    )


if __name__ == "__main__":
    main()
