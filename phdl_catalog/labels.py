"""The label vocabulary: name, unit, UCD, description, physical bounds and why.

A *model* says which labels it has, and in what order; this table says what each name means.  Bounds are those
of physics and of the fit, not of a grid: a grid's own range comes with the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from phdl_catalog.errors import InputError


@dataclass(frozen=True)
class Label:
    """What one label means.

    Parameters
    ----------
    name : str
        Name in code, SQL and files, e.g. ``mg_fe``.
    unit : str
        Unit in the VOUnits syntax; ``dex`` for logarithmic quantities.
    ucd : str
        Unified Content Descriptor (IVOA UCD1+ 1.5).
    description : str
        One line for a column comment.
    lower, upper : float
        Hard physical bounds of a fit, in `unit`.
    why : str
        Where the bounds come from.
    symbol : str
        How the label is written in a figure.
    decimals : int
        Digits after the decimal point that are worth printing.
    """

    name: str
    unit: str
    ucd: str
    description: str
    lower: float
    upper: float
    why: str
    symbol: str
    decimals: int


#: Chemical symbols that may stand in a label ``<x>_fe``, with the element's name.
ELEMENTS: dict[str, str] = {
    "C": "carbon", "N": "nitrogen", "O": "oxygen", "Na": "sodium", "Mg": "magnesium", "Al": "aluminium",
    "Si": "silicon", "P": "phosphorus", "S": "sulphur", "K": "potassium", "Ca": "calcium", "Sc": "scandium",
    "Ti": "titanium", "V": "vanadium", "Cr": "chromium", "Mn": "manganese", "Co": "cobalt", "Ni": "nickel",
    "Cu": "copper", "Zn": "zinc", "Rb": "rubidium", "Sr": "strontium", "Y": "yttrium", "Zr": "zirconium",
    "Mo": "molybdenum", "Ru": "ruthenium", "Ba": "barium", "La": "lanthanum", "Ce": "cerium",
    "Pr": "praseodymium", "Nd": "neodymium", "Sm": "samarium", "Eu": "europium", "Gd": "gadolinium",
    "Dy": "dysprosium", "Li": "lithium",
}  # fmt: skip

_STELLAR = (
    Label("teff", "K", "phys.temperature.effective", "Effective temperature", 3000.0, 10000.0,
          "below, molecules this physics lacks rule the spectrum; above, LTE metal lines fade", "Teff", 0),
    Label("logg", "dex(cm.s**-2)", "phys.gravity", "Surface gravity, log10", -0.5, 5.5,
          "supergiants to the lower main sequence; white dwarfs are not modelled", "log g", 2),
    Label("v_micro", "km.s**-1", "phys.veloc.microTurb", "Microturbulence velocity", 0.0, 6.0,
          "non-negative; above the sound speed of a photosphere it has no meaning", "vmic", 2),
    Label("fe_h", "dex", "phys.abund.Fe", "Iron abundance [Fe/H], Asplund et al. 2009 scale", -5.0, 1.0,
          "from the most metal-poor stars with visible lines to the most metal-rich known", "[Fe/H]", 2),
)  # fmt: skip


def _abundance(symbol: str) -> Label:
    return Label(
        name=f"{symbol.lower()}_fe",
        unit="dex",
        ucd=f"phys.abund.{symbol}",
        description=f"{ELEMENTS[symbol].capitalize()} abundance [{symbol}/Fe], Asplund et al. 2009 scale",
        lower=-2.0,
        upper=3.0,
        why="wider than any star of ordinary chemistry; a fit that comes here is flagged, not believed",
        symbol=f"[{symbol}/Fe]",
        decimals=2,
    )


LABELS: dict[str, Label] = {
    label.name: label for label in (*_STELLAR, *(_abundance(symbol) for symbol in ELEMENTS))
}

#: Wrong but plausible names, and the right one.
_ALIASES = {
    "m_h": "fe_h", "mh": "fe_h", "feh": "fe_h", "[fe/h]": "fe_h", "metallicity": "fe_h", "log_g": "logg",
    "vmic": "v_micro", "vmicro": "v_micro", "t_eff": "teff", "temperature": "teff",
}  # fmt: skip


def get_label(name: str) -> Label:
    """Look a label up by name.

    Raises
    ------
    InputError
        With the right name, if the wrong one is a plausible one.
    """
    try:
        return LABELS[name]
    except KeyError:
        guess = _ALIASES.get(name.lower())
        hint = f"use '{guess}' instead" if guess else f"known labels: {', '.join(LABELS)}"
        raise InputError(f"there is no label '{name}': {hint}") from None


@cache
def is_abundance(name: str) -> bool:
    """Whether a label is an abundance relative to iron, ``<x>_fe``."""
    return name in LABELS and name.endswith("_fe")
