"""How near to the bound fits of ab initio spectra come: ``python benchmarks/precision.py [--grid FILE]``.

Spectra that trained no model (a grid's validation stars; by default the sample that comes with the package)
are observed as LAMOST would: its run of S/N with wavelength, its masks, random velocities, a wrong smooth
response.  They are fitted as any spectrum is, which finds out itself that they have the model's line list.
For each label: scatter over the bound of photons alone (from fits that take the model for exact), standard
deviation of (fit - truth) / error, and bias over error.

Spectra of one star share the emulator's error: stars are drawn, equally often, and of each one of its
spectra.  36 stars tell a spread to 12 % and a bias to 0.2 and no better where that error counts.
``--left-out`` adds the training stars, with the error that the model would have had without them.
``--draws`` does it all several times: noise, spectra and conditions are others, the stars are the same.
``--compositions`` gives each star other abundances of the grid: what few stars measure, many then do.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from precision_samples import (
    Observed,
    Part,
    Stating,
    left_out_halves,
    observe_grid,
    packaged_sample,
    unseen,
    with_other_compositions,
)

from phdl_catalog import load_model
from phdl_catalog.cli.output import print_table
from phdl_catalog.emulator import Emulator
from phdl_catalog.fitting import FitOptions, FitResult, Fitter
from phdl_catalog.spectra.grid import SURVEY_GRID

SNRS = (30.0, 50.0, 100.0)
#: What is asked of scatter and spread, and of bias; and of how many fits.
LOWEST, HIGHEST, LARGEST_BIAS, ENOUGH = 0.85, 1.15, 0.3, 30
#: How often stars are drawn again.
_DRAWS = 200
SHOWN = (
    "teff", "logg", "v_micro", "fe_h", "c_fe", "mg_fe", "si_fe", "ca_fe", "ti_fe", "cr_fe", "ni_fe", "rv",
)  # fmt: skip


def fit(model: Emulator | Stating, observed: Observed, stated: bool, ab_initio: bool = False) -> FitResult:
    """Fits as usual, or told that spectra are computed; or such that take the model for exact."""
    options = FitOptions(
        correct_model=None if stated and not ab_initio else False,
        velocity_floor=0.0,
        fit_error_floor=stated,
    )
    fitter = Fitter(model if stated else Stating(model, None), options)
    return fitter.fit(SURVEY_GRID.wavelength, observed.flux, observed.ivar, observed.bad)


def spread(values: NDArray[np.float64]) -> float:
    """Half of the central 68 % of those that are numbers."""
    values = values[np.isfinite(values)]
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
    fits : int
        Unflagged ones, that the last two are of.
    e_scatter, e_pull, e_bias : float
        Standard errors of the three: their spread when stars are drawn again, with replacement.
    """

    label: str
    snr: float
    fits: int
    scatter: float
    pull: float
    bias: float
    e_scatter: float
    e_pull: float
    e_bias: float

    @property
    def _misses(self) -> dict[str, float]:
        """By how much each of the three is beyond its aim."""
        return {
            "scatter": self.scatter - HIGHEST,
            "pull": max(self.pull - HIGHEST, LOWEST - self.pull),
            "bias": abs(self.bias) - LARGEST_BIAS,
        }

    @property
    def missed(self) -> list[str]:
        """What misses the aim, with its value and standard error."""
        return [
            f"{name} {getattr(self, name):.2f} +- {getattr(self, f'e_{name}'):.2f}"
            for name, miss in self._misses.items()
            if miss > 0.0
        ]

    @property
    def beyond(self) -> list[str]:
        """What misses the aim by more than two standard errors."""
        return [name for name, miss in self._misses.items() if miss > 2.0 * getattr(self, f"e_{name}")]


@dataclass(frozen=True)
class _Fits:
    """Labels and velocity (N, L + 1) of fits without and with the stated error, and the truth.

    A star has the same number in each draw, and another one than those of other parts.
    """

    photons: FitResult
    stated: FitResult
    truth: NDArray[np.float64]
    star: NDArray[np.int64]


def measure(
    parts: Sequence[Part],
    stars: int,
    repeats: int,
    seed: int,
    snrs: Sequence[float] = SNRS,
    ab_initio: bool = False,
    draws: int = 1,
) -> list[Precision]:
    """Observe, fit twice, compare; label by label and S/N by S/N, velocity last.

    Parameters
    ----------
    parts : sequence of (model, grid)
        Spectra, and what they are fitted with.
    stars, repeats : int
        Spectra of each part, and how often each is observed.
    seed : int
    snrs : sequence of float
    ab_initio : bool
        Whether fits are told that spectra are computed, and do not find out themselves.
    draws : int
        How often all this is done.
    """
    out = []
    for snr in snrs:
        found = []
        for draw, (number, (model, grid)) in product(range(draws), enumerate(parts)):
            observed = observe_grid(grid, stars, repeats, snr, seed + 1000 * draw + 100 * number)
            truth = np.column_stack([observed.labels, observed.rv])
            both = fit(model, observed, False), fit(model, observed, True, ab_initio)
            found.append(_Fits(*both, truth, observed.star + number * (1 << 32)))
        out += _compare(found, snr, repeats)
    return out


