"""Bring a database to the schema this version of the code expects, and check that it is there."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, text

import phdl_catalog
from phdl_catalog.database import roles
from phdl_catalog.database.models import SCHEMA, Base
from phdl_catalog.errors import SchemaError

#: Partitions of ``fit`` are made at the registration of a model, not by a migration.
_PARTITION = re.compile(r"^fit_model_\d+$")

#: Key of the advisory lock that lets one process at a time migrate a database.
_LOCK = 7_034_251


@dataclass(frozen=True)
class SchemaStatus:
    """Where a database stands.

    Parameters
    ----------
    current : str or None
        Its revision; None for an empty database.
    expected : str
        The revision this version of the code expects.
    ahead : bool
        Whether its revision is unknown here: it was upgraded by newer code.
    """

    current: str | None
    expected: str
    ahead: bool

    @property
    def matches(self) -> bool:
        return self.current == self.expected


def migrations_dir() -> Path:
    """Directory of the migrations: inside an installed wheel, or beside the package in a checkout."""
    package = Path(phdl_catalog.__file__).parent
    for place in (package / "_migrations", package.parent / "migrations"):
        if (place / "env.py").exists():
            return place
    raise SchemaError("the migrations are not part of this installation; install phdl-catalog again")


def sql_file(name: str) -> str:
    """Text of one SQL file of the migrations (views, triggers, roles)."""
    return (migrations_dir() / "sql" / name).read_text(encoding="utf-8")


def is_ours(name: str | None, kind: str, parents: MutableMapping[Any, Any]) -> bool:
    """Which schemas and tables Alembic compares: those of schema ``phdl`` but the partitions."""
    if kind == "schema":
        return name == SCHEMA
    if kind == "table":
        return not _PARTITION.match(name or "")
    return True


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration; there is no ``alembic.ini``."""
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine, passwords: Mapping[str, SecretStr] | None = None) -> bool:
    """Make the roles, apply the migrations that are missing, and grant the roles what they may do.

    All in one transaction: a migration that fails leaves the database as it was.  Two processes at once are
    harmless.

    Parameters
    ----------
    engine : Engine
        Database, as its owner.
    passwords : mapping, optional
        Passwords for roles; those without one keep what they have.

    Returns
    -------
    bool
        Whether a migration was missing.

    Raises
    ------
    SchemaError
        If the database was upgraded by newer code, or the roles cannot be made.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = _status(connection)
        if before.ahead:
            raise SchemaError(_behind_code(before))
        # Always: a dump restored on another server brings the tables but not the roles.
        roles.create_roles(connection)
        if not before.matches:
            command.upgrade(alembic_config(connection), "head")
        roles.grant(connection, sql_file("roles.sql"))
        roles.set_passwords(connection, passwords or {})
    return not before.matches


@cache
def expected_revision() -> str:
    """The revision this version of the code expects.

    Raises
    ------
    SchemaError
        If the installation has no migrations, or more than one head.
    """
    expected = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if expected is None:
        raise SchemaError("the migrations have no single head; install phdl-catalog again")
    return expected


def check_connection(connection: Connection) -> None:
    """Raise unless the schema behind a connection is the one the code expects; cheap enough for every round.

    Raises
    ------
    SchemaError
        As `check`.
    """
    found = connection.scalar(text("SELECT version_num FROM phdl.alembic_version"))
    if found != expected_revision():
        _check_status(_status(connection))


def schema_status(engine: Engine) -> SchemaStatus:
    """Revision of a database, and the one that is expected."""
    with engine.connect() as connection:
        return _status(connection)


def check(engine: Engine, *, deep: bool = False) -> None:
    """Raise unless the schema is the one the code expects.

    Parameters
    ----------
    engine : Engine
        Database to check.
    deep : bool
        Compare every table, column and index with the models too, not the revision alone.

    Raises
    ------
    SchemaError
        Saying which revision is there, which is expected, and what to do.
    """
    with engine.connect() as connection:
        found = _status(connection)
        _check_status(found)
        if deep and (differences := compare(connection)):
            raise SchemaError(
                f"the schema differs from the models in {len(differences)} places, "
                f"the first: {differences[0]}; "
                "somebody changed it by hand: undo that, or restore from a backup"
            )


def describe(engine: Engine) -> str:
    """The state of the schema in words, for a person."""
    found = schema_status(engine)
    if found.matches:
        return f"schema {found.current}"
    if found.ahead:
        return f"schema {found.current}, newer than this code"
    return f"schema {found.current or 'none'}, expected {found.expected}: run `phdl db upgrade`"


def compare(connection: Connection) -> list[str]:
    """Differences between a database and the models, as Alembic sees them; empty if there are none."""
    context = MigrationContext.configure(
        connection,
        opts={
            "include_schemas": True,
            "include_name": is_ours,
            "version_table_schema": SCHEMA,
            "compare_type": True,
            "compare_server_default": True,
        },
    )
    return [str(difference) for difference in compare_metadata(context, Base.metadata)]


def _check_status(found: SchemaStatus) -> None:
    if found.ahead:
        raise SchemaError(_behind_code(found))
    if not found.matches:
        raise SchemaError(
            f"the database schema is at revision {found.current or 'none (empty)'}, "
            f"this version of the code expects {found.expected}: run `phdl db upgrade`"
        )


def _status(connection: Connection) -> SchemaStatus:
    script = ScriptDirectory.from_config(alembic_config())
    expected = expected_revision()
    context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
    current = context.get_current_revision()
    known = {revision.revision for revision in script.walk_revisions()}
    return SchemaStatus(current, expected, ahead=current is not None and current not in known)


def _behind_code(status: SchemaStatus) -> str:
    return (
        f"the database schema is at revision {status.current}, which this version of the code does not know "
        f"(it knows up to {status.expected}): install the newer phdl-catalog on this machine"
    )
