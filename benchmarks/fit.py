"""How fast the fit is, and how near to the bound: ``python benchmarks/fit.py [--stars N] [--threads T]``.

In the same run two other ways fit some of the same spectra, with less to find out (`fit_peers.py`): The
Payne's (scipy's trust region with finite differences, on its network) and CMA-ES on the transformer
(``pip install cma``).

Spectra are the packaged model's own, at labels inside its training region, with LAMOST's fall of S/N to
the blue, random velocities and a random smooth response.  So the table shows the fit alone: errors of the
emulator and of the physics behind it are not in it.  Times are wall-clock, from a packed shard to arrays of
labels; the processor time of a fit is beside them, for a machine that is not idle.  Last, one worker process
against two, spectra of all S/N mixed; threads times processes should not exceed the processors.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from fit_peers import evolution_strategy, payne_way, train_payne
from fit_workers import pack, workers_rate
from numpy.typing import NDArray

from phdl_catalog import load_model
from phdl_catalog.cli.output import print_table
from phdl_catalog.emulator import Emulator
from phdl_catalog.fitting import FitFlag, FitOptions, FitResult, Fitter
from phdl_catalog.spectra.grid import SPEED_OF_LIGHT, SURVEY_GRID
from phdl_catalog.spectra.store import PixelStore

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
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Flux, ivar and response (N, P) on the survey's grid, and velocities (N,)."""
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
    return np.where(inside, flux, 0.0), np.where(inside, error**-2.0, 0.0), response, rv


def measure(
    fitter: Fitter, flux: NDArray[np.float64], ivar: NDArray[np.float64]
) -> tuple[FitResult, float, float]:
    """The result, fits per second, and milliseconds of processor time for each, from a packed shard."""
    fitter.fit(SURVEY_GRID.wavelength, flux[:32], ivar[:32])
    with tempfile.TemporaryDirectory() as folder:
        addresses, store = pack(Path(folder), flux, ivar), PixelStore(folder)
        wall, processor = time.perf_counter(), time.process_time()
        block = store.read(addresses)
        result = fitter.fit(block.grid.wavelength, block.flux, block.ivar, block.mask)
        rate = len(flux) / (time.perf_counter() - wall)
        return result, rate, 1e3 * (time.process_time() - processor) / len(flux)


def worker_rows(
    model: str, flux: NDArray[np.float64], ivar: NDArray[np.float64]
) -> list[tuple[str | float, ...]]:
    """One worker process, then two."""
    with tempfile.TemporaryDirectory() as folder:
        addresses = pack(Path(folder), flux, ivar)
        options = {"velocity_floor": 0.0, "correct_model": False}
        found = [workers_rate(model, Path(folder), addresses, number, options) for number in (1, 2)]
    return [
        (
            item.workers,
            f"{item.rate:.0f}",
            f"{item.rate / found[0].rate:.2f}",
            f"{item.processor_ms:.1f}",
            f"{item.megabytes:.0f}",
        )
        for item in found
    ]


def spread(values: NDArray[np.float64]) -> float:
    """Half of the central 68 %."""
    return float(np.diff(np.percentile(values, [15.87, 84.13]))[0] / 2) if len(values) > 10 else float("nan")


def peer_rows(
    model: Emulator,
    network: torch.nn.Module,
    options: argparse.Namespace,
    snr: float,
    labels: NDArray[np.float64],
    flux: NDArray[np.float64],
    ivar: NDArray[np.float64],
    response: NDArray[np.float64],
    rv: NDArray[np.float64],
    ours: FitResult,
) -> list[tuple[str | float, ...]]:
    """Rows of the table of peers, for the first stars; they start at the middle of the range.

    The velocity they start with is right to 20 km/s.
    """
    first = model.pixels.first - SURVEY_GRID.first
    inside = slice(first, first + model.pixels.size)
    rows: list[tuple[str | float, ...]] = []
    for way, number in (("The Payne's way", options.payne_stars), ("CMA-ES, transformer", options.cma_stars)):
        if not number:
            continue
        some = slice(0, number)
        level = np.where(response > 0, response, 1.0)[some, inside]
        data = np.where(ivar[some, inside] > 0, flux[some, inside] / level, 1.0)
        used = np.maximum(ivar[some, inside], 1e-8) * level**2
        error = np.where(ivar[some, inside] > 0, used**-0.5, 1e4)
        start = np.zeros((number, len(model.label_names) + 1))
        start[:, -1] = (rv[some] + 20.0) / 100.0
        if way.startswith("The"):
            found = payne_way(network, data, error, start)
        else:
            found = evolution_strategy(model, data, error, start, options.cma_evaluations, options.seed)
        pull = (found.labels - labels[some]) / ours.bounds[some]
        cells: list[str | float] = []
        for name in SHOWN:
            column = model.label_names.index(name)
            good = ours.label_flags[some, column] == 0
            cells.append(f"{np.sqrt(np.square(pull[good, column]).mean()):.1f}" if good.any() else "")
        rows.append((way, snr, f"{found.rate:.4f}", *cells))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--stars", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--payne-stars", type=int, default=6, help="fitted by The Payne's way; 0: none")
    parser.add_argument("--payne-seconds", type=float, default=60.0, help="training of its network")
    parser.add_argument("--cma-stars", type=int, default=1, help="fitted by CMA-ES; 0: none")
    parser.add_argument("--cma-evaluations", type=int, default=8000)
    parser.add_argument(
        "--workers", action=argparse.BooleanOptionalAction, default=True, help="compare one worker and two"
    )
    options = parser.parse_args()
    if find_spec("cma") is None:
        parser.error("CMA-ES is not installed: pip install 'phdl-catalog[benchmarks]'")
    torch.set_num_threads(options.threads)
    model = load_model(options.model, options.device)
    generator = np.random.default_rng(options.seed + 1)
    drawn = draw_labels(model, 4000, generator)
    network = (
        train_payne(model, drawn, options.payne_seconds, options.seed)
        if options.payne_stars
        else torch.nn.Identity()
    )
    fitter = Fitter(model, FitOptions(velocity_floor=0.0, correct_model=False), device=options.device)
    speed, quality, peers = [], [], []
    mixed: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for snr in SNRS:
        generator = np.random.default_rng(options.seed)
        labels = draw_labels(model, options.stars, generator)
        flux, ivar, response, rv = simulate(model, labels, snr, generator)
        mixed.append((flux, ivar))
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
            row.append(f"{spread(((result.labels - labels) / result.bounds)[good, index]):.2f}")
        quality.append(row)
        peers.append(("ours", snr, f"{rate:.2f}", *row[1:]))
        peers.extend(peer_rows(model, network, options, snr, labels, flux, ivar, response, rv, result))
    columns = (
        "S/N",
        "threads",
        "fits/s",
        "ms of processor",
        "evaluations",
        "converged",
        "rv scatter [km/s]",
        "rv scatter/error",
    )
    print_table(f"{len(model.label_names)} labels, velocity and line width", columns, speed)
    print_table("scatter / Cramer-Rao bound", ("S/N", *SHOWN), quality)
    print_table(
        "the same spectra, three ways: root mean square of (fit - truth) / bound for the peers",
        ("way", "S/N", "fits/s", *SHOWN),
        peers,
    )
    if options.workers:
        rows = worker_rows(options.model, *(np.concatenate(part) for part in zip(*mixed, strict=True)))
        print_table(
            "workers of one thread, S/N mixed, from a packed shard to arrays",
            ("workers", "fits/s together", "ratio to one", "ms of processor", "MB of one"),
            rows,
        )


if __name__ == "__main__":
    main()
