"""The content of a release as bytes: the same rows give the same checksum, in any database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from psycopg import sql
from sqlalchemy import Connection, Table, text

from phdl_catalog.database.copy import driver_connection

#: Columns that name the release and say nothing of its stars: not part of the checksum.
NAMING_COLUMNS = frozenset({"catalog_release"})

#: Order of the rows.
_ORDER = sql.SQL("ORDER BY healpix_29 NULLS LAST, obsid")


@dataclass(frozen=True)
class Content:
    """What is in a release's table.

    Parameters
    ----------
    n_rows : int
        Number of stars.
    checksum : str
        SHA-256, hexadecimal, of the rows as CSV with a header, ordered by healpix_29 and obsid, without the
        column that names the release.
    """

    n_rows: int
    checksum: str


def table_content(connection: Connection, table: Table) -> Content:
    """Read a release's table and sum it up; streamed, in the memory of one block."""
    # Numbers must be written as they always are, whatever this session is used to.
    connection.execute(text("SET LOCAL extra_float_digits = 1"))
    columns = [column.name for column in table.columns if column.name not in NAMING_COLUMNS]
    query = sql.SQL("COPY (SELECT {} FROM {} {}) TO STDOUT (FORMAT csv, HEADER)").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(str(table.schema), table.name),
        _ORDER,
    )
    digest, lines = hashlib.sha256(), 0
    with driver_connection(connection).cursor() as cursor, cursor.copy(query) as copy:
        for block in copy:
            digest.update(block)
            lines += bytes(block).count(b"\n")
    return Content(n_rows=lines - 1, checksum=digest.hexdigest())
