"""The table of one catalogue release, made from the published columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)
from sqlalchemy.types import TypeEngine

from phdl_catalog.catalog.schema import CatalogSchema, SqlType
from phdl_catalog.catalog.schema import Column as PublishedColumn
from phdl_catalog.database.models import CATALOG_SCHEMA
from phdl_catalog.errors import InputError

_TYPES: dict[SqlType, type[TypeEngine[Any]]] = {
    "bigint": BigInteger,
    "integer": Integer,
    "real": REAL,
    "double precision": Double,
    "text": Text,
}

#: Types as binary COPY wants them declared.
COPY_TYPES: dict[SqlType, str] = {
    "bigint": "int8",
    "integer": "int4",
    "real": "float4",
    "double precision": "float8",
    "text": "text",
}

#: Longest name of a release: PostgreSQL cuts names at 63 bytes, and the table's indexes carry its name too.
LONGEST_NAME = 30


def table_name(schema: CatalogSchema, release: str) -> str:
    """Name of a release's table: ``subgiant__2026_1`` for release ``2026.1``.

    Raises
    ------
    InputError
        If the release's name cannot be part of a table's name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", release) or len(release) > LONGEST_NAME:
        raise InputError(
            f"'{release}' cannot name a catalogue release: use at most {LONGEST_NAME} letters, digits, '.', "
            f"'-' and '_', the first a letter or a digit"
        )
    return f"{schema.table}__{release.lower().replace('.', '_').replace('-', '_')}"


def release_table(
    schema: CatalogSchema, columns: Sequence[PublishedColumn], release: str, comment: str | None = None
) -> Table:
    """The table of a release, not yet made.

    Every column has a comment; a CHECK keeps NaN, infinity and values under the column's minimum out of each.

    Parameters
    ----------
    schema : CatalogSchema
        The published schema.
    columns : sequence of Column
        Its columns, expanded for the model.
    release : str
        Name of the catalogue release.
    comment : str, optional
        Added to the comment of the table.
    """
    name = table_name(schema, release)
    description = schema.description if comment is None else f"{schema.description}. {comment}"
    return Table(
        name,
        MetaData(schema=CATALOG_SCHEMA),
        *(
            Column(
                column.name,
                _TYPES[column.type],
                nullable=column.nullable,
                autoincrement=False,
                comment=column.comment,
            )
            for column in columns
        ),
        PrimaryKeyConstraint(schema.primary_key, name=f"pk_{name}"),
        *(
            CheckConstraint(condition, name=f"ck_{column.name}")
            for column in columns
            if (condition := _condition(column))
        ),
        *(Index(f"ix_{name}_{column.name}", column.name) for column in columns if column.index),
        comment=description,
    )


def _condition(column: PublishedColumn) -> str:
    """What every value of a column must satisfy, in SQL; empty if nothing."""
    if column.minimum is not None:
        lower = f"{column.name} >= {column.minimum:g}"
    else:
        lower = f"{column.name} > '-Infinity'" if column.is_float else ""
    return f"{lower} AND {column.name} < 'Infinity'" if column.is_float else lower
