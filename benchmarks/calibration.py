"""How well calibration recovers injected corrections: prints a table.

Simulated fits with corrections that are none of the functions used to describe them (``simulation.py``):
smooth curves of 0.1 to 0.4 dex in teff and logg, different for dwarfs and subgiants; surveys with zero-points
of their own.  For each case: the scatter of recovered minus injected over target stars the solution never saw
and its error; their ratio (pull); held-out pairs against noise and intrinsic scatter; labels made worse.

Run ``python benchmarks/calibration.py`` (three minutes on two cores) or ``... --quick``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from phdl_catalog.calibration import CalibrationSolution, calibrate
from phdl_catalog.calibration.simulation import SHAPES, SimulatedCalibrators, simulate_calibrators

ELEMENTS = "C N O Na Mg Al Si S K Ca Sc Ti V Cr Mn Co Ni Cu Zn Sr Y Zr Ba Ce Eu"
LABELS = ["teff", "logg", "v_micro", "fe_h", *(f"{element.lower()}_fe" for element in ELEMENTS.split())]
TARGETS = 4000
STARS = 116_611

CASES: dict[str, dict[str, Any]] = {
    "300 pairs, 500 references, 5 % chance pairs": {},
    "20 % bad pairs and references": {"bad_fraction": 0.2, "bad_references": 0.2},
    "no pairs": {"pairs": 0},
    "40 pairs, 40 references": {"pairs": 40, "references": 40, "surveys": 1},
    "3000 pairs, 5000 references": {"pairs": 3000, "references": 5000},
    "corrections depend on raw teff and logg": {"at_raw": True},
}

_LEGEND = """
left: rms of recovered minus injected; error: rms of its quoted error; pull: standard deviation of their ratio
at exact labels, by error(labels); noisy: at raw labels, by error(labels, errors); without: at raw labels, by
error(labels), which does not know that they are noisy; valid: part of the targets; held: scatter of held-out
pairs over noise and intrinsic scatter; worse: labels whose held-out calibrators scatter more than before
(two sigma); s: seconds to solve
"""


@dataclass(frozen=True)
class Recovery:
    """One solved simulation."""

    left: float
    error: float
    pull: float
    pull_with_noise: float
    pull_without: float
    valid: float
    held_out: float
    worse: int
    seconds: float


def measure(
    seed: int, labels: list[str], **options: Any
) -> tuple[Recovery, CalibrationSolution, SimulatedCalibrators]:
    """Simulate, solve, and compare with the truth."""
    simulated = simulate_calibrators(labels, seed=seed, targets=TARGETS, **options)
    stars = slice(None, -TARGETS)
    start = time.perf_counter()
    solution = calibrate(labels, simulated.labels[stars], simulated.errors[stars], **simulated.inputs)
    seconds = time.perf_counter() - start
    unit = np.where(np.array(labels) == "teff", 1000.0, 1.0)
    injected = simulated.injected[-TARGETS:]
    exact, raw = (simulated.truth + simulated.injected)[-TARGETS:], simulated.labels[-TARGETS:]
    valid = solution.valid(exact)
    error = solution.error(exact)
    left = np.where(valid, solution.correction(exact) - injected, np.nan)
    noisy = np.where(solution.valid(raw), solution.correction(raw) - injected, np.nan)
    if options.get("at_raw"):
        # Exact are the labels with noise, but teff and logg, whose corrections depend on the true ones.
        noisy[:, :2] = np.nan
        left, error, valid = noisy, solution.error(raw), solution.valid(raw)
    held = [entry.held_out_pairs for entry in solution.report().labels]
    ratios = [scatter.after / scatter.expected for scatter in held if scatter.after and scatter.expected]
    worse = sum(
        scatter.worse
        for entry in solution.report().labels
        for scatter in (entry.held_out_pairs, entry.held_out_references)
    )
    recovery = Recovery(
        left=float(np.sqrt(np.nanmean((left / unit) ** 2))),
        error=float(np.sqrt(np.mean(((error / unit) ** 2)[valid]))),
        pull=float(np.nanstd(left / error)),
        pull_with_noise=float(np.nanstd(noisy / solution.error(raw, simulated.errors[-TARGETS:]))),
        pull_without=float(np.nanstd(noisy / solution.error(raw))),
        valid=float(valid.mean()),
        held_out=float(np.mean(ratios)) if ratios else float("nan"),
        worse=int(worse),
        seconds=seconds,
    )
    return recovery, solution, simulated


def _other_shapes(labels: list[str], seeds: range) -> None:
    """The same with curves of other families: steps, bumps and waves."""
    columns = ("left", "error", "pull", "valid", "held")
    print(f"{'other shapes of the injected curves':<45}" + "".join(f"{column:>8}" for column in columns))
    for shape in SHAPES[1:]:
        runs = [measure(100 + seed, labels, shape=shape)[0] for seed in seeds]
        left, error, pull, valid, held = np.mean(
            [(run.left, run.error, run.pull, run.valid, run.held_out) for run in runs], axis=0
        )
        print(f"{shape:<45}{left:8.4f}{error:8.4f}{pull:8.2f}{valid:8.2f}{held:8.2f}")
    print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="five labels and one seed")
    parser.add_argument("--seeds", type=int, default=3, help="number of simulations of each case")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    options = parser.parse_args()
    quick = options.quick
    labels = LABELS[:4] + LABELS[8:9] if quick else LABELS
    seeds = range(options.first, options.first + (1 if quick else options.seeds))
    print(
        f"{len(labels)} labels, {len(seeds)} seeds; dex (teff: 1000 K); targets inside the validity range\n"
    )
    columns = ("left", "error", "pull", "noisy", "without", "valid", "held", "worse", "s")
    print(f"{'case':<45}" + "".join(f"{column:>8}" for column in columns))
    for name, options in CASES.items():
        runs = [astuple(measure(seed, labels, **options)[0]) for seed in seeds]
        left, error, *rest = np.mean(runs, axis=0)
        pulls = [run[2] for run in runs]
        spread = f"   pulls {min(pulls):.2f} to {max(pulls):.2f}" if len(runs) > 1 else ""
        print(f"{name:<45}{left:8.4f}{error:8.4f}" + "".join(f"{value:8.2f}" for value in rest) + spread)
    print(_LEGEND)
    _other_shapes(labels, seeds)
    _, solution, simulated = measure(0, labels)
    stars = np.resize(simulated.labels[-TARGETS:], (STARS, len(labels)))
    for face in ("correction", "valid", "error"):
        start = time.perf_counter()
        getattr(solution, face)(stars)
        print(f"{face:<11} of {STARS} stars x {len(labels)} labels: {time.perf_counter() - start:6.2f} s")


if __name__ == "__main__":
    main()
