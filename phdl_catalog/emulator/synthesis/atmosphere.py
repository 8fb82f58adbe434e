"""Model atmospheres: decks of ATLAS9, and what lies between them.

A deck is the output of ATLAS9 from the line ``TEFF`` on; files of one deck or of many are read, as the sites
of Kurucz and Castelli offer them (``ap00k2odfnew.dat``, ``am05t5750g35k2.dat``, ...).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import ConflictError, InputError, NotFoundError

BOLTZMANN = 1.380649e-16  # [erg/K]

#: Columns of a layer that are used, and their places.
_COLUMNS = {"column_mass": 0, "temperature": 1, "pressure": 2, "electron_density": 3}

_HEAD = re.compile(r"^\s*TEFF\s+([\d.]+)\s+GRAVITY\s+(-?[\d.]+)", re.MULTILINE)
_SCALE = re.compile(r"ABUNDANCE\s+SCALE\s+([\d.]+(?:E[+-]?\d+)?)")
_TABLE = re.compile(r"^READ\s+DECK6?\s+(\d+).*$", re.MULTILINE)
#: Numbers printed without a blank between them end with their exponent, which has two digits.
_NUMBER = re.compile(r"[+-]?\d+\.?\d*(?:[EeDd][+-]\d{2})?")

_SUFFIXES = (".dat", ".mod", ".atm", ".krz", ".txt")

#: What has to be found where, for those who have no atmospheres yet.
WHERE_TO_FIND = (
    "decks of ATLAS9 are found at kurucz.harvard.edu/grids.html (folders gridp00, gridm05, ...; files "
    "ap00k2.dat, am05k2.dat, ...) and at wwwuser.oats.inaf.it/fiorella.castelli/grids.html (gridp00k2odfnew, "
    "...); put one file or folder for each [M/H] into one folder, all of one microturbulence and without "
    "enhanced alpha elements"
)


@dataclass(frozen=True)
class Atmosphere:
    """The structure of a plane-parallel atmosphere, outside in.

    Parameters
    ----------
    teff : float
        [K]
    logg : float
        [dex(cm s^-2)]
    m_h : float
        Metallicity of the opacities [dex].
    column_mass : (D,) float64
        Mass above the layer [g cm^-2].
    temperature : (D,) float64
        [K]
    pressure : (D,) float64
        Of the gas [dyn cm^-2].
    electron_density : (D,) float64
        [cm^-3]
    source : str
        Where it comes from.
    """

    teff: float
    logg: float
    m_h: float
    column_mass: NDArray[np.float64]
    temperature: NDArray[np.float64]
    pressure: NDArray[np.float64]
    electron_density: NDArray[np.float64]
    source: str

    @property
    def atom_density(self) -> NDArray[np.float64]:
        """(D,) number density of all particles but electrons [cm^-3]."""
        return self.pressure / (BOLTZMANN * self.temperature) - self.electron_density


def _numbers(line: str) -> list[float]:
    return [float(word.upper().replace("D", "E")) for word in _NUMBER.findall(line)]


def _parse(text: str, source: str) -> Atmosphere:
    head, table = _HEAD.search(text), _TABLE.search(text)
    if head is None or table is None:
        raise InputError(f"{source}: no deck of ATLAS9 begins with TEFF ... GRAVITY and has READ DECK6")
    where = f"{source} (Teff {head[1]}, log g {head[2]})"
    layers = [_numbers(line) for line in text[table.end() :].splitlines()[1 : 1 + int(table[1])]]
    if len(layers) != int(table[1]) or any(len(layer) < 4 for layer in layers):
        raise InputError(f"{where}: {table[1]} layers are announced but not there; the file is cut off")
    values = np.array([layer[:4] for layer in layers])
    if not (np.all(np.isfinite(values)) and np.all(values > 0) and np.all(np.diff(values[:, 0]) > 0)):
        raise InputError(f"{where}: layers must be positive, and their column mass must grow")
    scale = _SCALE.search(text)
    m_h = round(float(np.log10(float(scale[1]))), 2) if scale else 0.0
    return Atmosphere(
        teff=float(head[1]),
        logg=float(head[2]),
        m_h=m_h + 0.0,  # no negative zero
        **{name: values[:, place] for name, place in _COLUMNS.items()},
        source=source,
    )


def read_decks(path: Path) -> list[Atmosphere]:
    """All decks of a file.

    Raises
    ------
    InputError
        If the file holds none, or a broken one; the message names it.
    """
    text = path.read_text(encoding="latin-1")
    starts = [match.start() for match in _HEAD.finditer(text)]
    if not starts:
        raise InputError(f"{path.name} holds no deck of ATLAS9: none of its lines is TEFF ... GRAVITY ...")
    stops = [*starts[1:], len(text)]
    return [_parse(text[start:stop], path.name) for start, stop in zip(starts, stops, strict=True)]


def deck_files(folder: Path) -> list[Path]:
    """The files below a folder that should hold decks.

    Raises
    ------
    NotFoundError
        If there is no such folder, or no such file in it; the message says where decks are found.
    """
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder of atmospheres {folder}; {WHERE_TO_FIND}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise NotFoundError(f"there are no files {', '.join(_SUFFIXES)} in {folder}; {WHERE_TO_FIND}")
    return files


class AtmosphereGrid:
    """Decks on a grid of teff, logg and [M/H], and atmospheres between them.

    Layers of the same number are at the same optical depth in all decks; between eight decks their logarithms
    are interpolated linearly in the three labels.

    Parameters
    ----------
    decks : sequence of Atmosphere
        In any order; not every combination need be there.

    Raises
    ------
    InputError
        If decks differ in their number of layers.
    ConflictError
        If two decks have the same teff, logg and [M/H].
    """

    def __init__(self, decks: Sequence[Atmosphere]) -> None:
        if not decks:
            raise InputError(f"there are no decks; {WHERE_TO_FIND}")
        self._decks: dict[tuple[float, float, float], Atmosphere] = {}
        for deck in decks:
            key = (deck.teff, deck.logg, deck.m_h)
            if key in self._decks:
                raise ConflictError(
                    f"{self._decks[key].source} and {deck.source} both hold Teff {deck.teff:g}, "
                    f"log g {deck.logg:g}, [M/H] {deck.m_h:g}: keep decks of one "
                    "microturbulence and one alpha enhancement"
                )
            if len(deck.temperature) != len(decks[0].temperature):
                raise InputError(
                    f"{deck.source} has {len(deck.temperature)} layers and {decks[0].source} has "
                    f"{len(decks[0].temperature)}: decks must be of one kind"
                )
            self._decks[key] = deck
        self._axes = [np.unique([key[axis] for key in self._decks]) for axis in range(3)]

    @classmethod
    def from_folder(cls, folder: str | Path) -> AtmosphereGrid:
        """All decks below a folder, in files named .dat, .mod, .atm, .krz or .txt.

        Raises
        ------
        NotFoundError
            If there is no such folder, or no such file in it; the message says where decks are found.
        InputError, ConflictError
            If a file holds no deck, or decks do not fit together.
        """
        return cls([deck for path in deck_files(Path(folder)) for deck in read_decks(path)])

    def __len__(self) -> int:
        return len(self._decks)

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Least and greatest teff, logg and m_h of the decks."""
        return {
            name: (float(axis[0]), float(axis[-1]))
            for name, axis in zip(("teff", "logg", "m_h"), self._axes, strict=True)
        }

    def missing(self, teff: float, logg: float, m_h: float) -> list[tuple[float, float, float]]:
        """Decks (teff, logg, m_h) that an atmosphere needs and that are absent; if outside, itself."""
        point = (teff, logg, m_h)
        try:
            return [key for key, _ in self._corners(point) if key not in self._decks]
        except InputError:
            return [point]

    def at(self, teff: float, logg: float, m_h: float) -> Atmosphere:
        """The atmosphere of given labels.

        Raises
        ------
        InputError
            If the decks around it are not there: nothing is extrapolated.
        """
        corners = list(self._corners((teff, logg, m_h)))
        absent = [key for key, _ in corners if key not in self._decks]
        if absent:
            named = "; ".join(f"Teff {t:g}, log g {g:g}, [M/H] {m:g}" for t, g, m in absent[:3])
            raise InputError(
                f"an atmosphere of Teff {teff:g}, log g {logg:g}, [M/H] {m_h:g} needs decks that are not "
                f"there: {named}"
            )
        layers = {
            name: np.exp(sum(weight * np.log(getattr(self._decks[key], name)) for key, weight in corners))
            for name in _COLUMNS
        }
        return Atmosphere(teff, logg, m_h, **layers, source=f"between {len(corners)} decks")

    def _corners(
        self, point: tuple[float, float, float]
    ) -> Iterator[tuple[tuple[float, float, float], float]]:
        """The decks around a point and their weights; those of no weight are left out."""
        brackets = []
        for name, axis, value in zip(("teff", "logg", "m_h"), self._axes, point, strict=True):
            if not axis[0] - 1e-6 <= value <= axis[-1] + 1e-6:
                raise InputError(
                    f"{name} = {value:g} is outside the decks, which reach from {axis[0]:g} to {axis[-1]:g}"
                )
            above = int(np.clip(np.searchsorted(axis, value), 1, max(len(axis) - 1, 1)))
            if len(axis) == 1:
                brackets.append([(float(axis[0]), 1.0)])
                continue
            low, high = float(axis[above - 1]), float(axis[above])
            share = min(max((value - low) / (high - low), 0.0), 1.0)
            brackets.append([(node, w) for node, w in ((low, 1.0 - share), (high, share)) if w > 1e-9])
        for (t, wt), (g, wg), (m, wm) in product(*brackets):
            yield (t, g, m), wt * wg * wm
