"""What more spectra would bring, and what an earlier model brings to a larger grid.

    python benchmarks/learning_curve.py --grid grid.h5 [--figure curve.png] [--warm SHARE]

The interpolant of a part of the training stars is compared with the validation stars, for an eighth of the
stars, a quarter, a half and all; differential spectra are the same for all.  With --warm a transformer is
trained on a half of the stars, then on all of them, once from the model of the half (`phdl model train
--from`) and once from nothing, for the same number of steps.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.cli.output import print_table
from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.evaluation import Evaluation, evaluate
from phdl_catalog.emulator.grid import AbInitioGrid, load_grid
from phdl_catalog.emulator.interpolant import GridInterpolant, InterpolantConfig
from phdl_catalog.emulator.principal import spectrum_basis
from phdl_catalog.emulator.training import Training
from phdl_catalog.emulator.transforms import LabelTransform

SHARES = (0.125, 0.25, 0.5, 1.0)
WEAKEST = 0.002


def part_of(grid: AbInitioGrid, share: float) -> AbInitioGrid:
    """A share of the training stars, and all validation stars."""
    stars = np.unique(grid.star[~grid.is_validation])
    chosen = np.random.default_rng(0).permutation(stars)[: round(share * len(stars))]
    return grid.select(grid.is_validation | np.isin(grid.star, chosen))


def interpolated(grid: AbInitioGrid) -> Evaluation:
    """The interpolant of a grid against the grid's validation stars."""
    transform = LabelTransform.fitted(grid.label_names, grid.labels[~grid.is_validation])
    basis = spectrum_basis(grid, TrainingConfig().network.components)
    interpolant = GridInterpolant.fit(grid, transform, basis, InterpolantConfig())

    def flux(labels: Tensor) -> Tensor:
        return torch.addmm(basis[0], interpolant.coefficients(labels).float(), basis[1:])

    return evaluate(flux, grid)


def gradient_error(result: Evaluation) -> float:
    """Mean relative error of the gradients that matter."""
    return float(np.mean([q.relative_error for q in result.gradients.values() if q.rms > WEAKEST]))


def numbers(result: Evaluation) -> tuple[str, ...]:
    return (
        f"{result.rms:.5f}",
        f"{result.rms_core:.5f}",
        f"{result.p99 / result.rms:.2f}",
        f"{gradient_error(result):.3f}",
    )


def curve(grid: AbInitioGrid, figure: Path | None) -> None:
    """Print and draw the errors of the interpolant against the number of stars."""
    rows, points = [], []
    for share in SHARES:
        part = part_of(grid, share)
        training = ~part.is_validation
        stars = len(np.unique(part.star[training]))
        result = interpolated(part)
        points.append((stars, result.rms, result.rms_core))
        rows.append((stars, int(training.sum()), *numbers(result)))
    print_table(
        "interpolant of a part of the grid, same validation stars",
        ("stars", "spectra", "rms", "core", "p99 / rms", "gradient error"),
        rows,
    )
    stars, rms, core = (np.array(column) for column in zip(*points, strict=True))
    slopes = [np.polyfit(np.log(stars), np.log(values), 1)[0] for values in (rms, core)]
    print(f"errors fall like stars^{slopes[0]:.2f} (core {slopes[1]:.2f})")
    if figure is not None:
        draw(stars, {"all": rms, "core": core}, figure)
        print(f"wrote {figure}")


def draw(stars: NDArray[np.int64], errors: dict[str, NDArray[np.float64]], figure: Path) -> None:
    """The curve, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panel, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for name, values in errors.items():
        axes.loglog(stars, values, "o-", label=name)
    axes.set(xlabel="training stars", ylabel="rms of the flux, validation stars")
    axes.set_xticks(stars, [str(number) for number in stars])
    levels = [0.001 * step for step in (1, 1.5, 2, 3, 4, 6, 8, 12)]
    lowest, highest = min(map(min, errors.values())), max(map(max, errors.values()))
    levels = [level for level in levels if 0.8 * lowest < level < 1.2 * highest]
    axes.set_yticks(levels, [f"{level:g}" for level in levels])
    axes.minorticks_off()
    axes.legend(frameon=False)
    panel.savefig(figure, dpi=150)


def warm(grid: AbInitioGrid, share: float) -> None:
    """Train on a half, then on all: from the half's model, and from nothing; a share of the usual steps."""
    usual = TrainingConfig()

    def shortened(factor: float) -> TrainingConfig:
        steps = int(factor * usual.steps)
        direct = replace(
            usual.direct,
            steps=int(factor * usual.direct.steps),
            spectra=int(min(1.0, 2.0 * factor) * usual.direct.spectra),
            derivatives=int(min(1.0, 2.0 * factor) * usual.direct.derivatives),
        )
        return usual.model_copy(
            update={"steps": steps, "direct": direct, "validate_every": max(10, steps // 5)}
        )

    with tempfile.TemporaryDirectory() as folder:
        half = Training(part_of(grid, 0.5), shortened(share), Path(folder) / "half")
        rows = [("half of the stars", *numbers(half.run()))]
        short = shortened(share / 4)
        for name, start in (("all, from nothing", None), ("all, from the model of the half", half.average)):
            training = Training(grid, short, Path(folder) / name, start=start)
            rows.append((f"{name}, a quarter of the steps", *numbers(training.run())))
    print_table(
        f"warm start; the half with {share:g} of the usual steps",
        ("trained on", "rms", "core", "p99 / rms", "gradient error"),
        rows,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=Path, required=True)
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--warm", type=float, help="share of the usual steps for the warm start; slow")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    grid = load_grid(options.grid)
    curve(grid, options.figure)
    if options.warm:
        warm(grid, options.warm)


if __name__ == "__main__":
    main()
