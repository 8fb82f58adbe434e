"""Shares of the isotopes of an element, for lists whose gf values are those of the pure isotope.

Terrestrial number fractions, de Laeter et al. (2003, Pure Appl. Chem. 75, 683).
"""

from __future__ import annotations

from phdl_catalog.errors import InputError

#: Number fraction by mass number, by element.
FRACTIONS: dict[str, dict[int, float]] = {
    "H": {1: 0.999885, 2: 0.000115},
    "Li": {6: 0.0759, 7: 0.9241},
    "C": {12: 0.9893, 13: 0.0107},
    "N": {14: 0.99632, 15: 0.00368},
    "O": {16: 0.99757, 17: 0.00038, 18: 0.00205},
    "Mg": {24: 0.7899, 25: 0.1000, 26: 0.1101},
    "Si": {28: 0.92230, 29: 0.04683, 30: 0.03087},
    "K": {39: 0.932581, 40: 0.000117, 41: 0.067302},
    "Ca": {40: 0.96941, 42: 0.00647, 43: 0.00135, 44: 0.02086, 46: 0.00004, 48: 0.00187},
    "Ti": {46: 0.0825, 47: 0.0744, 48: 0.7372, 49: 0.0541, 50: 0.0518},
    "V": {50: 0.0025, 51: 0.9975},
    "Cr": {50: 0.04345, 52: 0.83789, 53: 0.09501, 54: 0.02365},
    "Fe": {54: 0.05845, 56: 0.91754, 57: 0.02119, 58: 0.00282},
    "Ni": {58: 0.680769, 60: 0.262231, 61: 0.011399, 62: 0.036345, 64: 0.009256},
    "Cu": {63: 0.6915, 65: 0.3085},
    "Zn": {64: 0.48268, 66: 0.27975, 67: 0.04102, 68: 0.19024, 70: 0.00631},
    "Rb": {85: 0.7217, 87: 0.2783},
    "Sr": {84: 0.0056, 86: 0.0986, 87: 0.0700, 88: 0.8258},
    "Zr": {90: 0.5145, 91: 0.1122, 92: 0.1715, 94: 0.1738, 96: 0.0280},
    "Ba": {130: 0.00106, 132: 0.00101, 134: 0.02417, 135: 0.06592, 136: 0.07854, 137: 0.11232, 138: 0.71698},
    "La": {138: 0.0009, 139: 0.9991},
    "Ce": {136: 0.00185, 138: 0.00251, 140: 0.88450, 142: 0.11114},
    "Nd": {142: 0.272, 143: 0.122, 144: 0.238, 145: 0.083, 146: 0.172, 148: 0.057, 150: 0.056},
    "Sm": {144: 0.0307, 147: 0.1499, 148: 0.1124, 149: 0.1382, 150: 0.0738, 152: 0.2675, 154: 0.2275},
    "Eu": {151: 0.4781, 153: 0.5219},
    "Gd": {152: 0.0020, 154: 0.0218, 155: 0.1480, 156: 0.2047, 157: 0.1565, 158: 0.2484, 160: 0.2186},
    "Dy": {156: 0.00056, 158: 0.00095, 160: 0.02329, 161: 0.18889, 162: 0.25475, 163: 0.24896, 164: 0.28260},
    "Yb": {168: 0.0013, 170: 0.0304, 171: 0.1428, 172: 0.2183, 173: 0.1613, 174: 0.3183, 176: 0.1276},
    "Lu": {175: 0.9741, 176: 0.0259},
    "Ir": {191: 0.373, 193: 0.627},
    "Pt": {190: 0.00014, 192: 0.00782, 194: 0.32967, 195: 0.33832, 196: 0.25242, 198: 0.07163},
    "Pb": {204: 0.014, 206: 0.241, 207: 0.221, 208: 0.524},
}

#: Elements of one stable isotope, and its mass number.
SINGLE = {
    "Be": 9, "F": 19, "Na": 23, "Al": 27, "P": 31, "Sc": 45, "Mn": 55, "Co": 59, "As": 75, "Y": 89, "Nb": 93,
    "Rh": 103, "I": 127, "Cs": 133, "Pr": 141, "Tb": 159, "Ho": 165, "Tm": 169, "Au": 197, "Bi": 209,
    "Th": 232,
}  # fmt: skip


def isotope_fraction(symbol: str, mass: int) -> float:
    """Share of an isotope in its element; 1 where `mass` is 0, the natural mixture.

    Raises
    ------
    InputError
        If the isotope is not known: a line without its share would be too strong.
    """
    if mass == 0 or SINGLE.get(symbol) == mass:
        return 1.0
    try:
        return FRACTIONS[symbol][mass]
    except KeyError:
        raise InputError(
            f"the share of the isotope {symbol}-{mass} is not known here; remove its lines from the list, or "
            "multiply their gf values by it and give them as lines of the element"
        ) from None
