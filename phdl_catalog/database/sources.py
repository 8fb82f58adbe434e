"""Gaia sources: astrometry and photometry of stars, from published tables into the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from phdl_catalog.database.calibrator_columns import DECLINATION, GAIA_ID, RIGHT_ASCENSION
from phdl_catalog.database.calibrator_files import read_published
from phdl_catalog.database.calibrators import ImportReport, import_report, nullable, require_columns
from phdl_catalog.database.copy import merge_rows
from phdl_catalog.database.events import record_event
from phdl_catalog.spectra.sky import healpix_29

_SOURCE_NUMBERS = {
    "parallax": (), "pmra": (), "pmdec": (), "parallax_error": (), "pmra_error": (), "pmdec_error": (),
    "ruwe": (), "phot_g_mean_mag": ("gmag",), "phot_bp_mean_mag": ("bpmag",), "phot_rp_mean_mag": ("rpmag",),
    "j_mag": ("j_m", "jmag"), "h_mag": ("h_m", "hmag"), "ks_mag": ("ks_m", "kmag"), "ebv": ("e_bv",),
}  # fmt: skip
_POSITIVE = {"parallax_error", "pmra_error", "pmdec_error", "ruwe"}


def import_sources(engine: Engine, path: Path, given: Mapping[str, str] | None = None) -> ImportReport:
    """Import Gaia sources: astrometry and photometry, one row a star.

    Parameters
    ----------
    engine : Engine
        Database.
    path : Path
        FITS, CSV, ECSV, VOTable or Parquet file with Gaia's column names.
    given : mapping, optional
        Our column names to the file's, where they are not recognised.

    Raises
    ------
    InputError
        If the file cannot be read or has no source id and position.
    """
    table = read_published(path, given)
    columns = {
        "gaia_source_id": table.find("gaia_source_id", GAIA_ID),
        "ra": table.find("ra", RIGHT_ASCENSION),
        "dec": table.find("dec", DECLINATION),
        **{name: table.find(name, synonyms) for name, synonyms in _SOURCE_NUMBERS.items()},
    }
    for name in ("gaia_source_id", "ra", "dec"):
        require_columns(table, given, columns, (name,))
    numbers = {name: table.numbers(columns[name]) for name in columns if name != "gaia_source_id"}
    for name in _POSITIVE:
        numbers[name] = np.where(numbers[name] > 0, numbers[name], np.nan)
    inside = (numbers["ra"] >= 0) & (numbers["ra"] < 360) & (np.abs(numbers["dec"]) <= 90)
    cells = np.zeros(len(table), dtype=np.int64)
    cells[inside] = healpix_29(numbers["ra"][inside], numbers["dec"][inside])
    skipped: Counter[str] = Counter()
    rows: dict[int, tuple[Any, ...]] = {}
    lists = {name: nullable(values) for name, values in numbers.items()}
    for row, source in enumerate(table.identifiers(columns["gaia_source_id"])):
        if source is None:
            skipped["no source id"] += 1
        elif not inside[row]:
            skipped["no position"] += 1
        elif source in rows:
            skipped["duplicate"] += 1
        else:
            rows[source] = (source, int(cells[row]), *(values[row] for values in lists.values()))
    single = {name for name in _SOURCE_NUMBERS if name not in {"parallax", "pmra", "pmdec"}}
    types = {"gaia_source_id": "int8", "healpix_29": "int8"}
    types |= {name: "float4" if name in single else "float8" for name in lists}
    with engine.begin() as connection:
        before = connection.scalar(text("SELECT count(*) FROM phdl.source"))
        merge_rows(
            connection,
            "phdl.source",
            list(types),
            list(types.values()),
            rows.values(),
            key=("gaia_source_id",),
        )
        after = connection.scalar(text("SELECT count(*) FROM phdl.source"))
        record_event(connection, "source:gaia", "imported", {"file": path.name, "used": len(rows), **skipped})
    return import_report(path, "", table, len(rows), after - before, skipped, columns)
