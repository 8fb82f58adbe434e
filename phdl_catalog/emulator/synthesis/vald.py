"""Line lists of VALD, read by PySME, which knows all their variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phdl_catalog.emulator.synthesis.library import quiet_pysme
from phdl_catalog.emulator.synthesis.line_list import LineList
from phdl_catalog.errors import InputError


def read_vald(path: Path) -> LineList:
    """A list of VALD: "extract stellar", "extract all" or "extract element", short or long.

    Isotopic scaling must be on in the request, as it is by default: gf values then contain it.

    Raises
    ------
    InputError
        If the file is not whole, or has lines it should not have.
    SynthesisError
        If PySME is not installed.
    """
    with quiet_pysme():
        from pysme.linelist.vald import ValdError, ValdFile

        try:
            lines = ValdFile(str(path), medium="vac")
        except (ValdError, ValueError, IndexError, KeyError, AttributeError, TypeError, OSError) as error:
            raise InputError(
                f"{path.name} looks like a VALD line list but cannot be read ({error}); ask VALD for it "
                "again, as 'extract stellar', and do not edit it"
            ) from error
        columns = [
            np.asarray(lines[name], dtype=np.float64)
            for name in ("wlcent", "excit", "gflog", "gamrad", "gamqst", "gamvw")
        ]
        species = np.asarray(lines["species"], dtype=np.str_)
    return LineList.from_columns(path.name, species, *columns)
