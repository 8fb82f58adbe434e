"""The populations by which labels are compared: by gravity, and by metallicity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.directions import POPULATIONS

Floats = NDArray[np.float64]

#: Lower limits of [Fe/H].
METALLICITIES = {"[Fe/H] > 0": 0.0, "-0.5 to 0": -0.5, "-1 to -0.5": -1.0, "[Fe/H] < -1": -np.inf}


def populations(logg: Floats, fe_h: Floats) -> dict[str, NDArray[np.bool_]]:
    """Which of N stars are in each population: all; dwarfs, subgiants, giants; ranges of [Fe/H].

    Parameters
    ----------
    logg, fe_h : (N,) arrays
        Raw labels; a star where one is NaN is in none of its populations.
    """
    found = {"all": np.ones(len(logg), dtype=bool)}
    for values, limits in ((logg, POPULATIONS), (fe_h, METALLICITIES)):
        upper = np.inf
        for name, lower in limits.items():
            found[name] = (values >= lower) & (values < upper)
            upper = lower
    return found
