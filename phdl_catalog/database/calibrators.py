"""Wide binaries and reference labels: from published tables into the database.

Importing the same file again changes nothing; every row of a file is used or counted with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from phdl_catalog.database.calibrator_columns import (
    DECLINATION,
    GAIA_ID,
    PROPER_MOTION,
    RIGHT_ASCENSION,
    SIGNAL_TO_NOISE,
    STAR_NAME,
    WHITE_DWARF_BINARIES,
    pair_column,
    reference_columns,
)
from phdl_catalog.database.calibrator_files import PublishedTable, read_published
from phdl_catalog.database.calibrator_mistakes import suspicious_positions
from phdl_catalog.database.calibrator_stars import with_stars
from phdl_catalog.database.copy import merge_rows
from phdl_catalog.database.events import record_event
from phdl_catalog.errors import InputError

_STAR_NUMBERS = ("ra", "dec", "pmra", "pmdec")
_PAIR_NUMBERS = ("ra", "dec", "pmra", "pmdec", "parallax")


@dataclass(frozen=True)
class ImportReport:
    """What became of a file.

    Parameters
    ----------
    file : str
        File that was read.
    name : str
        Catalogue of pairs, or survey; empty for sources.
    rows : int
        Rows of the file.
    used : int
        Rows that are in the database now because of this file.
    new : int
        Rows of the database that were not there before: pairs, values, or sources.
    skipped : dict
        Rows that were not used, by reason; with `used` they add up to `rows`.
    columns : dict
        Our columns, and the file's they are from.
    values : dict
        Of each label: how many values.
    left_out : dict
        Single values that were not used, by reason.
    warnings : tuple of str
        What looks like a plausible mistake; nothing was changed because of it.
    """

    file: str
    name: str
    rows: int
    used: int
    new: int
    skipped: Mapping[str, int]
    columns: Mapping[str, str]
    values: Mapping[str, int]
    left_out: Mapping[str, int]
    warnings: tuple[str, ...] = ()


def import_pairs(
    engine: Engine,
    path: Path,
    catalogue: str | None = None,
    given: Mapping[str, str] | None = None,
    *,
    stars: Path | None = None,
) -> ImportReport:
    """Import a table of wide binaries.

    Parameters
    ----------
    engine : Engine
        Database.
    path : Path
        FITS, CSV, ECSV, VOTable or Parquet file; one row a pair.
    catalogue : str, optional
        Name of the catalogue; by default that of the file.
    given : mapping, optional
        Our column names to the file's, where they are not recognised: ``gaia_source_id_a``, ``obsid_a``,
        ``ra_a``, ``dec_a``, ``pmra_a``, ``pmdec_a``, ``parallax_a``, the same with ``b``, ``separation_au``,
        ``chance_probability``.
    stars : Path, optional
        Table of the stars, where that of the pairs only has their numbers in it (Oh et al. 2017).

    Raises
    ------
    InputError
        If the file cannot be read or has nothing that identifies the stars.
    """
    table = read_published(path, given)
    if stars is not None:
        table = with_stars(table, read_published(stars, {}))
    name = catalogue or _stem(path)
    columns = {
        f"{field}_{star}": pair_column(table, field, star)
        for star in "ab"
        for field in ("gaia_source_id", "obsid", *_PAIR_NUMBERS)
    }
    columns["separation_au"] = table.find("separation_au", ("sep_au",))
    columns["chance_probability"] = table.find("chance_probability", ("r_chance_align", "chance"))
    kinds = table.texts(table.find("binary_type"))
    require_columns(table, given, columns, ("gaia_source_id_a", "obsid_a", "ra_a"))
    skipped: Counter[str] = Counter()
    rows = list(_pair_rows(table, name, columns, kinds, skipped))
    types = {"catalogue": "text", "pair_name": "text"}
    types |= {column: "int8" if "_id_" in column or "obsid" in column else "float8" for column in columns}
    with engine.begin() as connection:
        before = connection.scalar(_count("wide_binary", "catalogue"), {"name": name})
        merge_rows(
            connection,
            "phdl.wide_binary",
            list(types),
            list(types.values()),
            rows,
            key=("catalogue", "pair_name"),
        )
        after = connection.scalar(_count("wide_binary", "catalogue"), {"name": name})
        record_event(
            connection, f"wide_binary:{name}", "imported", {"file": path.name, "used": len(rows), **skipped}
        )
    warnings = suspicious_positions(table, columns["ra_a"])
    return import_report(path, name, table, len(rows), after - before, skipped, columns, warnings=warnings)


def _pair_rows(
    table: PublishedTable,
    catalogue: str,
    columns: Mapping[str, str | None],
    kinds: list[str | None],
    skipped: Counter[str],
) -> Iterator[tuple[Any, ...]]:
    integers = {
        name: table.identifiers(columns[name]) for name in columns if "_id_" in name or "obsid" in name
    }
    numbers = {name: nullable(table.numbers(columns[name])) for name in columns if name not in integers}
    everything: dict[str, list[Any]] = {**integers, **numbers}
    seen = set()
    for row in range(len(table)):
        if kinds[row] in WHITE_DWARF_BINARIES:
            skipped["white dwarf in it"] += 1
            continue
        values = {name: column[row] for name, column in everything.items()}
        stars = []
        for star in "ab":
            entry: dict[str, Any] = {
                name[:-2]: value for name, value in values.items() if name.endswith(f"_{star}")
            }
            check_position(entry)
            stars.append(entry)
        keys = [_star_key(star) for star in stars]
        if any(key is None for key in keys):
            skipped["star not identified"] += 1
            continue
        if keys[0] == keys[1] or (stars[0]["obsid"] is not None and stars[0]["obsid"] == stars[1]["obsid"]):
            skipped["same star twice"] += 1
            continue
        # The order of the stars in the file means nothing: the smaller identifier is star a.
        order = sorted((0, 1), key=lambda number: keys[number] or ())
        pair_name = " ".join(str((keys[number] or ("", ""))[1]) for number in order)
        if pair_name in seen:
            skipped["duplicate"] += 1
            continue
        seen.add(pair_name)
        chance = values["chance_probability"]
        values |= {f"{field}_a": value for field, value in stars[order[0]].items()}
        values |= {f"{field}_b": value for field, value in stars[order[1]].items()}
        values["chance_probability"] = chance if chance is not None and chance >= 0 else None
        yield (catalogue, pair_name, *(values[name] for name in columns))


def check_position(star: dict[str, Any]) -> None:
    """A position outside the sphere, or half of one, is none."""
    ra, dec = star["ra"], star["dec"]
    if ra is None or dec is None or not (0 <= ra < 360 and -90 <= dec <= 90):
        star["ra"] = star["dec"] = None


def _star_key(star: Mapping[str, Any]) -> tuple[Any, ...] | None:
    for number, field in enumerate(("gaia_source_id", "obsid")):
        if star[field] is not None:
            return (number, star[field])
    if star["ra"] is None:
        return None
    return (2, f"{star['ra']:.6f}{star['dec']:+.6f}")


def import_references(
    engine: Engine,
    path: Path,
    survey: str,
    given: Mapping[str, str] | None = None,
    *,
    min_snr: float = 0.0,
) -> ImportReport:
    """Import a table of high-resolution labels.

    Parameters
    ----------
    engine : Engine
        Database.
    path : Path
        FITS, CSV, ECSV, VOTable or Parquet file; one row a star.
    survey : str
        Name of the survey; every survey has its own zero-points in a calibration.
    given : mapping, optional
        Our column names to the file's, where they are not recognised: ``gaia_source_id``, ``obsid``, ``ra``,
        ``dec``, ``pmra``, ``pmdec``, ``star_name``, ``snr``, label names, and ``e_<label>``.
    min_snr : float
        Rows with a smaller S/N, if the file has one, are not used.

    Raises
    ------
    InputError
        If the file cannot be read, or has no label or nothing that identifies the stars.
    """
    table = read_published(path, given)
    columns = {
        "gaia_source_id": table.find("gaia_source_id", GAIA_ID),
        "obsid": table.find("obsid", ("lamost_obsid",)),
        "ra": table.find("ra", RIGHT_ASCENSION),
        "dec": table.find("dec", DECLINATION),
        "star_name": table.find("star_name", STAR_NAME),
        **{name: table.find(name, others) for name, others in PROPER_MOTION.items()},
        "snr": table.find("snr", SIGNAL_TO_NOISE),
    }
    labels = reference_columns(table)
    known = {
        **columns,
        **dict.fromkeys(labels.values),
        **{f"e_{label}": None for label in labels.values},
    }
    require_columns(table, given, known, ("gaia_source_id", "obsid", "ra"), found=columns)
    skipped: Counter[str] = Counter()
    stars = _reference_stars(table, columns, labels.bad, min_snr, skipped)
    finite = {label: np.isfinite(value) for label, value in labels.values.items()}
    empty = [row for row in stars if not any(known_values[row] for known_values in finite.values())]
    for row in empty:
        del stars[row]
    if empty:
        skipped["no label"] += len(empty)
    counts: Counter[str] = Counter()
    with engine.begin() as connection:
        before = connection.scalar(_count("reference_label", "survey"), {"name": survey})
        merge_rows(
            connection,
            "phdl.reference_label",
            ("survey", "star_name", "label", "gaia_source_id", "obsid", *_STAR_NUMBERS, "value", "error"),
            ("text", "text", "text", "int8", "int8", *["float8"] * 6),
            _reference_rows(survey, stars, labels.values, labels.errors, counts),
            key=("survey", "star_name", "label"),
        )
        after = connection.scalar(_count("reference_label", "survey"), {"name": survey})
        record_event(
            connection,
            f"reference_label:{survey}",
            "imported",
            {"file": path.name, "used": len(stars), **skipped},
        )
    left_out = {"flagged by the survey": labels.flagged, "outside physical bounds": labels.outside}
    return import_report(
        path,
        survey,
        table,
        len(stars),
        after - before,
        skipped,
        {**columns, **labels.sources},
        counts,
        left_out,
        (*labels.warnings, *suspicious_positions(table, columns["ra"])),
    )


def _reference_stars(
    table: PublishedTable, columns: Mapping[str, str | None], bad: Any, min_snr: float, skipped: Counter[str]
) -> dict[int, tuple[Any, ...]]:
    """Of each usable row: star_name, gaia_source_id, obsid, ra, dec, pmra, pmdec; of a star the best S/N."""
    gaia, obsid = table.identifiers(columns["gaia_source_id"]), table.identifiers(columns["obsid"])
    ra, dec = nullable(table.numbers(columns["ra"])), nullable(table.numbers(columns["dec"]))
    motion = {name: nullable(table.numbers(columns[name])) for name in PROPER_MOTION}
    names, snr = table.texts(columns["star_name"]), np.nan_to_num(table.numbers(columns["snr"]), nan=np.inf)
    chosen: dict[Any, int] = {}
    stars: dict[int, tuple[Any, ...]] = {}
    for row in range(len(table)):
        star = {"gaia_source_id": gaia[row], "obsid": obsid[row], "ra": ra[row], "dec": dec[row]}
        check_position(star)
        key = _star_key(star)
        if bad[row]:
            skipped["bad in the survey"] += 1
        elif snr[row] < min_snr:
            skipped["low S/N"] += 1
        elif key is None:
            skipped["star not identified"] += 1
        else:
            name = names[row] or str(key[1])
            # A survey that names observations names one star twice: the identifier decides.
            other = chosen.get(name, chosen.get(key))
            if other is not None:
                skipped["duplicate"] += 1
                if not snr[row] > snr[other]:
                    continue
                del stars[other]
            chosen[name] = chosen[key] = row
            stars[row] = (name, *star.values(), *(values[row] for values in motion.values()))
    return stars


def _reference_rows(
    survey: str,
    stars: Mapping[int, tuple[Any, ...]],
    values: Mapping[str, Any],
    errors: Mapping[str, Any],
    counts: Counter[str],
) -> Iterator[tuple[Any, ...]]:
    for label, value in values.items():
        column, error = nullable(value), nullable(errors[label])
        for row, (name, *place) in stars.items():
            if column[row] is not None:
                counts[label] += 1
                yield (survey, name, label, *place, column[row], error[row])


def require_columns(
    table: PublishedTable,
    given: Mapping[str, str] | None,
    known: Mapping[str, str | None],
    one_of: tuple[str, ...],
    found: Mapping[str, str | None] | None = None,
) -> None:
    """Refuse names that are none of ours, and tables that identify no star."""
    unknown = [name for name in given or {} if name not in known]
    if unknown:
        raise InputError(f"--map {unknown[0]}=...: no such column of ours; known: {', '.join(known)}")
    columns = known if found is None else found
    if not any(columns.get(name) for name in one_of):
        raise InputError(
            f"{table.path.name} has no column for {' or '.join(one_of)}; name one with --map, "
            f"e.g. --map {one_of[0]}=COLUMN; it has {', '.join(table.names)}"
        )


def nullable(values: Any) -> list[float | None]:
    """Numbers for the database: NaN becomes None."""
    return [None if value != value else value for value in np.asarray(values, dtype=np.float64).tolist()]


def _count(table: str, column: str) -> Any:
    return text(f"SELECT count(*) FROM phdl.{table} WHERE {column} = :name")  # noqa: S608 - our own names


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def import_report(
    path: Path,
    name: str,
    table: PublishedTable,
    used: int,
    new: int,
    skipped: Mapping[str, int],
    columns: Mapping[str, str | None],
    values: Mapping[str, int] | None = None,
    left_out: Mapping[str, int] | None = None,
    warnings: tuple[str, ...] = (),
) -> ImportReport:
    """Put the report of one file together; columns that were not found are left out."""
    return ImportReport(
        file=str(path),
        name=name,
        rows=len(table),
        used=used,
        new=new,
        skipped=dict(skipped),
        columns={ours: theirs for ours, theirs in columns.items() if theirs},
        values=dict(values or {}),
        left_out={reason: count for reason, count in (left_out or {}).items() if count},
        warnings=warnings,
    )
