"""Simulated calibrators with known corrections: to test, to measure, and to try before real ones are there.

The injected curves are hyperbolic tangents, sines, bumps and powers, different for dwarfs and subgiants: none
of them is a function of the basis the solution uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.basis import COORDINATES

Floats = NDArray[np.float64]

#: Quoted error of each label at S/N 50 [label units]; elements with weak lines have larger ones.
_ERRORS_AT_50 = {"teff": 35.0, "logg": 0.06, "v_micro": 0.08, "fe_h": 0.03}
_ELEMENT_ERRORS_AT_50 = (0.03, 0.04, 0.05, 0.06, 0.08, 0.10)

#: Error of the reference labels.
_REFERENCE_ERRORS = {"teff": 40.0, "logg": 0.05, "v_micro": 0.1, "fe_h": 0.03}

_DWARFS_END = 4.1

#: Families of injected curves.
Shape = Literal["smooth", "step", "bump", "wave"]
SHAPES: tuple[Shape, ...] = ("smooth", "step", "bump", "wave")


@dataclass(frozen=True)
class InjectedCurve:
    """One label's injected correction, as random shapes: 0.1 to 0.4 dex from end to end.

    Parameters
    ----------
    dwarf, subgiant : tuple of float
        Amplitude [label units], centre [K], width [K] and curvature of each population's curve in teff.
    gravity : float
        Slope-like amplitude in logg [label units].
    constant : float
        Zero-point [label units].
    """

    dwarf: tuple[float, float, float, float]
    subgiant: tuple[float, float, float, float]
    gravity: float
    constant: float
    shape: Shape = "smooth"

    def __call__(self, teff: Floats, logg: Floats) -> Floats:
        """(N,) correction at true teff [K] and logg."""
        if self.shape != "smooth":
            return self._other(teff, logg)
        amplitude, center, width, bend = self.dwarf
        x = (teff - center) / width
        dwarf = amplitude * (np.tanh(x) + bend * x**2 / (1 + x**2))
        amplitude, center, width, bend = self.subgiant
        x = (teff - center) / width
        subgiant = amplitude * (np.sin(1.3 * x) + bend * np.exp(-0.5 * x**2))
        share = 1 / (1 + np.exp(-(logg - _DWARFS_END) / 0.12))
        slope = self.gravity * np.arctan((logg - 4.2) / 0.5)
        return np.asarray(self.constant + share * dwarf + (1 - share) * subgiant + slope)

    def _other(self, teff: Floats, logg: Floats) -> Floats:
        """Families that are less kind: a step of two widths, a bump on a slope, a wave in both."""
        parts = []
        for amplitude, center, width, bend in (self.dwarf, self.subgiant):
            x = (teff - center) / width
            if self.shape == "step":
                parts.append(amplitude * (2 / (1 + np.exp(-2.5 * x)) - 1))
            elif self.shape == "bump":
                parts.append(amplitude * (2 * np.exp(-0.5 * x**2) + 0.3 * bend * x))
            else:
                parts.append(amplitude * np.cos(1.8 * x + 2.0 * (logg - 4.2) + bend))
        share = 1 / (1 + np.exp(-(logg - _DWARFS_END) / 0.12))
        slope = self.gravity * (logg - 4.2) / 0.5
        return np.asarray(self.constant + share * parts[0] + (1 - share) * parts[1] + slope)


@dataclass(frozen=True)
class SimulatedCalibrators:
    """Calibrators as `calibrate` takes them, and the truth behind them.

    Parameters
    ----------
    label_names : (L,) tuple of str
        Label names.
    labels, errors, truth : (N, L) arrays
        Raw labels, their quoted errors, true labels.
    injected : (N, L) array
        What was added to the true labels, apart from noise.
    inputs : dict
        Keyword arguments of `calibrate`: pairs, reference_rows, ..., surveys.
    bad_pairs, bad_references : arrays of bool
        Calibrators that are wrong.
    curves : tuple of InjectedCurve
        The injected corrections.
    """

    label_names: tuple[str, ...]
    labels: Floats
    errors: Floats
    truth: Floats
    injected: Floats
    inputs: dict[str, Any]
    bad_pairs: NDArray[np.bool_]
    bad_references: NDArray[np.bool_]
    curves: tuple[InjectedCurve, ...]


def draw_stars(count: int, dwarf_share: float, generator: np.random.Generator) -> Floats:
    """(count, 3) true teff, logg, fe_h of dwarfs and subgiants, roughly as a survey sees them."""
    dwarf = generator.random(count) < dwarf_share
    teff = np.where(
        dwarf, np.clip(generator.normal(5600, 550, count), 4300, 6700), generator.uniform(4900, 6300, count)
    )
    turnoff = 4.55 - 0.35 * np.clip((teff - 5000) / 1500, 0, 1)
    logg = np.where(dwarf, turnoff + generator.normal(0, 0.06, count), generator.uniform(3.3, 4.05, count))
    fe_h = np.clip(generator.normal(-0.2, 0.28, count), -1.5, 0.45)
    return np.stack([teff, logg, fe_h], axis=1)


def _draw_curve(generator: np.random.Generator, unit: float, shape: Shape) -> InjectedCurve:
    # tanh and sin run from -1 to 1: half of the 0.1 to 0.4 dex.
    half = generator.uniform(0.05, 0.2, 2) * generator.choice([-1, 1], 2)
    uniform = generator.uniform
    return InjectedCurve(
        dwarf=(half[0] * unit, uniform(5100, 6000), uniform(400, 800), uniform(-0.5, 0.5)),
        subgiant=(half[1] * unit, uniform(5200, 5900), uniform(450, 800), uniform(-0.5, 0.5)),
        gravity=float(generator.uniform(-0.08, 0.08) * unit),
        constant=float(generator.normal(0, 0.08) * unit),
        shape=shape,
    )  # fmt: skip


def simulate_calibrators(
    label_names: Sequence[str],
    *,
    pairs: int = 300,
    references: int = 500,
    targets: int = 2000,
    surveys: int = 2,
    bad_fraction: float = 0.05,
    bad_references: float = 0.0,
    pair_scatter: float = 0.02,
    reference_scatter: float = 0.03,
    zero_point_spread: float = 0.04,
    failed_fraction: float = 0.02,
    survey_scale: float = 0.0,
    shape: Shape = "smooth",
    at_raw: bool = False,
    seed: int = 0,
) -> SimulatedCalibrators:
    """Draw calibrators and target stars with injected corrections.

    Parameters
    ----------
    label_names : (L,) sequence of str
        Label names, teff, logg and fe_h among them.
    pairs, references, targets : int
        Number of wide binaries (mostly dwarfs), of reference stars, and of further stars to test on; the rows
        of the targets come last.
    surveys : int
        Number of surveys the references come from; their zero-points sum to zero.
    bad_fraction : float
        Part of the pairs that are chance alignments: two unrelated stars.
    bad_references : float
        Part of the references that are of another star.
    pair_scatter, reference_scatter : float
        Intrinsic scatter of abundances [dex].
    zero_point_spread : float
        Standard deviation of the surveys' zero-points [dex; 1000 K].
    failed_fraction : float
        Part of the calibrator stars whose fit failed (all NaN).
    survey_scale : float
        Scale of the first survey minus one, about the median of each label; the others have the opposite.
    shape : str
        Family of the injected curves: ``smooth``, ``step``, ``bump`` or ``wave``.  Those of teff, logg and
        fe_h stay smooth: were two temperatures given one raw value, no correction could tell them apart.
    at_raw : bool
        Corrections other than those of teff and logg are functions of the raw teff and logg, noise included,
        not of the true ones.
    seed : int
        Seed of everything.
    """
    generator = np.random.default_rng(seed)
    names = tuple(label_names)
    column = {name: names.index(name) for name in COORDINATES}
    total = 2 * pairs + references + targets
    stars = np.concatenate([
        draw_stars(2 * pairs, 0.85, generator), draw_stars(references, 0.5, generator),
        draw_stars(targets, 0.5, generator),
    ])  # fmt: skip
    truth = np.zeros((total, len(names)))
    for axis, name in enumerate(COORDINATES):
        truth[:, column[name]] = stars[:, axis]
    elements = [i for i, name in enumerate(names) if name.endswith("_fe")]
    for i in elements:
        slope = generator.uniform(-0.4, 0.2)
        truth[:, i] = slope * stars[:, 2] + generator.normal(0, 0.07, total)
    if "v_micro" in names:
        truth[:, names.index("v_micro")] = 1.1 + generator.normal(0, 0.15, total)

    first, second = np.arange(0, 2 * pairs, 2), np.arange(1, 2 * pairs, 2)
    shared = [column["fe_h"], *elements]
    chance = generator.random(pairs) < bad_fraction
    siblings = ~chance
    for i in shared:
        truth[second[siblings], i] = truth[first[siblings], i] + generator.normal(
            0, pair_scatter, siblings.sum()
        )

    curves = tuple(
        _draw_curve(generator, 1000.0 if name == "teff" else 1.0, "smooth" if name in COORDINATES else shape)
        for name in names
    )
    teff, logg = truth[:, column["teff"]], truth[:, column["logg"]]
    injected = np.stack([curve(teff, logg) for curve in curves], axis=1)
    at_50 = np.array(
        [
            _ERRORS_AT_50.get(name, _ELEMENT_ERRORS_AT_50[i % len(_ELEMENT_ERRORS_AT_50)])
            for i, name in enumerate(names)
        ]
    )
    snr = generator.lognormal(np.log(60), 0.5, total)
    errors = at_50 * np.clip(50 / snr, 0.25, 4)[:, None]
    noise = generator.normal(size=errors.shape) * errors
    if at_raw:
        raw = truth + injected + noise
        at = (raw[:, column["teff"]], raw[:, column["logg"]])
        for i, name in enumerate(names):
            if name not in ("teff", "logg"):
                injected[:, i] = curves[i](*at)
    labels = truth + injected + noise
    failed = generator.random(total) < failed_fraction
    failed[2 * pairs + references :] = False
    labels[failed] = np.nan

    rows = np.arange(2 * pairs, 2 * pairs + references)
    survey = generator.integers(0, max(surveys, 1), references)
    unit = np.array([1000.0 if name == "teff" else 1.0 for name in names])
    zero_points = generator.normal(0, zero_point_spread, (max(surveys, 1), len(names)))
    zero_points = (zero_points - zero_points.mean(axis=0)) * unit
    reference_errors = np.tile([_REFERENCE_ERRORS.get(name, 0.04) for name in names], (references, 1))
    scale = np.where(survey == 0, survey_scale, -survey_scale)[:, None]
    reference_labels = (
        truth[rows]
        + scale * (truth[rows] - np.median(truth[rows], axis=0))
        + zero_points[survey]
        + generator.normal(size=reference_errors.shape) * np.hypot(reference_errors, reference_scatter * unit)
    )
    wrong = generator.random(references) < bad_references
    strangers = generator.permutation(rows)[: int(wrong.sum())]
    reference_labels[wrong] = truth[strangers] + generator.normal(0, 0.1, (wrong.sum(), len(names))) * unit
    inputs = {
        "pairs": np.stack([first, second], axis=1),
        "reference_rows": rows,
        "reference_labels": reference_labels,
        "reference_errors": reference_errors,
        "surveys": [f"survey_{number}" for number in survey],
    }
    return SimulatedCalibrators(names, labels, errors, truth, injected, inputs, chance, wrong, curves)
