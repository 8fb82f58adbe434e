"""Pairs whose table only has numbers of stars: positions and identifiers come from the table of the stars."""

from __future__ import annotations

import numpy as np

from phdl_catalog.database.calibrator_columns import DECLINATION, GAIA_ID, RIGHT_ASCENSION
from phdl_catalog.database.calibrator_files import PublishedTable
from phdl_catalog.errors import InputError

#: Columns with the numbers of the two stars, and with the number of a star.
_PAIR = {"a": ("star1", "star_1", "id1", "row_id_1"), "b": ("star2", "star_2", "id2", "row_id_2")}
_NUMBER = ("row_id", "row", "number", "id", "index")

_FIELDS = {
    "gaia_source_id": GAIA_ID, "obsid": (), "ra": RIGHT_ASCENSION, "dec": DECLINATION, "pmra": (),
    "pmdec": (), "parallax": (),
}  # fmt: skip


def with_stars(pairs: PublishedTable, stars: PublishedTable) -> PublishedTable:
    """The table of pairs with the columns of both stars: ``ra_a``, ``ra_b``, ...

    Parameters
    ----------
    pairs : PublishedTable
        One row a pair, with the numbers of its stars: ``star_a`` and ``star_b``, or ``star1`` and ``star2``.
    stars : PublishedTable
        One row a star; its number is the column ``row_id``, or else its place, beginning with 0.

    Raises
    ------
    InputError
        If there is no column of numbers, or a number has no star.
    """
    table = pairs.table.copy()
    numbers = stars.find("row_id", _NUMBER)
    known = _numbers(stars, numbers) if numbers else list(range(len(stars)))
    place = {number: row for row, number in enumerate(known)}
    found = {field: stars.find(field, synonyms) for field, synonyms in _FIELDS.items()}
    for star, synonyms in _PAIR.items():
        column = pairs.find(f"star_{star}", synonyms)
        if column is None:
            raise InputError(
                f"{pairs.path.name} has no column with the number of star {star}; name it with --map "
                f"star_{star}=COLUMN; it has {', '.join(pairs.names)}"
            )
        wanted = _numbers(pairs, column)
        if lost := [number for number in wanted if number not in place]:
            raise InputError(f"{stars.path.name} has no star {lost[0]}, which {pairs.path.name} names")
        rows = np.array([place[number] for number in wanted], dtype=np.int64)
        for field, theirs in found.items():
            if theirs is not None:
                table[f"{field}_{star}"] = stars.table[theirs][rows]
    return PublishedTable(pairs.path, table, pairs.given)


def _numbers(table: PublishedTable, name: str) -> list[int]:
    """Numbers of stars, which may be 0 and are never codes for a missing value."""
    values = np.ma.asarray(table.table[name])
    if values.dtype.kind not in "iu" or np.ma.is_masked(values):
        raise InputError(
            f"column '{name}' of {table.path.name} does not have the number of a star in each row"
        )
    return [int(value) for value in np.ma.getdata(values)]
