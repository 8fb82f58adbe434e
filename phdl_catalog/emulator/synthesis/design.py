"""Which stars a grid is made of: a scrambled Sobol sequence through three populations of stars.

Star number i is always the same, however many there are, so a grid may be extended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import qmc

from phdl_catalog.emulator.region import CARBON_STARS_BELOW
from phdl_catalog.emulator.synthesis.composition import SOLAR
from phdl_catalog.errors import InputError

#: Elements whose abundances are labels.
DEFAULT_ELEMENTS = (
    "C", "N", "O", "Na", "Mg", "Al", "Si", "S", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Co", "Ni",
    "Cu", "Zn", "Sr", "Y", "Zr", "Ba", "La", "Ce", "Nd", "Sm", "Eu",
)  # fmt: skip

#: Labels of the atmosphere, in order, before the abundances.
ATMOSPHERE_LABELS = ("teff", "logg", "v_micro", "fe_h")

#: [X/Fe] of an element varies in this range [dex] ...
ABUNDANCE_RANGE = (-0.5, 0.5)
#: ... but for those that stars make, burn or mix more: carbon, nitrogen, the heavy elements.
WIDER = {"C": (-0.6, 0.6), "N": (-0.5, 0.9)} | dict.fromkeys(
    ("Sr", "Y", "Zr", "Ba", "La", "Ce", "Nd", "Sm", "Eu"), (-0.6, 0.7)
)
#: Alpha elements vary by themselves in the first range, around a shift in the second that they share.
ALPHA_ELEMENTS = ("O", "Mg", "Si", "S", "Ca", "Ti")
ALPHA_OWN = (-0.25, 0.25)
ALPHA_SHIFT = (-0.1, 0.4)

#: [Fe/H]: three quarters in the first range, one quarter in the second.
FE_H_RICH = (-1.2, 0.5)
FE_H_POOR = (-2.5, -1.2)
SHARE_RICH = 0.75

#: Half the range of the microturbulence around its relation, and its least value [km/s].
V_MICRO_SPREAD = 0.4
V_MICRO_LEAST = 0.3

#: Cool stars with more carbon than this for their oxygen are carbon stars: C/O > 0.9.
CARBON_OVER_OXYGEN = 0.9

#: Steps of the forward differences, in label units: large against the precision of a spectrum, small against
#: the scale on which lines saturate.
STEPS = {"teff": 50.0, "logg": 0.1, "v_micro": 0.2}
ABUNDANCE_STEP = 0.1

Range = tuple[float, float]


def v_micro_relation(teff: ArrayLike, logg: ArrayLike) -> NDArray[np.float64]:
    """Microturbulence of a usual star [km/s]: about 1.1 in the Sun, 1.7 in giants, more in hotter stars."""
    warmth, gravity = np.asarray(teff) - 5500.0, np.asarray(logg) - 4.0
    return np.asarray(1.13 + 2.5e-4 * warmth - 0.18 * gravity)


def _subgiant_logg(teff: float) -> Range:
    return 3.2, 4.45


def _dwarf_logg(teff: float) -> Range:
    # Hotter than the turn-off of old stars, a dwarf may have left the zero-age main sequence.
    return (3.9 if teff > 5500.0 else 4.2), 5.0


def _giant_logg(teff: float) -> Range:
    branch = 2.5 + 1.53e-3 * (teff - 5000.0)
    return max(0.5, branch - 0.7), branch + 0.7


@dataclass(frozen=True)
class Population:
    """Stars of one kind: their range of teff [K], and of logg at a teff."""

    name: str
    teff: Range
    logg: Callable[[float], Range]


SUBGIANTS = Population("subgiants and turn-off stars", (4700.0, 6800.0), _subgiant_logg)
DWARFS = Population("dwarfs", (4200.0, 7000.0), _dwarf_logg)
GIANTS = Population("giants", (4000.0, 5500.0), _giant_logg)

#: Stars come from these in turn: half of them subgiants, a quarter dwarfs, a quarter giants.
TURNS = (SUBGIANTS, DWARFS, SUBGIANTS, GIANTS)


def _between(share: float, limits: Range) -> float:
    return limits[0] + share * (limits[1] - limits[0])


@dataclass(frozen=True)
class LabelDesign:
    """The label vectors of a grid's stars.

    Parameters
    ----------
    seed : int
        Of the scrambling: another seed gives other stars.
    elements : sequence of str
        Chemical symbols whose abundances are labels; iron is one anyway.
    """

    seed: int = 0
    elements: Sequence[str] = DEFAULT_ELEMENTS

    def __post_init__(self) -> None:
        unknown = [symbol for symbol in self.elements if symbol not in SOLAR or symbol in ("H", "He", "Fe")]
        if unknown or len(set(self.elements)) != len(self.elements):
            raise InputError(
                f"elements must be different symbols other than H, He and Fe, not {', '.join(self.elements)}"
            )

    @property
    def label_names(self) -> tuple[str, ...]:
        """teff, logg, v_micro, fe_h, then ``<x>_fe`` of each element."""
        return (*ATMOSPHERE_LABELS, *(f"{symbol.lower()}_fe" for symbol in self.elements))

    @property
    def steps(self) -> NDArray[np.float64]:
        """(L,) steps of the forward differences, in label units."""
        return np.array([STEPS.get(name, ABUNDANCE_STEP) for name in self.label_names])

    def stars(self, number: int) -> NDArray[np.float64]:
        """Label vectors (number, L) of the first stars, in label units."""
        return self._sequence(number, stream=0)

    def reference_stars(self, number: int) -> NDArray[np.float64]:
        """Label vectors (number, L) of stars for differential spectra: others than `stars`.

        They are in the same ranges, and stay there after a step upwards.
        """
        labels = self._sequence(number, stream=1)
        upper = np.array([7000.0, 5.0, np.inf, FE_H_RICH[1]])
        labels[:, :4] = np.minimum(labels[:, :4], upper - self.steps[:4])
        return labels

    def _sequence(self, number: int, stream: int) -> NDArray[np.float64]:
        if number < 0:
            raise InputError(f"the number of stars must not be negative, but it is {number}")
        result = np.empty((number, len(self.label_names)))
        for turn in range(len(TURNS)):
            wanted = len(range(turn, number, len(TURNS)))
            if wanted:
                result[turn :: len(TURNS)] = self._of_turn(turn, wanted, stream)
        return result

    def _of_turn(self, turn: int, number: int, stream: int) -> NDArray[np.float64]:
        """The first stars of one turn: those points of its own sequence that are no carbon stars."""
        power = int(np.ceil(np.log2(number))) + 1
        while True:
            generator = np.random.default_rng([self.seed, stream, turn])
            sobol = qmc.Sobol(len(ATMOSPHERE_LABELS) + 1 + len(self.elements), scramble=True, seed=generator)
            labels = np.array([self._star(TURNS[turn], point) for point in sobol.random_base2(power)])
            accepted = labels[~self._is_carbon_star(labels)]
            if len(accepted) >= number:
                return accepted[:number]
            power += 1

    def _star(self, population: Population, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Labels (L,) of a point of the unit cube."""
        teff = _between(point[0], population.teff)
        logg = _between(point[1], population.logg(teff))
        rich = point[2] < SHARE_RICH
        share = point[2] / SHARE_RICH if rich else (point[2] - SHARE_RICH) / (1.0 - SHARE_RICH)
        fe_h = _between(share, FE_H_RICH if rich else FE_H_POOR)
        usual = float(v_micro_relation(teff, logg))
        v_micro = max(V_MICRO_LEAST, _between(point[3], (usual - V_MICRO_SPREAD, usual + V_MICRO_SPREAD)))
        shift = _between(point[4], ALPHA_SHIFT)
        ratios = [
            shift + _between(u, ALPHA_OWN) if symbol in ALPHA_ELEMENTS
            else _between(u, WIDER.get(symbol, ABUNDANCE_RANGE))
            for symbol, u in zip(self.elements, point[5:], strict=True)
        ]  # fmt: skip
        return np.array([teff, logg, v_micro, fe_h, *ratios])

    def _is_carbon_star(self, labels: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) whether stars are cool and have too much carbon for their oxygen."""
        names = self.label_names
        ratio = np.full(len(labels), SOLAR["C"] - SOLAR["O"])
        if "c_fe" in names:
            ratio += labels[:, names.index("c_fe")]
        if "o_fe" in names:
            ratio -= labels[:, names.index("o_fe")]
        return (labels[:, 0] < CARBON_STARS_BELOW) & (10.0**ratio > CARBON_OVER_OXYGEN)