def _with_velocity(result: FitResult, errors: str) -> tuple[NDArray[np.float64], ...]:
    """Values, `errors` or `bounds`, and whether there is no flag, (N, L + 1) each."""
    free = np.pad(result.label_flags, ((0, 0), (0, 1))) == 0
    values = np.column_stack([result.labels, result.rv])
    return values, np.column_stack([getattr(result, errors), result.e_rv]), free


def _compare(found: Sequence[_Fits], snr: float, repeats: int) -> list[Precision]:
    truth = np.concatenate([item.truth for item in found])
    of_photons, of_stated = (
        tuple(
            np.concatenate(part)
            for part in zip(*(_with_velocity(getattr(item, kind), errors) for item in found), strict=True)
        )
        for kind, errors in (("photons", "bounds"), ("stated", "errors"))
    )
    star = np.concatenate([item.star for item in found])
    values, bounds, free = of_photons
    grouped = ((values - truth) / bounds).reshape(-1, repeats, values.shape[1])
    steady = free.reshape(grouped.shape).all(axis=1, keepdims=True)
    within = (grouped - grouped.mean(axis=1, keepdims=True)) * np.sqrt(repeats / max(repeats - 1, 1))
    # A single observation says nothing of their scatter.
    within = np.where(steady & (repeats > 1), within, np.nan).reshape(values.shape)
    pull = np.where(of_stated[2], (of_stated[0] - truth) / of_stated[1], np.nan)
    measured = _measures(within, pull)
    generator, names = np.random.default_rng(0), np.unique(star)
    rows_of = {name: np.flatnonzero(star == name) for name in names}
    again = []
    for _ in range(_DRAWS):
        rows = np.concatenate([rows_of[name] for name in generator.choice(names, len(names))])
        again.append(_measures(within[rows], pull[rows]))
    uncertain = np.std(again, axis=0)
    return [
        Precision(
            name, snr, int(np.isfinite(pull[:, column]).sum()), *measured[:, column], *uncertain[:, column]
        )
        for column, name in enumerate((*found[0].stated.label_names, "rv"))
    ]


def _measures(within: NDArray[np.float64], pull: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scatter, pull and bias (3, C) of columns of numbers (N, C)."""
    return np.array(
        [[spread(x), spread(y), float(np.median(y[np.isfinite(y)])) if np.isfinite(y).any() else np.nan]
         for x, y in zip(within.T, pull.T, strict=True)]
    ).T  # fmt: skip


def print_misses(found: Sequence[Precision]) -> None:
    """Which labels with enough fits miss the aims, at all and significantly."""
    enough = [item for item in found if item.fits >= ENOUGH]
    at_all = [f"{x.label} at {x.snr:.0f} ({', '.join(x.missed)})" for x in enough if x.missed]
    print(f"Scatter over {HIGHEST}, spread outside {LOWEST} to {HIGHEST} or bias over {LARGEST_BIAS}:")
    print("; ".join(at_all) or "none")
    missing = [f"{x.label} at {x.snr:.0f} ({', '.join(x.beyond)})" for x in enough if x.beyond]
    print(f"The same by more than two standard errors, of {len(enough)} labels at an S/N with {ENOUGH} fits:")
    print("; ".join(missing) or "none", end="\n\n")


def print_tables(found: Sequence[Precision], of_what: str) -> None:
    """One table a quantity."""
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
        print_table(f"{title}; {of_what}", ("S/N g", *SHOWN), rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--grid", type=Path, help="ab initio grid; default: the sample of the package")
    parser.add_argument("--stars", type=int, default=164)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument(
        "--left-out", action="store_true", help="also the training stars of --grid, as if they were unseen"
    )
    parser.add_argument(
        "--compositions", type=int, default=0, help="how many other compositions of the grid each star gets"
    )
    parser.add_argument(
        "--ab-initio",
        action="store_true",
        help="tell fits that spectra are computed, instead of letting them see",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for every label")
    parser.add_argument("--figure", type=Path, help="draw every label")
    options = parser.parse_args()
    if options.left_out and not options.grid:
        parser.error("--left-out needs the --grid that the model was trained with")
    torch.set_num_threads(1)
    model = load_model(options.model)
    grid = unseen(model, options.grid or packaged_sample())
    kinds: dict[str, list[Part]] = {f"{len(np.unique(grid.star))} unseen stars": [(model, grid)]}
    if options.left_out:
        halves = left_out_halves(model, options.grid, options.seed)
        number = sum(len(np.unique(half.star)) for _, half in halves)
        kinds[f"{number} training stars, each left out"] = halves
    if options.compositions:
        kinds = {
            f"{name}, {options.compositions} compositions of each": with_other_compositions(
                parts, options.compositions, options.seed
            )
            for name, parts in kinds.items()
        }
    found = {
        name: measure(
            parts, options.stars, options.repeats, options.seed, SNRS, options.ab_initio, options.draws
        )
        for name, parts in kinds.items()
    }
    if options.figure:
        from precision_figure import draw_precision

        draw_precision(found).savefig(options.figure, dpi=100)
    if options.json:
        print(json.dumps({name: [asdict(item) for item in items] for name, items in found.items()}))
        return
    for name, items in found.items():
        print_tables(items, name)
        print_misses(items)


if __name__ == "__main__":
    main()
