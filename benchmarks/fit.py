"""How fast the fit is, and how near to the bound: ``python benchmarks/fit.py [--stars N] [--threads T]``.

Spectra are the packaged model's own, at labels inside its training region, with LAMOST's fall of S/N to
the blue, random velocities and a random smooth response.  So the table shows the fit alone: errors of the
emulator and of the physics behind it are not in it.  Times are wall-clock, from arrays to labels; the
processor time of a fit is beside them, for a machine that is not idle.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from numpy.typing import NDArray

from phdl_catalog import load_model
from phdl_catalog.cli.output import print_table
from phdl_catalog.emulator import Emulator
from phdl_catalog.fitting import FitFlag, FitOptions, FitResult, Fitter
from phdl_catalog.spectra.grid import SPEED_OF_LIGHT, SURVEY_GRID

SNRS = (30.0, 50.0, 100.0)
SHOWN = ("teff", "logg", "v_micro", "fe_h", "c_fe", "mg_fe", "si_fe", "ca_fe", "ti_fe", "cr_fe", "ni_fe")


def draw_labels(model: Emulator, number: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Atmospheres of the grid, with random abundances in the inner 60 % of their ranges."""
    middle, half = model.label_range.mean(axis=1), np.ptp(model.label_range, axis=1) / 2
    labels = middle + generator.uniform(-0.6, 0.6, (number, len(middle))) * half
    atmospheres = model.training_atmospheres
    columns = [model.label_names.index(name) for name in ("teff", "logg", "v_micro", "fe_h")]
    labels[:, columns] = atmospheres[generator.integers(0, len(atmospheres), number)]
    return labels


def simulate(
    model: Emulator, labels: NDArray[np.float64], snr: float, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Flux and ivar (N, P) on the survey's grid, and velocities (N,)."""
    number = len(labels)
    rv = generator.uniform(-300, 300, number)
    shift = np.log10(1 + rv / SPEED_OF_LIGHT) / 1e-4
    spectra = np.asarray(model.compiled.predict(labels), dtype=np.float64)
    mirrored = np.concatenate([spectra, spectra[:, -2:0:-1]], axis=1)
    phase = np.exp(-2j * np.pi * np.fft.rfftfreq(mirrored.shape[1]) * shift[:, None])
    moved = np.fft.irfft(np.fft.rfft(mirrored) * phase, mirrored.shape[1])[:, : spectra.shape[1]]
    first = model.pixels.first - SURVEY_GRID.first
    flux = np.zeros((number, SURVEY_GRID.size))
    flux[:, first : first + spectra.shape[1]] = moved
    inside = np.zeros(flux.shape, dtype=bool)
    inside[:, first + 15 : first + spectra.shape[1] - 15] = True
    x = np.linspace(-1, 1, SURVEY_GRID.size)
    response = np.exp(
        generator.normal(0, 0.4, (number, 1)) * x + generator.normal(0, 0.3, (number, 1)) * x**2
    )
    error = response / (snr * np.clip((SURVEY_GRID.wavelength - 3600) / 1100, 0.05, 1.6))
    flux = flux * response + generator.normal(size=flux.shape) * error
    return np.where(inside, flux, 0.0), np.where(inside, error**-2.0, 0.0), rv


def measure(
    fitter: Fitter, flux: NDArray[np.float64], ivar: NDArray[np.float64]
) -> tuple[FitResult, float, float]:
    """The result, fits per second, and milliseconds of processor time for each."""
    fitter.fit(SURVEY_GRID.wavelength, flux[:32], ivar[:32])
    wall, processor = time.perf_counter(), time.process_time()
    result = fitter.fit(SURVEY_GRID.wavelength, flux, ivar)
    rate = len(flux) / (time.perf_counter() - wall)
    return result, rate, 1e3 * (time.process_time() - processor) / len(flux)


def spread(values: NDArray[np.float64]) -> float:
    """Half of the central 68 %."""
    return float(np.diff(np.percentile(values, [15.87, 84.13]))[0] / 2) if len(values) > 10 else float("nan")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--stars", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(options.model, options.device)
    fitter = Fitter(model, FitOptions(velocity_floor=0.0), device=options.device)
    speed, quality = [], []
    for snr in SNRS:
        generator = np.random.default_rng(options.seed)
        labels = draw_labels(model, options.stars, generator)
        flux, ivar, rv = simulate(model, labels, snr, generator)
        result, rate, cost = measure(fitter, flux, ivar)
        converged = np.mean((result.flags & FitFlag.NOT_CONVERGED) == 0)
        pull_rv = spread((result.rv - rv) / result.e_rv)
        speed.append(
            (
                snr,
                options.threads,
                f"{rate:.0f}",
                f"{cost:.1f}",
                f"{result.n_iterations.mean():.1f}",
                f"{100 * converged:.1f} %",
                f"{spread(result.rv - rv):.2f}",
                f"{pull_rv:.2f}",
            )
        )
        row: list[str | float] = [snr]
        for name in SHOWN:
            index = result.label_names.index(name)
            good = result.label_flags[:, index] == 0
            row.append(f"{spread(((result.labels - labels) / result.errors)[good, index]):.2f}")
        quality.append(row)
    columns = (
        "S/N",
        "threads",
        "fits/s",
        "evaluations",
        "converged",
        "rv scatter [km/s]",
        "rv scatter/error",
    )
    print_table(f"{len(model.label_names)} labels, velocity and line width", columns, speed)
    print_table("scatter / quoted error, which is the Cramer-Rao bound", ("S/N", *SHOWN), quality)


if __name__ == "__main__":
    main()
