"""A list of spectral lines, whatever file it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.emulator.synthesis.composition import SYMBOLS
from phdl_catalog.errors import InputError

#: Molecules by the atomic numbers of their atoms, and what the line-formation code calls them.
MOLECULES = {
    (1, 6): "CH", (1, 7): "NH", (1, 8): "OH", (1, 12): "MgH", (1, 13): "AlH", (1, 14): "SiH", (1, 20): "CaH",
    (1, 24): "CrH", (1, 26): "FeH", (6, 6): "C2", (6, 7): "CN", (6, 8): "CO", (8, 22): "TiO", (8, 23): "VO",
    (8, 40): "ZrO",
}  # fmt: skip


#: Columns of numbers of a line list.
_COLUMNS = 6


@dataclass(frozen=True)
class LineList:
    """Spectral lines in order of wavelength.

    Parameters
    ----------
    species : (N,) str
        Element or molecule and ionisation stage, ``Fe 1`` for neutral iron, ``CN 1`` for a molecule.
    wavelength : (N,) float64
        In vacuum [Angstrom].
    excitation : (N,) float64
        Of the lower level [eV].
    log_gf : (N,) float64
        With the share of its isotope, where a line has one.
    gamma_rad, gamma_stark, gamma_vdw : (N,) float64
        log10 of damping constants: radiative [1/s], per electron and per hydrogen atom at 10,000 K [cm^3/s];
        0 where unknown (the line-formation code then has approximations).  A positive `gamma_vdw` is the
        cross section and, after the point, the exponent of Anstee, Barklem & O'Mara.  Of hydrogen lines the
        last two are the principal quantum numbers.
    source : str
        Files it came from.
    """

    species: NDArray[np.str_]
    wavelength: NDArray[np.float64]
    excitation: NDArray[np.float64]
    log_gf: NDArray[np.float64]
    gamma_rad: NDArray[np.float64]
    gamma_stark: NDArray[np.float64]
    gamma_vdw: NDArray[np.float64]
    source: str

    @classmethod
    def from_columns(
        cls, source: str, species: Sequence[str] | NDArray[np.str_], *columns: ArrayLike
    ) -> LineList:
        """Lines from columns in any order of wavelength.

        Parameters
        ----------
        source : str
            Where they come from.
        species : (N,) sequence of str
        *columns : (N,) array_like
            Wavelength, excitation, log gf and the three damping constants, as the attributes have them.

        Raises
        ------
        InputError
            If the columns differ in length or hold values no line can have.
        """
        names = np.asarray(species, dtype=np.str_).reshape(-1)
        values = [np.asarray(column, dtype=np.float64).reshape(-1) for column in columns]
        if len(values) != _COLUMNS or any(column.shape != names.shape for column in values):
            sizes = [len(names), *map(len, values)]
            raise InputError(f"{source}: columns of {sizes} entries make no line list, which has seven")
        good = np.all([np.isfinite(column) for column in values], axis=0)
        good &= (values[0] > 0) & (values[1] >= 0)
        if not good.all():
            first = int(np.argmin(good))
            raise InputError(
                f"{source}: line {first + 1} ({names[first]}, {values[0][first]} A) has an impossible value"
            )
        order = np.argsort(values[0], kind="stable")
        wavelength, excitation, log_gf, rad, stark, vdw = (column[order] for column in values)
        return cls(names[order], wavelength, excitation, log_gf, rad, stark, vdw, source)

    def __len__(self) -> int:
        return len(self.species)

    def select(self, rows: NDArray[np.bool_]) -> LineList:
        """The lines for which `rows` (N,) is true."""
        return LineList(
            self.species[rows],
            self.wavelength[rows],
            self.excitation[rows],
            self.log_gf[rows],
            self.gamma_rad[rows],
            self.gamma_stark[rows],
            self.gamma_vdw[rows],
            self.source,
        )

    @property
    def is_hydrogen(self) -> NDArray[np.bool_]:
        """(N,) whether a line is one of atomic hydrogen."""
        return self.species == "H 1"


def merge(lists: Sequence[LineList]) -> LineList:
    """Several lists as one; what is in two of them is there twice, so they must not overlap."""
    if not lists:
        raise InputError("no line list was given")
    return LineList.from_columns(
        ", ".join(lines.source for lines in lists),
        np.concatenate([lines.species for lines in lists]),
        *(
            np.concatenate([getattr(lines, name) for lines in lists])
            for name in ("wavelength", "excitation", "log_gf", "gamma_rad", "gamma_stark", "gamma_vdw")
        ),
    )


def species_name(atomic_numbers: Sequence[int], stage: int) -> str | None:
    """Name of a species, or None if the line-formation code does not know it.

    Parameters
    ----------
    atomic_numbers : sequence of int
        One for an atom, two for a diatomic molecule.
    stage : int
        1 for neutral.
    """
    if len(atomic_numbers) == 1:
        number = atomic_numbers[0]
        return f"{SYMBOLS[number - 1]} {stage}" if 1 <= number <= len(SYMBOLS) else None
    molecule = MOLECULES.get((min(atomic_numbers), max(atomic_numbers)))
    return f"{molecule} {stage}" if molecule else None
