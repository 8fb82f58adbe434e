"""Line lists of Kurucz: the fixed columns of gfall, gf0500.100, hyperfine lists and their like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from phdl_catalog.emulator.synthesis.air import to_vacuum
from phdl_catalog.emulator.synthesis.hydrogen import WAVENUMBER_OF_EV
from phdl_catalog.emulator.synthesis.line_list import LineList, species_name
from phdl_catalog.errors import InputError

#: Columns that matter, as half-open intervals, from the format Kurucz prints with his lists:
#: F11.4,F7.3,F6.2,F12.3,F5.1,1X,A10,F12.3,F5.1,1X,A10,3F6.2,A4,2I2,I3,F6.3,I3,F6.3,...
_COLUMNS = {
    "wavelength": (0, 11), "log_gf": (11, 18), "code": (18, 24), "first": (24, 36), "second": (52, 64),
    "gamma_rad": (80, 86), "gamma_stark": (86, 92), "gamma_vdw": (92, 98), "hyperfine": (109, 115),
    "isotope": (118, 124),
}  # fmt: skip


def read_kurucz(path: Path) -> LineList:
    """A list in the 160 columns of gfall; wavelengths in nm, in air above 200 nm.

    The shares of hyperfine components and isotopes are added to log gf.  Levels given as negative, the
    predicted ones, are used like the others.

    Raises
    ------
    InputError
        If a number cannot be read; the message names the line.
    """
    table = pd.read_fwf(
        path,
        colspecs=list(_COLUMNS.values()),
        names=list(_COLUMNS),
        header=None,
        dtype=str,
        encoding="latin-1",
    )
    table = table[table["wavelength"].notna()]
    numbers = {name: pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64) for name in _COLUMNS}
    for name in ("wavelength", "log_gf", "code", "first", "second"):
        wrong = np.flatnonzero(~np.isfinite(numbers[name]))
        if wrong.size:
            raise InputError(
                f"{path.name}, line {wrong[0] + 1}: no number where the {name.replace('_', ' ')} should be; "
                "is it a list in the 160 columns of gfall?"
            )
    elements = np.floor(numbers["code"] + 1e-6).astype(int)
    stages = np.rint((numbers["code"] - elements) * 100).astype(int) + 1
    names = [species_name([number], stage) for number, stage in zip(elements, stages, strict=True)]
    known = np.array([name is not None for name in names])
    if not known.all():
        first = int(np.argmin(known))
        raise InputError(
            f"{path.name}, line {first + 1}: the code {numbers['code'][first]:.2f} is no element; molecular "
            "lists of Kurucz have other columns and are not read, VALD has the same molecules"
        )
    angstrom = numbers["wavelength"] * 10.0
    damping = [np.nan_to_num(numbers[name]) for name in ("gamma_rad", "gamma_stark", "gamma_vdw")]
    return LineList.from_columns(
        path.name,
        np.array(names, dtype=np.str_),
        to_vacuum(angstrom),
        np.minimum(np.abs(numbers["first"]), np.abs(numbers["second"])) / WAVENUMBER_OF_EV,
        numbers["log_gf"] + np.nan_to_num(numbers["hyperfine"]) + np.nan_to_num(numbers["isotope"]),
        *damping,
    )
