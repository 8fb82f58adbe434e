"""Connections: which database, and with which habits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from phdl_catalog.database.roles import READER, READER_HABITS
from phdl_catalog.errors import InputError, ServiceError
from phdl_catalog.settings import Settings, get_settings

#: Name of the database inside the embedded server, and of its owner.
EMBEDDED_DATABASE = "phdl"
EMBEDDED_OWNER = "phdl"


def socket_url(socket_dir: Path, database: str = EMBEDDED_DATABASE, user: str = EMBEDDED_OWNER) -> str:
    """libpq URL of a database behind a Unix socket."""
    return f"postgresql://{user}@/{database}?host={quote(str(socket_dir), safe='')}"


def database_url(settings: Settings | None = None) -> URL:
    """The database to use: ``PHDL_DATABASE_URL``, or the embedded server's socket.

    Any spelling of a PostgreSQL URL is taken (``postgres://``, ``postgresql://``,
    ``postgresql+psycopg://``); the driver is always psycopg 3.
    """
    settings = settings or get_settings()
    if settings.database_url is not None:
        return _psycopg(settings.database_url.get_secret_value())
    return _psycopg(socket_url(settings.socket_dir))


def connect(
    settings: Settings | None = None,
    *,
    pooled: bool = True,
    wait_for_disk: bool = True,
    silence: float | None = None,
) -> Engine:
    """An engine for the database of the settings; no connection is made yet.

    Parameters
    ----------
    settings : Settings, optional
        Where the database is; read from the environment by default.
    pooled : bool
        Keep connections for re-use.  An engine must not cross a fork: call ``dispose(close=False)`` in
        the child, or make the engine there.
    wait_for_disk : bool
        False for work that is done again if it is lost: a commit then returns before it is on disk.  A crash
        of the server may undo the last half second of such commits, never one without those after it, and
        any later commit that waits makes all before it safe.
    silence : float, optional
        Longest time without a word from here in the middle of a transaction [s]; then the server ends the
        session.  A process that is frozen, or whose machine is gone, must not keep its locks for ever.

    Returns
    -------
    Engine
        Its sessions speak UTC, are named in ``pg_stat_activity``, and search no schema but ``public``: our
        tables are always written with theirs.
    """
    options = {"pool_pre_ping": True} if pooled else {"poolclass": NullPool}
    habits = {"search_path": "public"}
    if not wait_for_disk:
        habits["synchronous_commit"] = "off"
    if silence is not None:
        habits |= _silence(silence)
    return _engine(database_url(settings), habits, **options)


def _silence(seconds: float) -> dict[str, str]:
    """Settings that end the session of a client from which nothing is heard."""
    return {
        "idle_in_transaction_session_timeout": f"{1000 * seconds:.0f}ms",
        # While rows are copied the server waits inside a statement.
        "statement_timeout": f"{10_000 * seconds:.0f}ms",
        # A machine that is gone without a word, and may hold the lock of the leading dispatcher.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }


def connect_reader(settings: Settings | None = None) -> Engine:
    """An engine whose sessions are those of the read-only role.

    ``PHDL_READER_URL``, or the embedded server's socket as the reader.  With ``PHDL_DATABASE_URL`` alone its
    user becomes the reader after connecting: that guards against mistakes, not against malice, so a service
    open to others sets ``PHDL_READER_URL``.
    """
    settings = settings or get_settings()
    if settings.reader_url is not None:
        engine = _engine(_psycopg(settings.reader_url.get_secret_value()), poolclass=NullPool)
    elif settings.database_url is None:
        engine = _engine(_psycopg(socket_url(settings.socket_dir, user=READER)), poolclass=NullPool)
    else:
        engine = connect(settings, pooled=False)
        event.listen(engine, "connect", _become_reader)
    return engine


def _become_reader(connection: DBAPIConnection, record: object) -> None:
    # The habits of a role (ALTER ROLE ... SET) come with a login only, not with SET ROLE.
    cursor = connection.cursor()
    for name, value in READER_HABITS.items():
        cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
    cursor.execute(f"SET ROLE {READER}")
    cursor.close()
    connection.commit()


def _psycopg(url: str) -> URL:
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        # Nothing of it is quoted: it holds a password.
        raise InputError(
            "the URL of the database cannot be read; PHDL_DATABASE_URL has the form "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in the password"
        ) from None


#: A server that is gone without a word is noticed within a minute or so (of no effect on Unix sockets).
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


def _engine(url: URL, habits: Mapping[str, str] | None = None, **options: Any) -> Engine:
    settings = {"TimeZone": "UTC", **(habits or {})}
    connect_args = {
        "application_name": "phdl",
        "connect_timeout": 10,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        **_KEEPALIVES,
    }
    engine = create_engine(url, connect_args=connect_args, **options)
    event.listen(engine, "handle_error", _explain)
    return engine


def _explain(context: ExceptionContext) -> None:
    """A server that does not answer is our error, with what to do next."""
    if context.is_pre_ping:
        return  # a connection of the pool that died meanwhile is replaced
    if context.connection is None and isinstance(context.original_exception, psycopg.OperationalError):
        first_line = str(context.original_exception).strip().splitlines()[0]
        raise ServiceError(
            f"the database does not answer: {first_line}; "
            "`phdl up` starts the embedded one, PHDL_DATABASE_URL names another"
        ) from context.original_exception


@contextmanager
def session_scope(engine: Engine | None = None) -> Iterator[Session]:
    """One unit of work: committed at the end, rolled back if anything is raised.

    Parameters
    ----------
    engine : Engine, optional
        By default one is made from the settings for this unit of work and disposed of after it.
    """
    own = engine is None
    used = connect(pooled=False) if engine is None else engine
    try:
        with Session(used) as session, session.begin():
            yield session
    finally:
        if own:
            used.dispose()
