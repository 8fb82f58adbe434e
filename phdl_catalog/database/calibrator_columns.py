"""What the columns of published calibrator tables are called, and what makes a row of them good.

Known by name: El-Badry, Rix & Heintz (2021, MNRAS 506, 2269) for wide binaries; APOGEE allStar (ASPCAP),
GALAH, Hypatia and the Gaia benchmark stars for reference labels; Gaia's own names for sources; and our own
label names with ``e_`` errors for anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.database.calibrator_files import PublishedTable
from phdl_catalog.errors import InputError
from phdl_catalog.labels import ELEMENTS, LABELS

Floats = NDArray[np.float64]

GAIA_ID = (
    "source_id", "gaia_id", "gaia_dr3_source_id", "dr3_source_id", "gaiadr3_source_id", "gaiaedr3_source_id",
    "source_id_gaiadr3", "gaia_source", "gdr3_source_id",
)  # fmt: skip
RIGHT_ASCENSION = ("raj2000", "ra_icrs", "_ra", "f_ra", "ra_deg", "ra_gaia")
DECLINATION = ("dej2000", "de_icrs", "decl", "f_dec", "dec_deg", "dec_gaia")
STAR_NAME = (
    "star",
    "apogee_id",
    "sobject_id",
    "f_preferred_name",
    "star_id",
    "designation",
    "name",
    "object",
)

#: Of membership lists of clusters: Hunt & Reffert (2023), Cantat-Gaudin et al. (2020), OCCASO, OCCAM.
CLUSTER_NAME = ("cluster_name", "clustername", "oc", "name")
MEMBERSHIP = ("prob", "proba", "pmemb", "membership", "probability_member")

#: Synonyms of labels in other tables.
_LABEL_SYNONYMS = {
    "teff": ("t_eff", "f_teff"),
    "logg": ("log_g", "f_logg"),
    "fe_h": ("feh", "[fe/h]"),
    "v_micro": ("vmicro", "vmic", "xi"),
}

#: APOGEE ASPCAPFLAG: STAR_BAD (SDSS DR17 bitmasks).
_ASPCAP_STAR_BAD = 1 << 23


@dataclass(frozen=True, eq=False)
class ReferenceColumns:
    """Labels of a published table.

    Parameters
    ----------
    values, errors : dict of (N,) arrays
        Of each label found; NaN where there is none.
    sources : dict
        Of each label, the column it is from.
    bad : (N,) bool array
        Rows that the survey itself calls bad.
    flagged : int
        Values left out because the survey flags them.
    outside : int
        Values left out because they are outside the physical bounds of the label.
    """

    values: dict[str, Floats]
    errors: dict[str, Floats]
    sources: dict[str, str]
    bad: NDArray[np.bool_]
    flagged: int
    outside: int


def pair_column(table: PublishedTable, name: str, star: str) -> str | None:
    """The file's column of a property of star ``a`` or ``b`` of a pair."""
    number = {"a": "1", "b": "2"}[star]
    stems = (name, *(GAIA_ID if name == "gaia_source_id" else ()))
    spellings = [
        f"{stem}{separator}{mark}" for stem in stems for mark in (star, number) for separator in ("_", "")
    ]
    return table.find(f"{name}_{star}", spellings)


def reference_columns(table: PublishedTable) -> ReferenceColumns:
    """Find labels, errors and flags of a table of reference stars.

    Raises
    ------
    InputError
        If no label is found.
    """
    values: dict[str, Floats] = {}
    errors: dict[str, Floats] = {}
    sources: dict[str, str] = {}
    flagged = 0
    for label in LABELS:
        column = table.find(label, _LABEL_SYNONYMS.get(label, ()))
        if column is None:
            continue
        value = table.numbers(column)
        error_name = table.find(
            f"e_{label}", (f"{label}_err", f"err_{label}", f"{label}_error", f"{column}_err", f"e_{column}")
        )
        flag_name = table.find(f"flag_{label}", (f"{label}_flag", f"{column}_flag"))
        if flag_name is not None and table.table[flag_name].dtype.kind in "iub":
            bad = np.asarray(np.ma.filled(np.ma.asarray(table.table[flag_name]), 1)) != 0
            flagged += int(np.isfinite(value[bad]).sum())
            value[bad] = np.nan
        values[label], errors[label], sources[label] = value, table.numbers(error_name), column
    _from_hydrogen(table, values, errors, sources)
    if not values:
        raise InputError(
            f"{table.path.name} has no column of a label (teff, logg, fe_h, mg_fe, ...); name them with "
            f"--map, e.g. --map teff=TEMPERATURE; it has {', '.join(table.names)}"
        )
    outside = 0
    for label, value in values.items():
        with np.errstate(invalid="ignore"):
            wrong = (value < LABELS[label].lower) | (value > LABELS[label].upper)
            errors[label][~(errors[label] > 0)] = np.nan
        outside += int(wrong.sum())
        value[wrong] = np.nan
    return ReferenceColumns(values, errors, sources, _bad_rows(table), flagged, outside)


def _from_hydrogen(
    table: PublishedTable, values: dict[str, Floats], errors: dict[str, Floats], sources: dict[str, str]
) -> None:
    """[X/Fe] of [X/H] and [Fe/H]: columns ``mg_h``, or bare symbols as in Hypatia."""
    bare = table.find("f_preferred_name") is not None
    if bare and "fe_h" not in values and "Fe" in table.names:
        values["fe_h"], sources["fe_h"] = table.numbers("Fe"), "Fe"
        errors["fe_h"] = table.numbers(table.find("Fe_err"))
    if "fe_h" not in values:
        return
    for symbol in ELEMENTS:
        label = f"{symbol.lower()}_fe"
        column = symbol if bare and symbol in table.names else table.find(f"{symbol.lower()}_h")
        if column is None or label in values:
            continue
        error = table.find(f"e_{column}", (f"{column}_err", f"err_{column}"))
        values[label] = table.numbers(column) - values["fe_h"]
        errors[label] = np.hypot(table.numbers(error), errors["fe_h"])
        sources[label] = f"{column} - {sources['fe_h']}"


def _bad_rows(table: PublishedTable) -> NDArray[np.bool_]:
    bad = np.zeros(len(table), dtype=bool)
    aspcap = table.find("aspcapflag")
    if aspcap is not None and table.table[aspcap].dtype.kind in "iu":
        bad |= np.asarray(np.ma.filled(np.ma.asarray(table.table[aspcap]), 0)) & _ASPCAP_STAR_BAD != 0
    galah = table.find("flag_sp")
    if galah is not None:
        bad |= np.asarray(np.ma.filled(np.ma.asarray(table.table[galah]), 1)) != 0
    return bad
