"""Quoted labels next to samples of the posterior: ``python benchmarks/posterior.py [--grid FILE]``.

Spectra that trained no model are observed as LAMOST would and fitted by a model that takes itself for exact,
without an error floor: then the cost of the fit is the posterior, and emcee samples all of it.  For each
label that is measured (its contrast is 5 or more): how far the minimum of chi2 and the quoted value are from
the mean of the samples, in units of their standard deviation, and the quoted error over that.  No truth takes
part: this asks whether the numbers are what the data say, not whether the data are right.

A star takes a minute of one core; means of 3000 steps are good to 0.05.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from precision_samples import Observed, Stating, observe_grid, packaged_sample, unseen

from phdl_catalog import load_model
from phdl_catalog.cli.output import print_table, progress_bar
from phdl_catalog.fitting import FitOptions, Fitter
from phdl_catalog.fitting.judge import LEAST_CONTRAST
from phdl_catalog.fitting.sampling import sample_posterior
from phdl_catalog.spectra.grid import SURVEY_GRID

#: Fewest stars that a label is measured in for a line of its own.
_FEWEST = 4


@dataclass(frozen=True)
class Compared:
    """Labels (N, L) of N stars; NaN where one is not measured.

    Parameters
    ----------
    minimum, quoted : (N, L) float64
        Value minus mean of the samples, over their standard deviation.
    error : (N, L) float64
        Quoted error over the standard deviation of the samples.
    """

    minimum: NDArray[np.float64]
    quoted: NDArray[np.float64]
    error: NDArray[np.float64]


def compare(fitter: Fitter, observed: Observed, steps: int, seed: int) -> Compared:
    """Fit and sample every star."""
    forward = fitter.forward
    number = forward.n_labels
    found = []
    with progress_bar() as progress:
        task = progress.add_task("Sampling", total=len(observed.rv))
        for row in range(len(observed.rv)):
            spectrum = (SURVEY_GRID.wavelength, observed.flux[row], observed.ivar[row], observed.bad[row])
            fitted = fitter.solve(*spectrum)
            if fitted is None:
                raise SystemExit(f"spectrum {row} of the benchmark cannot be fitted")
            # Pixels err one by one in what is sampled.
            solution = replace(fitted.solution, noise=fitted.solution.curvature)
            with torch.no_grad():
                estimate = fitter.estimate(solution)
            samples = sample_posterior(
                fitter, *spectrum, steps=steps, rng=np.random.default_rng(seed + row)
            ).samples[:, :number]
            mean, sigma = samples.mean(axis=0), samples.std(axis=0)
            minimum, quoted = (
                (forward.labels(place)[0].numpy() - mean) / sigma
                for place in (solution.point.parameters, estimate.values)
            )
            error = (estimate.errors[0, :number] * forward.half_range).numpy() / sigma
            measured = fitter.fit(*spectrum).contrast[0] >= LEAST_CONTRAST
            found.append([np.where(measured, each, np.nan) for each in (minimum, quoted, error)])
            progress.advance(task)
    return Compared(*np.swapaxes(np.array(found), 0, 1))


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.nanmean(np.square(values))))


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--grid", type=Path, help="ab initio grid; default: the sample of the package")
    parser.add_argument("--stars", type=int, default=20)
    parser.add_argument("--snr", type=float, default=30.0)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--json", action="store_true", help="print JSON for every label")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    grid = unseen(model, options.grid or packaged_sample())
    observed = observe_grid(grid, options.stars, 1, options.snr, options.seed)
    choice = FitOptions(correct_model=False, velocity_floor=0.0, fit_error_floor=False)
    fitter = Fitter(Stating(model, None), choice)
    found = compare(fitter, observed, options.steps, options.seed)
    labels = {"all": np.arange(fitter.forward.n_labels)}
    labels |= {name: np.array([column]) for column, name in enumerate(fitter.forward.label_names)}
    rows = [
        {
            "label": name,
            "measured": int(np.isfinite(found.quoted[:, columns]).sum()),
            "minimum_mean": float(np.nanmean(found.minimum[:, columns])),
            "minimum_rms": _rms(found.minimum[:, columns]),
            "quoted_mean": float(np.nanmean(found.quoted[:, columns])),
            "quoted_rms": _rms(found.quoted[:, columns]),
            "error_ratio": float(np.nanmedian(found.error[:, columns])),
            "error_ratio_rms": _rms(found.error[:, columns] - 1.0),
        }
        for name, columns in labels.items()
        if np.isfinite(found.quoted[:, columns]).sum() >= _FEWEST
    ]
    if options.json:
        print(json.dumps(rows))
        return
    print_table(
        f"minus the mean of samples, over their spread: mean and root mean square; {options.stars} stars, "
        f"S/N {options.snr:.0f}",
        ("label", "measured", "minimum", "rms", "quoted", "rms", "error / spread", "rms of that - 1"),
        [
            (
                row["label"], row["measured"],
                f"{row['minimum_mean']:+.2f}", f"{row['minimum_rms']:.2f}",
                f"{row['quoted_mean']:+.2f}", f"{row['quoted_rms']:.2f}",
                f"{row['error_ratio']:.2f}", f"{row['error_ratio_rms']:.2f}",
            )
            for row in rows
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
