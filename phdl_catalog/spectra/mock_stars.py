"""A population of stars with known labels: subgiants above all, some in wide binaries, some well studied.

The chemistry is a caricature of the solar neighbourhood: a thin disc, a thick disc rich in alpha elements and
a little halo; each element follows iron, the alpha elements or the s-process in its own measure, with a
scatter of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError

#: Labels without which there is no star.
_NEEDED = ("teff", "logg", "fe_h")

#: Share of a label's range in the model's grid that is kept free at either end.
_MARGIN = 0.02

#: Share of thin disc, thick disc and halo; mean and scatter of [Fe/H]; mean alpha enhancement [dex].
_POPULATIONS = ((0.72, -0.12, 0.20, 0.03), (0.22, -0.50, 0.22, 0.22), (0.06, -1.20, 0.25, 0.32))

# What each [X/Fe] follows: the alpha enhancement, the s-process enhancement, and [Fe/H] itself.
_TRACKS: dict[str, tuple[float, float, float]] = {
    "c_fe": (0.4, 0.0, -0.05), "n_fe": (0.0, 0.0, 0.10), "o_fe": (1.1, 0.0, -0.05), "na_fe": (0.2, 0.0, 0.08),
    "mg_fe": (1.0, 0.0, 0.0), "al_fe": (0.7, 0.0, 0.0), "si_fe": (0.7, 0.0, 0.0), "s_fe": (0.7, 0.0, 0.0),
    "k_fe": (0.4, 0.0, 0.0), "ca_fe": (0.6, 0.0, 0.0), "sc_fe": (0.4, 0.0, 0.0), "ti_fe": (0.7, 0.0, 0.0),
    "v_fe": (0.3, 0.0, 0.0), "cr_fe": (0.0, 0.0, 0.0), "mn_fe": (-0.2, 0.0, 0.18), "co_fe": (0.3, 0.0, 0.0),
    "ni_fe": (0.05, 0.0, 0.02), "cu_fe": (0.1, 0.0, 0.20), "zn_fe": (0.4, 0.0, 0.0),
    "sr_fe": (0.0, 1.0, 0.0), "y_fe": (-0.1, 1.0, 0.0), "zr_fe": (0.1, 0.8, 0.0), "ba_fe": (-0.1, 1.1, 0.0),
    "la_fe": (0.0, 0.9, 0.0), "ce_fe": (0.0, 0.9, 0.0), "nd_fe": (0.2, 0.7, 0.0), "sm_fe": (0.5, 0.4, 0.0),
    "eu_fe": (0.8, 0.1, 0.0),
}  # fmt: skip

#: Scatter of each element around its track, and of the s-process enhancement from star to star [dex].
_ELEMENT_SCATTER, _S_PROCESS_SCATTER = 0.03, 0.10


class Stage(StrEnum):
    """Where a star is in its life."""

    DWARF = "dwarf"
    SUBGIANT = "subgiant"
    GIANT = "giant"


@dataclass(frozen=True)
class Stars:
    """Stars and their true labels.

    Parameters
    ----------
    label_names : tuple of str
        Names of the labels, length L.
    labels : (N, L) float64
        True labels.
    stages : (N,) str
        `Stage` of each star.
    pairs : (M, 2) int64
        Rows of the two stars of each wide binary; born together, of one composition.
    references : (K,) int64
        Rows of the stars that a high-resolution survey knows.
    """

    label_names: tuple[str, ...]
    labels: NDArray[np.float64]
    stages: NDArray[np.str_]
    pairs: NDArray[np.int64]
    references: NDArray[np.int64]

    def column(self, name: str) -> NDArray[np.float64]:
        """(N,) values of one label."""
        return self.labels[:, self.label_names.index(name)]


@dataclass(frozen=True)
class Census:
    """How many stars of which kind.

    Parameters
    ----------
    stars : int
        All stars, those in pairs included.
    subgiant_share : float
        Share that are subgiants; of the rest two thirds are dwarfs, one third giants.
    pairs : int
        Wide binaries.
    references : int
        Stars with high-resolution labels; none of them is in a pair.
    """

    stars: int = 400
    subgiant_share: float = 0.66
    pairs: int = 40
    references: int = 40

    def __post_init__(self) -> None:
        if min(self.stars, self.pairs, self.references) < 0 or not 0 <= self.subgiant_share <= 1:
            raise InputError(f"a census cannot have negative counts or shares: {self}")
        if 2 * self.pairs + self.references > self.stars:
            raise InputError(
                f"{self.pairs} pairs and {self.references} references need "
                f"{2 * self.pairs + self.references} stars, but there are {self.stars}"
            )


def draw_stars(
    label_names: Sequence[str], label_range: NDArray[np.float64], census: Census, rng: np.random.Generator
) -> Stars:
    """Draw a population inside the range of a model.

    Parameters
    ----------
    label_names : sequence of str, length L
        Labels of the model; those this module does not know are drawn around zero.
    label_range : (L, 2) ndarray
        Lowest and highest value of each label.
    census : Census
        How many of what.
    rng : numpy.random.Generator
        Source of chance.

    Raises
    ------
    InputError
        If the model has no teff, logg or fe_h, or the shapes do not agree.
    """
    names = tuple(label_names)
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise InputError(f"stars need the labels {', '.join(_NEEDED)}; the model has no {', '.join(missing)}")
    bounds = np.asarray(label_range, dtype=np.float64)
    if bounds.shape != (len(names), 2):
        raise InputError(f"label_range must have shape ({len(names)}, 2), not {bounds.shape}")
    stages = _stages(census, rng)
    values = _chemistry(names, census.stars, rng)
    pairs = np.arange(2 * census.pairs, dtype=np.int64).reshape(-1, 2)
    for name in values:
        if name not in ("teff", "logg", "v_micro"):
            values[name][pairs[:, 1]] = values[name][pairs[:, 0]]
    values["teff"], values["logg"] = _stellar(stages, values["fe_h"], rng)
    labels = np.column_stack([values.get(name, np.zeros(census.stars)) for name in names])
    margin = _MARGIN * np.diff(bounds, axis=1)[:, 0]
    labels = np.clip(labels, bounds[:, 0] + margin, bounds[:, 1] - margin)
    if "v_micro" in names:
        column = names.index("v_micro")
        labels[:, column] = np.clip(
            microturbulence(values["teff"], values["logg"], values["fe_h"]),
            bounds[column, 0] + margin[column],
            bounds[column, 1] - margin[column],
        )
    singles = np.arange(2 * census.pairs, census.stars)
    references = np.sort(rng.choice(singles, census.references, replace=False)).astype(np.int64)
    return Stars(names, labels, stages, pairs, references)


def microturbulence(
    teff: NDArray[np.float64], logg: NDArray[np.float64], fe_h: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Microturbulence of a star [km/s]: Ramirez, Allende Prieto & Lambert 2013, ApJ 764, 78, section 2."""
    return 1.163 + 7.808e-4 * (teff - 5800.0) - 0.494 * (logg - 4.30) - 0.050 * fe_h


