"""The declarative base of the tables, the names of constraints, and the two CHECKs every table needs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Double, MetaData, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase

#: Schema of the working tables; the published one is :data:`CATALOG_SCHEMA`.
SCHEMA = "phdl"
CATALOG_SCHEMA = "catalog"

#: Every constraint has a name that says what it is, so that an error message and a migration can quote it.
_NAMES = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class Base(DeclarativeBase):
    """Base of all tables of schema ``phdl``: int is bigint, str is text, float is double precision."""

    metadata = MetaData(schema=SCHEMA, naming_convention=_NAMES)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        int: BigInteger,
        str: Text,
        float: Double,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
        list[int]: ARRAY(BigInteger),
    }


def finite(*columns: str) -> CheckConstraint:
    """CHECK that keeps NaN and infinity out of columns; missing is NULL.

    PostgreSQL sorts NaN above every number, so ``< 'Infinity'`` refuses it.
    """
    tests = " AND ".join(f"{name} > '-Infinity' AND {name} < 'Infinity'" for name in columns)
    return CheckConstraint(tests, name=f"{columns[0]}_finite")


def finite_elements(column: str, sql_type: str) -> CheckConstraint:
    """CHECK that keeps NaN and infinity out of the elements of an array; a missing element is NULL."""
    tests = f"'Infinity'::{sql_type} > ALL ({column}) AND '-Infinity'::{sql_type} < ALL ({column})"
    return CheckConstraint(tests, name=f"{column}_finite")


def one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    """CHECK that a text column is one of an enumeration's values."""
    values = ", ".join(f"'{state.value}'" for state in states)
    return CheckConstraint(f"{column} IN ({values})", name=f"{column}_known")


def only_if(condition: str, *columns: str, name: str) -> CheckConstraint:
    """CHECK that columns have a value exactly where a condition holds."""
    tests = " AND ".join(f"({condition}) = ({column} IS NOT NULL)" for column in columns)
    return CheckConstraint(tests, name=name)
