"""Connections: which database, and with which habits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from phdl_catalog.errors import ServiceError
from phdl_catalog.settings import Settings, get_settings

#: Name of the database inside the embedded server, and of its owner.
EMBEDDED_DATABASE = "phdl"
EMBEDDED_OWNER = "phdl"


def database_url(settings: Settings | None = None) -> URL:
    """The database to use: ``PHDL_DATABASE_URL``, or the embedded server's socket.

    Any spelling of a PostgreSQL URL is taken (``postgres://``, ``postgresql://``,
    ``postgresql+psycopg://``); the driver is always psycopg 3.
    """
    settings = settings or get_settings()
    if settings.database_url is not None:
        url = make_url(settings.database_url.get_secret_value())
    else:
        host = quote(str(settings.socket_dir), safe="")
        url = make_url(f"postgresql://{EMBEDDED_OWNER}@/{EMBEDDED_DATABASE}?host={host}")
    return url.set(drivername="postgresql+psycopg")


def connect(settings: Settings | None = None, *, pooled: bool = True) -> Engine:
    """An engine for the database of the settings; no connection is made yet.

    Parameters
    ----------
    settings : Settings, optional
        Where the database is; read from the environment by default.
    pooled : bool
        Keep connections for re-use.  An engine must not cross a fork: call ``dispose(close=False)`` in
        the child, or make the engine there.

    Returns
    -------
    Engine
        Its sessions speak UTC and are named in ``pg_stat_activity``.
    """
    options: dict[str, object] = {"pool_pre_ping": True} if pooled else {"poolclass": NullPool}
    engine = create_engine(
        database_url(settings),
        connect_args={"application_name": "phdl", "connect_timeout": 10, "options": "-c TimeZone=UTC"},
        **options,
    )
    event.listen(engine, "handle_error", _explain)
    return engine


def _explain(context: object) -> None:
    """A server that does not answer is our error, with what to do next."""
    error = getattr(context, "original_exception", None)
    if getattr(context, "connection", None) is None and getattr(context, "is_disconnect", False) is False:
        first_line = str(error).strip().splitlines()[0] if error else "no answer"
        raise ServiceError(
            f"the database does not answer: {first_line}; "
            "`phdl up` starts the embedded one, PHDL_DATABASE_URL names another"
        ) from error


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
