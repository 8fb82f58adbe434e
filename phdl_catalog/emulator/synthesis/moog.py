"""Line lists in the format of MOOG, as linemake writes them."""

from __future__ import annotations

from pathlib import Path

from phdl_catalog.emulator.synthesis.air import to_vacuum
from phdl_catalog.emulator.synthesis.composition import SYMBOLS
from phdl_catalog.emulator.synthesis.isotopes import isotope_fraction
from phdl_catalog.emulator.synthesis.line_list import LineList, species_name
from phdl_catalog.errors import InputError

#: Seven fields of ten columns: wavelength, species, excitation, log gf, van der Waals, dissociation, width.
_WIDTH = 10


def _field(line: str, index: int) -> str:
    return line[index * _WIDTH : (index + 1) * _WIDTH].strip()


def parse_species(code: str) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """What a species of MOOG means.

    Parameters
    ----------
    code : str
        ``26.0`` neutral iron, ``26.1`` ionised; ``56.1137`` ionised barium 137; ``607.0`` CN; ``607.01214``
        CN of carbon 12 and nitrogen 14.

    Returns
    -------
    atoms : tuple of int
        Atomic numbers.
    stage : int
        1 for neutral.
    masses : tuple of int
        Mass number of each atom; 0 for the natural mixture.
    """
    whole, _, decimals = code.partition(".")
    stage, isotopes = int(decimals[:1] or 0) + 1, decimals[1:].rstrip()
    number = int(whole)
    if number < 100:
        return (number,), stage, (int(isotopes or 0),)
    atoms = (number // 100, number % 100)
    if not isotopes or int(isotopes) == 0:
        return atoms, stage, (0, 0)
    if len(isotopes) != 4:
        raise ValueError(f"the isotopes of {code} are not two numbers of two digits")
    return atoms, stage, (int(isotopes[:2]), int(isotopes[2:]))


def read_moog(path: Path) -> LineList:
    """A list of MOOG or linemake: wavelengths in Angstrom, in air above 2000 Angstrom.

    Isotopes are scaled by their terrestrial shares, since MOOG itself does that later.  Of the damping
    constants the list has only the van der Waals one, and only where it is negative is it log10 gamma.

    Raises
    ------
    InputError
        If a line cannot be read; the message names it.
    """
    import numpy as np

    species, rows = [], []
    with path.open(encoding="latin-1") as stream:
        for number, line in enumerate(stream, start=1):
            text = line.rstrip("\n")
            if number == 1 or not text.strip():  # the first line is a title
                continue
            try:
                # A negative wavelength continues a blend, which means nothing in a synthesis.
                wavelength = abs(float(_field(text, 0)))
                atoms, stage, masses = parse_species(_field(text, 1))
                excitation, log_gf = float(_field(text, 2)), float(_field(text, 3))
                vdw = float(_field(text, 4) or 0.0)
            except ValueError as error:
                raise InputError(
                    f"{path.name}, line {number}: {error}; a list of MOOG has seven fields of ten columns: "
                    "wavelength, species, excitation, log gf, damping, dissociation energy, width"
                ) from error
            name = species_name(atoms, stage)
            if name is None:
                raise InputError(
                    f"{path.name}, line {number}: the species {_field(text, 1)} is not known to the "
                    "line-formation code; remove its lines"
                )
            share = 1.0
            for atom, mass in zip(atoms, masses, strict=True):
                share *= isotope_fraction(SYMBOLS[atom - 1], mass)
            species.append(name)
            rows.append((wavelength, excitation, log_gf + np.log10(share), min(vdw, 0.0)))
    if not rows:
        raise InputError(f"{path.name} holds no lines")
    table = np.array(rows)
    none = np.zeros(len(table))
    return LineList.from_columns(
        path.name, species, to_vacuum(table[:, 0]), table[:, 1], table[:, 2], none, none, table[:, 3]
    )
