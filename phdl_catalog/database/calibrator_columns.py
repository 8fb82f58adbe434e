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
from phdl_catalog.database.calibrator_mistakes import suspicious_labels
from phdl_catalog.errors import InputError
from phdl_catalog.labels import ELEMENTS, LABELS

Floats = NDArray[np.float64]

GAIA_ID = (
    "source_id", "gaia_id", "gaia_dr3_source_id", "dr3_source_id", "gaiadr3_source_id", "gaiaedr3_source_id",
    "source_id_gaiadr3", "gaia_source", "gdr3_source_id", "gaiadr3", "gaia_dr3_id", "gaiadr3_id",
)  # fmt: skip
RIGHT_ASCENSION = ("raj2000", "ra_icrs", "_ra", "f_ra", "ra_deg", "ra_gaia", "ra_dr2")
DECLINATION = ("dej2000", "de_icrs", "decl", "f_dec", "dec_deg", "dec_gaia", "dec_dr2")
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

#: S/N: APOGEE, GALAH DR4 and DR3 (of the red camera).
SIGNAL_TO_NOISE = ("snrev", "snr_px_ccd3", "snr_c3_iraf", "snr_px_ccd2", "snr_c2_iraf")

#: Proper motion: APOGEE DR17 and our own names.
PROPER_MOTION = {
    "pmra": ("gaiaedr3_pmra", "pm_ra", "pmra_gaia"),
    "pmdec": ("gaiaedr3_pmdec", "pm_dec", "pmdec_gaia"),
}

#: Kinds of El-Badry et al. (2021) with a white dwarf, of which no abundance can be had.
WHITE_DWARF_BINARIES = frozenset({"WDMS", "WDWD", "WD??"})

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

#: Bits of APOGEE (SDSS DR17 bitmasks): STAR_BAD; and BAD_PIXELS, VERY_BRIGHT_NEIGHBOR, LOW_SNR.
_APOGEE_BAD = {"aspcapflag": 1 << 23, "starflag": 1 << 0 | 1 << 3 | 1 << 4}


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
    warnings : tuple of str
        What looks like a plausible mistake.
    """

    values: dict[str, Floats]
    errors: dict[str, Floats]
    sources: dict[str, str]
    bad: NDArray[np.bool_]
    flagged: int
    outside: int
    warnings: tuple[str, ...]


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
        flagged += _leave_out_flagged(table, column, value, (f"flag_{label}", f"{label}_flag"))
        values[label], errors[label], sources[label] = value, _errors(table, label, column), column
    flagged += _from_hydrogen(table, values, errors, sources)
    if not values:
        raise InputError(
            f"{table.path.name} has no column of a label (teff, logg, fe_h, mg_fe, ...); name them with "
            f"--map, e.g. --map teff=TEMPERATURE; it has {', '.join(table.names)}"
        )
    outside = {}
    for label, value in values.items():
        with np.errstate(invalid="ignore"):
            wrong = (value < LABELS[label].lower) | (value > LABELS[label].upper)
            errors[label][~(errors[label] > 0)] = np.nan
        outside[label] = int(wrong.sum())
        value[wrong] = np.nan
    warnings = tuple(suspicious_labels(values, sources, outside))
    return ReferenceColumns(
        values, errors, sources, _bad_rows(table), flagged, sum(outside.values()), warnings
    )


def _from_hydrogen(
    table: PublishedTable, values: dict[str, Floats], errors: dict[str, Floats], sources: dict[str, str]
) -> int:
    """[X/Fe] of [X/H] and [Fe/H]: columns ``mg_h``, or bare symbols as in Hypatia; counts flagged values."""
    bare = table.find("f_preferred_name") is not None
    if bare and "fe_h" not in values and "Fe" in table.names:
        values["fe_h"], sources["fe_h"] = table.numbers("Fe"), "Fe"
        errors["fe_h"] = table.numbers(table.find("Fe_err"))
    flagged = 0
    if "fe_h" not in values:
        return flagged
    for symbol in ELEMENTS:
        label = f"{symbol.lower()}_fe"
        column = symbol if bare and symbol in table.names else table.find(f"{symbol.lower()}_h")
        if column is None or label in values:
            continue
        error = table.find(f"e_{column}", (f"{column}_err", f"err_{column}"))
        value = table.numbers(column)
        flagged += _leave_out_flagged(table, column, value, ())
        values[label] = value - values["fe_h"]
        errors[label] = np.hypot(table.numbers(error), errors["fe_h"])
        sources[label] = f"{column} - {sources['fe_h']}"
    return flagged


def _leave_out_flagged(table: PublishedTable, column: str, value: Floats, names: tuple[str, ...]) -> int:
    """Make values NaN that the survey flags; GALAH flag_mg_fe, APOGEE MG_FE_FLAG, of DR19 mg_h_flags."""
    bad = np.zeros(len(value), dtype=bool)
    for term in table.terms(column):
        name = table.find(f"flag_{term.name}", (*names, f"{term.name}_flag", f"{term.name}_flags"))
        flags = None if name is None else table.set_bits(name)
        if flags is not None:
            bad |= flags
    count = int(np.isfinite(value[bad]).sum())
    value[bad] = np.nan
    return count


def _errors(table: PublishedTable, label: str, column: str) -> Floats:
    """Errors of a label: of its own column of errors, else of those of the columns it is made of."""
    named = table.find(f"e_{label}", (f"{label}_err", f"err_{label}", f"{label}_error"))
    if named is not None:
        return table.numbers(named)
    parts = []
    for term in table.terms(column):
        name = table.find(f"e_{term.name}", (f"{term.name}_err", f"err_{term.name}", f"{term.name}_error"))
        if name is None or term.index is not None:
            return np.full(len(table), np.nan)
        parts.append(table.numbers(name) * term.factor)
    return parts[0] if len(parts) == 1 else np.hypot(*parts)


def _bad_rows(table: PublishedTable) -> NDArray[np.bool_]:
    bad = np.zeros(len(table), dtype=bool)
    # GALAH says 0 for good; APOGEE of SDSS DR19 has one flag for what ASPCAP calls bad.
    for name, bits in {**_APOGEE_BAD, "flag_sp": -1, "flag_bad": -1}.items():
        column = table.find(name)
        flags = None if column is None else table.set_bits(column, bits)
        if flags is not None:
            bad |= flags
    return bad
