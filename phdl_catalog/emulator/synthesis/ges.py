"""The line list of the Gaia-ESO survey: Heiter et al. (2021, A&A 645, A106).

Read from FITS or VOTable: the table ``geslines`` of VizieR's J/A+A/645/A106, or the survey's own file.
PySME reads neither the first nor, with a present numpy, the second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.synthesis.air import to_vacuum
from phdl_catalog.emulator.synthesis.composition import SYMBOLS
from phdl_catalog.emulator.synthesis.isotopes import isotope_fraction
from phdl_catalog.emulator.synthesis.line_list import LineList, species_name
from phdl_catalog.errors import InputError

#: Names of the columns, small letters and digits only: VizieR's, then those of the survey's files.
_NAMES = {
    "element": ("element", "el", "name"),
    "stage": ("ion",),
    "isotope": ("isotope", "iso"),
    "wavelength": ("lambda",),
    "log_gf": ("loggf",),
    "excitation": ("elow",),
    "gamma_rad": ("raddamp",),
    "gamma_stark": ("stadamp", "starkdamp"),
    "gamma_vdw": ("vdwdamp",),
}


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _columns(table: Any, path: Path) -> dict[str, Any]:
    found = {_plain(name): name for name in table.colnames}
    columns = {}
    for wanted, spellings in _NAMES.items():
        present = [found[spelling] for spelling in spellings if spelling in found]
        if not present and wanted != "isotope":
            raise InputError(
                f"{path.name} has no column '{spellings[0]}' of the Gaia-ESO line list, but "
                f"{table.colnames}; take the table geslines of J/A+A/645/A106 as FITS"
            )
        columns[wanted] = table[present[0]] if present else None
    return columns


def _numbers(column: Any) -> NDArray[np.float64]:
    """A column of numbers, 0 where it has none."""
    return np.nan_to_num(np.ma.filled(np.ma.asarray(column, dtype=np.float64), 0.0))


def _words(value: Any) -> list[str]:
    parts = [value] if isinstance(value, (str, bytes)) else list(np.atleast_1d(np.asarray(value)))
    words = [part.decode() if isinstance(part, bytes) else str(part) for part in parts]
    return [word.strip() for word in words if word.strip() not in ("", "--", "N/A")]


def read_ges(path: Path) -> LineList:
    """The list as a table; wavelengths in Angstrom, in air; isotopes are scaled by their terrestrial shares.

    Raises
    ------
    InputError
        If columns are missing or hold something else.
    """
    from astropy.table import Table

    try:
        table = Table.read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read as a table: {error}") from error
    columns = _columns(table, path)
    stages = _numbers(columns["stage"]).astype(int)
    isotopes = columns["isotope"]
    species, shares = [], []
    for row in range(len(table)):
        symbols = _words(columns["element"][row])
        unknown = [symbol for symbol in symbols if symbol not in SYMBOLS]
        name = None
        if symbols and not unknown:
            name = species_name([SYMBOLS.index(symbol) + 1 for symbol in symbols], int(stages[row]))
        if name is None:
            raise InputError(
                f"{path.name}, row {row + 1}: the species {' '.join(symbols) or '(none)'} is not known "
                "to the line-formation code; remove its lines"
            )
        masses = [] if isotopes is None else np.atleast_1d(_numbers(isotopes[row])).astype(int).tolist()
        masses += [0] * (len(symbols) - len(masses))
        # The masses of an untested column may be padded with -1 or such: only positive ones mean something.
        shares.append(
            np.prod([isotope_fraction(s, max(m, 0)) for s, m in zip(symbols, masses, strict=False)])
        )
        species.append(name)
    return LineList.from_columns(
        path.name,
        species,
        to_vacuum(_numbers(columns["wavelength"])),
        _numbers(columns["excitation"]),
        _numbers(columns["log_gf"]) + np.log10(shares),
        *(_numbers(columns[name]) for name in ("gamma_rad", "gamma_stark", "gamma_vdw")),
    )
