"""The emulator beside what one would pick instead: same training spectra, validation stars and time.

Columns: linear and quadratic regression on labels; a network in the way of The Payne (two hidden layers of
300, min-max scaled labels, one network for all pixels); and the transformer without and with differential
spectra.  Without them, neither its loss nor the interpolant that teaches it knows a derivative.  Two more
columns on request: the same pair without an interpolant.  Time is processor time, of all threads together,
so that a machine that does other things as well is fair to all; that of fitting an interpolant is in it.

    python benchmarks/emulator.py --grid grid.h5 --minutes 10 [--plain] [--only peers|interpolant|plain]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from phdl_catalog.cli.output import print_table
from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.evaluation import Evaluation, evaluate
from phdl_catalog.emulator.grid import AbInitioGrid, load_grid
from phdl_catalog.emulator.training import Training, TrainingProgress
from phdl_catalog.emulator.transforms import LabelTransform

#: Weakest ab initio derivative that counts, per dex, per km/s or per 100 K.
WEAKEST = 0.002

#: Of the time after the draws, what the direct path gets to learn them before the encoder begins.
DIRECT_SHARE = 0.6


@dataclass(frozen=True)
class Column:
    """One emulator: what it achieved, how long its training took, how fast it predicts."""

    name: str
    result: Evaluation
    training_s: float
    spectra_per_second: float


def speed(flux_of: Callable[[Tensor], Tensor], labels: Tensor) -> float:
    """Spectra a second, in batches of 128, best of three."""
    batch = labels[torch.arange(128) % len(labels)]
    times = []
    with torch.no_grad():
        for _ in range(4):
            start = time.perf_counter()
            flux_of(batch)
            times.append(time.perf_counter() - start)
    return 128 / min(times[1:])


def column(name: str, grid: AbInitioGrid, flux_of: Callable[[Tensor], Tensor], training_s: float) -> Column:
    return Column(name, evaluate(flux_of, grid), training_s, speed(flux_of, torch.as_tensor(grid.labels)))


def regression(grid: AbInitioGrid, quadratic: bool, ridge: float = 1.0) -> Column:
    """Ridge regression of flux on the transformed labels, and on their products."""
    start = time.process_time()
    rows = ~grid.is_validation
    transform = LabelTransform.fitted(grid.label_names, grid.labels[rows])
    first, second = torch.triu_indices(len(grid.label_names), len(grid.label_names))

    def design(labels: Tensor) -> Tensor:
        x = transform(labels.double())
        return torch.cat([x, x[:, first] * x[:, second]], dim=1) if quadratic else x

    a = design(torch.as_tensor(grid.labels[rows]))
    y = torch.as_tensor(grid.flux[rows]).double()
    centre, mean = a.mean(dim=0), y.mean(dim=0)
    a = a - centre
    normal = a.T @ a + ridge * torch.eye(a.shape[1], dtype=a.dtype)
    slope = torch.linalg.solve(normal, a.T @ (y - mean))
    took = time.process_time() - start
    return column(
        "quadratic" if quadratic else "linear",
        grid,
        lambda labels: ((design(labels) - centre) @ slope + mean).float(),
        took,
    )


class Payne(nn.Module):
    """Labels scaled to -0.5 .. 0.5, two hidden layers of 300, all pixels (Ting et al. 2019, sect. 3.1)."""

    def __init__(self, labels: Tensor, n_pixels: int) -> None:
        super().__init__()
        self.register_buffer("lower", labels.min(dim=0).values)
        self.register_buffer("width", labels.max(dim=0).values - labels.min(dim=0).values)
        self.layers = nn.Sequential(
            nn.Linear(labels.shape[1], 300), nn.LeakyReLU(), nn.Linear(300, 300), nn.LeakyReLU(),
            nn.Linear(300, n_pixels),
        )  # fmt: skip

    def forward(self, labels: Tensor) -> Tensor:
        return self.layers(((labels.double() - self.lower) / self.width - 0.5).float())


def payne(grid: AbInitioGrid, seconds: float) -> Column:
    """Train The Payne's network, with early stopping on the validation split."""
    torch.manual_seed(0)
    rows = ~grid.is_validation
    labels, flux = torch.as_tensor(grid.labels[rows]), torch.as_tensor(grid.flux[rows])
    network = Payne(labels, grid.pixels.size)
    optimiser = torch.optim.RAdam(network.parameters(), lr=1e-3)
    generator = np.random.default_rng(0)
    start, step, best, state = time.process_time(), 0, float("inf"), network.state_dict()
    while (passed := time.process_time() - start) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (1.0 - passed / seconds)
        batch = torch.as_tensor(generator.integers(len(labels), size=128))
        loss = (network(labels[batch]) - flux[batch]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if step % 500 == 0:
            rms = evaluate(network, replace(grid, gradients=None)).rms
            if rms < best:
                best, state = rms, {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(state)
    return column("The Payne", grid, network, seconds)


def transformer(name: str, grid: AbInitioGrid, config: TrainingConfig, seconds: float) -> Column:
    """Train the transformer for as many steps as the time allows.

    A short run shows what a draw, a step of the direct path and a step of the encoder cost.  Without a
    gradient term the training sees no differential spectrum.
    """
    known = grid if config.gradient_weight else replace(grid, gradients=None)
    short = replace(config.direct, spectra=1000, derivatives=400, steps=100)
    trial = config.model_copy(update={"steps": 40, "validate_every": 20, "direct": short})
    marks: dict[str, list[tuple[int, float]]] = {}

    def preparing(what: str, done: int, total: int) -> None:
        marks.setdefault(what, []).append((done, time.process_time()))

    def watch(progress: TrainingProgress) -> None:
        marks.setdefault("encoder", []).append((progress.step, time.process_time()))

    def cost(what: str) -> float:
        (first, start), (last, stop) = marks[what][0], marks[what][-1]
        return (stop - start) / (last - first)

    with tempfile.TemporaryDirectory() as folder:
        Training(known, trial, Path(folder) / "trial").run(watch, preparing)
        left, direct = seconds, config.direct
        if config.interpolant is not None:
            asked = marks["asking the interpolant"]
            left -= asked[0][1] - marks["interpolating the grid"][0][1]
            share = min(1.0, 0.2 * left / (cost("asking the interpolant") * direct.spectra * 1.4))
            draws = int(share * direct.spectra)
            left -= cost("asking the interpolant") * draws * 1.4
            steps = max(100, int(DIRECT_SHARE * left / cost("teaching the direct path")))
            direct = replace(direct, spectra=draws, derivatives=int(0.4 * draws), steps=steps)
        left -= direct.steps * cost("teaching the direct path")
        steps = max(100, int(left / cost("encoder")))
        final = config.model_copy(
            update={"direct": direct, "steps": steps, "validate_every": max(50, steps // 10)}
        )
        training = Training(known, final, Path(folder) / "run")
        start = time.process_time()
        training.run()
        took = time.process_time() - start
    return column(name, grid, training.average, took)


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="processor time of each network")
    parser.add_argument("--plain", action="store_true", help="also without an interpolant")
    parser.add_argument("--only", choices=("peers", "interpolant", "plain"), help="some of the columns")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    grid = load_grid(options.grid)
    seconds = 60.0 * options.minutes
    peers: list[Callable[[], Column]] = [
        lambda: regression(grid, quadratic=False),
        lambda: regression(grid, quadratic=True),
        lambda: payne(grid, seconds),
    ]

    def pair(name: str, config: TrainingConfig) -> list[Callable[[], Column]]:
        return [
            partial(transformer, f"{name}, {how} gradients", grid, config.model_copy(update=change), seconds)
            for how, change in (("no", {"gradient_weight": 0.0}), ("with", {}))
        ]

    parts = {
        "peers": peers,
        "interpolant": pair("transformer", TrainingConfig()),
        "plain": pair("no interpolant", TrainingConfig(interpolant=None)),
    }
    chosen = [options.only] if options.only else [name for name in parts if options.plain or name != "plain"]
    columns = []
    for make in (make for name in chosen for make in parts[name]):
        columns.append(make())
        print(f"{columns[-1].name}: rms {columns[-1].result.rms:.5f}", file=sys.stderr, flush=True)
    strong = [label for label, quality in columns[0].result.gradients.items() if quality.rms > WEAKEST]

    def mean_error(one: Column) -> float:
        return float(np.mean([one.result.gradients[label].relative_error for label in strong]))

    def well_correlated(one: Column) -> str:
        good = sum(one.result.gradients[label].correlation >= 0.95 for label in strong)
        return f"{good} of {len(strong)}"

    rows: list[tuple[str, Callable[[Column], str]]] = [
        ("rms, all", lambda c: f"{c.result.rms:.5f}"),
        ("rms, core", lambda c: f"{c.result.rms_core:.5f}"),
        ("mean absolute", lambda c: f"{c.result.mae:.5f}"),
        ("99th percentile", lambda c: f"{c.result.p99:.5f}"),
        ("mean relative gradient error", lambda c: f"{mean_error(c):.3f}"),
        ("gradients correlated to 0.95", well_correlated),
        ("training, processor [s]", lambda c: f"{c.training_s:.0f}"),
        ("spectra/s", lambda c: f"{c.spectra_per_second:,.0f}"),
    ]
    names = [one.name for one in columns]
    print_table(
        f"{columns[0].result.n} validation spectra ({columns[0].result.n_core} core); "
        f"trained on {int((~grid.is_validation).sum())}, {options.minutes:g} minutes of processor "
        "time each",
        ("", *names),
        [(title, *(show(one) for one in columns)) for title, show in rows],
    )
    print_table(
        "gradients: correlation / relative error",
        ("label", "rms", *names),
        [
            (
                label,
                f"{columns[0].result.gradients[label].rms:.5f}",
                *(
                    f"{c.result.gradients[label].correlation:.3f} / "
                    f"{c.result.gradients[label].relative_error:.2f}"
                    for c in columns
                ),
            )
            for label in columns[0].result.gradients
        ],
    )


if __name__ == "__main__":
    main()
