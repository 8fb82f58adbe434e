"""Publishing a release, and going back: one short transaction that swaps the view readers use.

``catalog.subgiant`` is a view of one release's table.  The tables stay, each under its own name, so that an
old release can still be read and be published again in a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_fixed

from phdl_catalog.catalog.queries import statement
from phdl_catalog.catalog.releases import (
    CatalogReleaseInfo,
    get_catalog_release,
    published_release,
    table_exists,
)
from phdl_catalog.catalog.schema import load_schema
from phdl_catalog.database.copy import driver_connection
from phdl_catalog.database.events import record_event
from phdl_catalog.database.models import CATALOG_SCHEMA, ReleaseState
from phdl_catalog.database.roles import READER
from phdl_catalog.errors import ConflictError, NotFoundError, SchemaError, StateError

#: Longest wait for the view's lock: new readers queue behind us meanwhile, so it is short and tried again.
LOCK_TIMEOUT = "2s"

#: How long to try before giving up on readers that hold the view [s].
PATIENCE = 60.0

#: Key of the advisory lock that lets one publisher at a time go.
_LOCK = 7_034_252


@dataclass(frozen=True)
class PublishReport:
    """What a swap did.

    Parameters
    ----------
    published : str
        Release that readers see now.
    superseded : str or None
        Release they saw before.
    n_rows : int
        Number of stars.
    view : str
        Name readers use.
    """

    published: str
    superseded: str | None
    n_rows: int
    view: str


def view_name() -> str:
    """Full name of the published table, as readers use it: ``catalog.subgiant``."""
    return f"{CATALOG_SCHEMA}.{load_schema().table}"


def publish_release(engine: Engine, name: str, *, patience: float = PATIENCE) -> PublishReport:
    """Make a release the published one.

    A reader sees the old release or the new one, never neither and never both.

    Parameters
    ----------
    engine : Engine
        The database, as its owner.
    name : str
        A candidate, or a release that was published before.
    patience : float
        How long to wait for readers that hold the old one [s].

    Raises
    ------
    NotFoundError
        If there is no such release, or its table is gone.
    StateError
        If it is a draft or published already, or readers do not let go of the view.
    ConflictError
        If somebody made views of the published table.
    """

    def choose(connection: Connection) -> CatalogReleaseInfo:
        release = get_catalog_release(connection, name)
        if release.state is ReleaseState.DRAFT:
            raise StateError(f"release '{name}' is a draft: `phdl catalog check {name}` makes it a candidate")
        if release.state is ReleaseState.PUBLISHED:
            raise StateError(f"release '{name}' is the published one already")
        return release

    return _swap(engine, choose, "published", patience)


def rollback_release(engine: Engine, *, patience: float = PATIENCE) -> PublishReport:
    """Publish again the release that the present one took the place of.

    Two rollbacks go back two releases; `publish_release` goes forward.

    Raises
    ------
    StateError
        If nothing is published, or nothing was before, or readers do not let go of the view.
    """

    def choose(connection: Connection) -> CatalogReleaseInfo:
        current = published_release(connection)
        if current is None:
            raise StateError("no catalogue release is published: there is nothing to go back from")
        subject = {"subject": current.subject}
        earlier = connection.scalar(statement("releases", "published_instead_of"), subject)
        if earlier is None:
            raise StateError(
                f"no release was published before '{current.name}': there is nothing to go back to"
            )
        return get_catalog_release(connection, earlier)

    return _swap(engine, choose, "rolled_back", patience)


def _swap(
    engine: Engine, choose: Callable[[Connection], CatalogReleaseInfo], action: str, patience: float
) -> PublishReport:
    """Swap in one transaction, again and again while a reader holds the view."""
    retrying = Retrying(
        retry=retry_if_exception(_is_lock_timeout),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(patience),
        retry_error_callback=_give_up,
    )
    result: PublishReport = retrying(_swap_once, engine, choose, action)
    return result


def _swap_once(
    engine: Engine, choose: Callable[[Connection], CatalogReleaseInfo], action: str
) -> PublishReport:
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        release = choose(connection)
        if not table_exists(connection, release.full_name):
            raise NotFoundError(
                f"the table {release.full_name} of release '{release.name}' is gone: build it again"
            )
        if release.schema_version.split(".")[0] != load_schema().version.split(".")[0]:
            raise SchemaError(
                f"release '{release.name}' has columns of version {release.schema_version}, this version "
                f"of the code publishes {load_schema().version}: build it again"
            )
        superseded = connection.scalar(statement("releases", "mark_superseded"))
        connection.execute(
            statement("releases", "mark_published"),
            {"catalog_release_id": release.catalog_release_id, "anew": action == "published"},
        )
        _replace_view(connection, release)
        record_event(
            connection, release.subject, action, {"superseded": superseded, "n_rows": release.n_rows}
        )
        if superseded is not None:
            record_event(connection, f"catalog_release:{superseded}", "superseded", {"by": release.name})
    return PublishReport(release.name, superseded, release.n_rows or 0, view_name())


def _replace_view(connection: Connection, release: CatalogReleaseInfo) -> None:
    """Point the view at a release's table, with its comments, and let the reader read both."""
    view = sql.Identifier(CATALOG_SCHEMA, load_schema().table)
    table = sql.Identifier(CATALOG_SCHEMA, release.table.name)
    reader = sql.Identifier(READER)
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in release.columns)
    with driver_connection(connection).cursor() as cursor:
        cursor.execute(
            "SELECT obj_description(%s::regclass, 'pg_class')", (f"{CATALOG_SCHEMA}.{release.table.name}",)
        )
        found = cursor.fetchone()
        description = found[0] if found else None
        try:
            cursor.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise ConflictError(
                f"other objects use {view_name()}, it cannot be swapped: {error.diag.message_detail}; "
                f"let them use a release's own table, {release.full_name}"
            ) from error
        statements = [
            sql.SQL("CREATE VIEW {} AS SELECT {} FROM {}").format(view, names, table),
            sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(description)),
            *(
                sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                    view, sql.Identifier(column.name), sql.Literal(column.comment)
                )
                for column in release.columns
            ),
            sql.SQL("GRANT SELECT ON {}, {} TO {}").format(view, table, reader),
        ]
        cursor.execute(sql.SQL("; ").join(statements))


def _is_lock_timeout(error: BaseException) -> bool:
    origin = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(origin, psycopg.errors.LockNotAvailable)


def _give_up(state: RetryCallState) -> Any:
    cause = state.outcome.exception() if state.outcome else None
    raise StateError(
        f"readers hold {view_name()} open and do not let go; nothing was changed: look for long transactions "
        f"in pg_stat_activity, end them, and publish again"
    ) from cause
