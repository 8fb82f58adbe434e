"""The label vocabulary: name, unit, UCD, description, physical bounds and why.

A *model* says which labels it has, and in what order; this table says what each name means.  Bounds are those
of physics and of the fit, not of a grid: a grid's own range comes with the model.

A grid may have labels that this table lacks (vsini, a helium fraction, ...): its file then *declares* them,
with unit, bounds and description, and the declaration travels with the grid into the model's metadata.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

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

    def as_declaration(self) -> dict[str, Any]:
        """What `declare_label` takes to make this label, its name apart; plain JSON."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


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
        raise InputError(f"there is no label '{name}': {_hint(name)}") from None


def _hint(name: str) -> str:
    if guess := _ALIASES.get(name.lower()):
        return f"use '{guess}' instead"
    element = name.lower().removesuffix("_h")
    if element.capitalize() in ELEMENTS and element != name.lower():
        return f"abundances are relative to iron: give '{element}_fe' = {name} - fe_h"
    return f"known labels: {', '.join(LABELS)}; a grid may declare others"


#: A label's name becomes a column's name, so it is one that SQL needs not quote.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def declare_label(name: str, declaration: Mapping[str, Any]) -> Label:
    """A label that the vocabulary lacks, as the file of a grid describes it.

    Parameters
    ----------
    name : str
        Small letters, digits and underscores; not a name of the vocabulary, nor a wrong spelling of one.
    declaration : mapping
        ``unit``, ``lower``, ``upper``, ``description`` and, if wanted, the other fields of `Label`.

    Raises
    ------
    InputError
        If something is missing, unknown or senseless; the message names the label.
    """
    where = f"the declaration of the label '{name}'"
    if name in LABELS:
        raise InputError(f"{where} is not needed: the vocabulary has it; leave the declaration out")
    if guess := _ALIASES.get(name.lower()):
        raise InputError(f"{where} is not needed: call the label '{guess}', which the vocabulary has")
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: a name has small letters, digits and underscores, at most 40")
    required = ("unit", "lower", "upper", "description")
    if missing := [key for key in required if key not in declaration]:
        raise InputError(f"{where} lacks {', '.join(missing)}; it needs {', '.join(required)}")
    known = {field.name for field in fields(Label)} - {"name"}
    if unknown := sorted(set(declaration) - known):
        raise InputError(
            f"{where} has the unknown entry {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    try:
        lower, upper = float(declaration["lower"]), float(declaration["upper"])
        decimals = int(declaration.get("decimals", 2))
    except (TypeError, ValueError):
        raise InputError(f"{where}: lower, upper and decimals must be numbers") from None
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise InputError(f"{where}: lower must be below upper and both finite, not {lower:g} and {upper:g}")
    return Label(
        name=name,
        unit=str(declaration["unit"]),
        ucd=str(declaration.get("ucd", "")),
        description=str(declaration["description"]),
        lower=lower,
        upper=upper,
        why=str(declaration.get("why", "declared with the grid")),
        symbol=str(declaration.get("symbol", name)),
        decimals=decimals,
    )


def declared_labels(declarations: Mapping[str, Mapping[str, Any]]) -> tuple[Label, ...]:
    """The labels of a table of declarations: name to what `declare_label` takes."""
    return tuple(declare_label(name, declaration) for name, declaration in declarations.items())


def describe_labels(names: Iterable[str], declared: Iterable[Label] = ()) -> tuple[Label, ...]:
    """What each name means, from the vocabulary and from labels declared beside it.

    Raises
    ------
    InputError
        If a name is in neither; the message says how to declare it.
    """
    extra = {label.name: label for label in declared}
    return tuple(extra[name] if name in extra else get_label(name) for name in names)


@cache
def is_abundance(name: str) -> bool:
    """Whether a label is an abundance relative to iron, ``<x>_fe``."""
    return name in LABELS and name.endswith("_fe")