def _stages(census: Census, rng: np.random.Generator) -> NDArray[np.str_]:
    """(N,) stages; at least one star of each pair is a subgiant, as one wants for this catalogue."""
    subgiants = int(np.ceil(census.subgiant_share * census.stars))
    forced = np.arange(census.pairs) * 2
    stages = np.full(census.stars, Stage.DWARF.value, dtype="U8")
    others = rng.permutation(np.setdiff1d(np.arange(census.stars), forced))
    chosen = np.concatenate([forced, others])[: max(subgiants, 0)]
    stages[chosen] = Stage.SUBGIANT.value
    # A giant in a wide pair is rare, so giants come from the stars that are single.
    single = np.flatnonzero((stages == Stage.DWARF.value) & (np.arange(census.stars) >= 2 * census.pairs))
    stages[single[: (census.stars - subgiants) // 3]] = Stage.GIANT.value
    return stages


def _stellar(
    stages: NDArray[np.str_], fe_h: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """teff [K] and logg of each star: strips of the Hertzsprung-Russell diagram, not isochrones."""
    size = stages.size
    chance = rng.random(size)
    noise = rng.standard_normal(size)
    subgiant, giant = stages == Stage.SUBGIANT.value, stages == Stage.GIANT.value
    teff = 4700.0 + 1600.0 * chance
    logg = 4.62 - 0.16 * (teff - 4700.0) / 1000.0 + 0.04 * noise
    teff[subgiant] = 4950.0 + 1350.0 * chance[subgiant] - 250.0 * np.clip(fe_h[subgiant], -1.5, 0.4)
    logg[subgiant] = 3.60 + 0.30 * chance[subgiant] + 0.06 * noise[subgiant]
    logg[giant] = 1.9 + 1.4 * chance[giant]
    teff[giant] = 4850.0 + 420.0 * (logg[giant] - 2.6) - 250.0 * fe_h[giant] + 50.0 * noise[giant]
    return teff, logg


def _chemistry(names: Sequence[str], size: int, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Composition of each star: fe_h and [X/Fe], by name."""
    shares = np.array([row[0] for row in _POPULATIONS])
    member = rng.choice(len(_POPULATIONS), size, p=shares / shares.sum())
    mean, scatter, enhancement = (np.array([row[i] for row in _POPULATIONS])[member] for i in (1, 2, 3))
    fe_h = mean + scatter * rng.standard_normal(size)
    alpha = enhancement + 0.03 * rng.standard_normal(size)
    s_process = _S_PROCESS_SCATTER * rng.standard_normal(size)
    values = {"fe_h": fe_h}
    for name in names:
        if name in ("teff", "logg", "v_micro", "fe_h"):
            continue
        of_alpha, of_s_process, of_iron = _TRACKS.get(name, (0.0, 0.0, 0.0))
        scattered = _ELEMENT_SCATTER * rng.standard_normal(size)
        values[name] = of_alpha * alpha + of_s_process * s_process + of_iron * fe_h + scattered
    return values
