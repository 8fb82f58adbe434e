"""What a star is made of: solar abundances, and those of a label vector.

The solar scale is that of Asplund, Grevesse, Sauval & Scott (2009, ARA&A 47, 481, table 1): the photosphere,
or meteorites where the photosphere has no value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.labels import is_abundance

#: Chemical symbols in order of atomic number, from hydrogen to einsteinium.
SYMBOLS = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar",
    "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br",
    "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te",
    "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm",
    "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn",
    "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es",
)  # fmt: skip

#: A(X) = log10(N_X / N_H) + 12 of the Sun; elements that are not listed are taken as absent.
SOLAR = {
    "H": 12.00, "He": 10.93, "Li": 1.05, "Be": 1.38, "B": 2.70, "C": 8.43, "N": 7.83, "O": 8.69,
    "F": 4.56, "Ne": 7.93, "Na": 6.24, "Mg": 7.60, "Al": 6.45, "Si": 7.51, "P": 5.41, "S": 7.12,
    "Cl": 5.50, "Ar": 6.40, "K": 5.03, "Ca": 6.34, "Sc": 3.15, "Ti": 4.95, "V": 3.93, "Cr": 5.64,
    "Mn": 5.43, "Fe": 7.50, "Co": 4.99, "Ni": 6.22, "Cu": 4.19, "Zn": 4.56, "Ga": 3.04, "Ge": 3.65,
    "As": 2.30, "Se": 3.34, "Br": 2.54, "Kr": 3.25, "Rb": 2.52, "Sr": 2.87, "Y": 2.21, "Zr": 2.58,
    "Nb": 1.46, "Mo": 1.88, "Ru": 1.75, "Rh": 0.91, "Pd": 1.57, "Ag": 0.94, "Cd": 1.71, "In": 0.80,
    "Sn": 2.04, "Sb": 1.01, "Te": 2.18, "I": 1.55, "Xe": 2.24, "Cs": 1.08, "Ba": 2.18, "La": 1.10,
    "Ce": 1.58, "Pr": 0.72, "Nd": 1.42, "Sm": 0.96, "Eu": 0.52, "Gd": 1.07, "Tb": 0.30, "Dy": 1.10,
    "Ho": 0.48, "Er": 0.92, "Tm": 0.10, "Yb": 0.84, "Lu": 0.10, "Hf": 0.85, "Ta": -0.12, "W": 0.85,
    "Re": 0.26, "Os": 1.40, "Ir": 1.38, "Pt": 1.62, "Au": 0.92, "Hg": 1.17, "Tl": 0.90, "Pb": 1.75,
    "Bi": 0.65, "Th": 0.02, "U": -0.54,
}  # fmt: skip

#: Where an element has no value [log10 of a number fraction].
ABSENT = -99.0


def abundances(labels: Mapping[str, float]) -> dict[str, float]:
    """Abundances A(X) of all elements: solar, plus fe_h (but for H and He), plus [X/Fe] where it is a label.

    Parameters
    ----------
    labels : mapping
        Label values by name; ``fe_h`` is needed, others than abundances are ignored.

    Returns
    -------
    dict
        A(X) by symbol [dex], hydrogen at 12.

    Raises
    ------
    InputError
        If ``fe_h`` is missing, or an element of a label has no solar abundance.
    """
    if "fe_h" not in labels:
        raise InputError("the labels have no fe_h, on which all abundances rest")
    fe_h = float(labels["fe_h"])
    result = {symbol: value + (0.0 if symbol in ("H", "He") else fe_h) for symbol, value in SOLAR.items()}
    for name, value in labels.items():
        if is_abundance(name):
            symbol = name.removesuffix("_fe").capitalize()
            if symbol not in result:
                raise InputError(f"there is no solar abundance of {symbol}, so {name} has no meaning")
            result[symbol] += float(value)
    return result


def number_fractions(composition: Mapping[str, float]) -> NDArray[np.float64]:
    """Abundances as the line-formation code takes them.

    Parameters
    ----------
    composition : mapping
        A(X) by symbol, as of `abundances`.

    Returns
    -------
    (99,) ndarray
        Number fractions of all nuclei: linear for hydrogen, log10 for the others, -99 for what is absent.
    """
    total = sum(10.0 ** (value - 12.0) for value in composition.values())
    fractions = np.full(len(SYMBOLS), ABSENT)
    for index, symbol in enumerate(SYMBOLS):
        if symbol in composition:
            fractions[index] = composition[symbol] - 12.0 - np.log10(total)
    fractions[0] = 10.0 ** fractions[0]
    return fractions
