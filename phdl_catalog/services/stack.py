"""Both servers together: start, stop, and what runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil
import redis
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from phdl_catalog.database import migrate
from phdl_catalog.database.session import connect, database_url
from phdl_catalog.errors import PhdlError, ServiceError
from phdl_catalog.services.lock import services_lock
from phdl_catalog.services.postgres_server import PostgresServer
from phdl_catalog.services.redis_server import RedisServer, broker_url, connect_broker
from phdl_catalog.settings import Settings, get_settings


@dataclass(frozen=True)
class ServiceStatus:
    """What is known of one server.

    Parameters
    ----------
    name : str
        ``postgresql`` or ``redis``.
    embedded : bool
        Whether `phdl up` starts it; otherwise its URL was given.
    running : bool
        Whether it answers.
    url : str
        Where it is, without a password.
    version : str or None
        Version of the server; None if it does not answer.
    pid : int or None
        Process id, of an embedded one.
    started_at : str or None
        When an embedded one was started, ISO 8601.
    size : int or None
        Size of its data [byte].
    directory : str or None
        Where an embedded one keeps its data and its log.
    detail : str or None
        The database's schema revision, or why the server does not answer.
    """

    name: str
    embedded: bool
    running: bool
    url: str
    version: str | None = None
    pid: int | None = None
    started_at: str | None = None
    size: int | None = None
    directory: str | None = None
    detail: str | None = None


def embedded_postgres(settings: Settings | None = None) -> PostgresServer:
    """The embedded PostgreSQL of the settings."""
    settings = settings or get_settings()
    return PostgresServer(settings.data_dir.absolute() / "postgresql", settings.socket_dir)


def embedded_redis(settings: Settings | None = None) -> RedisServer:
    """The embedded Redis of the settings."""
    settings = settings or get_settings()
    return RedisServer(settings.data_dir.absolute() / "redis", settings.socket_dir)


def up(settings: Settings | None = None, *, report: Callable[[str], None] = lambda step: None) -> None:
    """Start what is not running and bring the database to the code's schema.

    Calling it twice, or twice at once, is harmless.  Servers whose URL is given are used, not started.

    Parameters
    ----------
    settings : Settings, optional
        Read from the environment by default.
    report : callable
        Told each step in words.

    Raises
    ------
    ServiceError
        If a server cannot be started or reached.
    """
    settings = settings or get_settings()
    with services_lock(settings.data_dir):
        if settings.database_url is None:
            report("starting PostgreSQL")
            embedded_postgres(settings).start()
        if settings.broker_url is None:
            report("starting Redis")
            embedded_redis(settings).start()
        report("upgrading the database schema")
        engine = connect(settings, pooled=False)
        migrate.upgrade(engine)
    client = connect_broker(settings)
    try:
        client.ping()
    except redis.RedisError as error:
        raise ServiceError(f"the broker does not answer: {error}; check PHDL_BROKER_URL") from error
    finally:
        client.close()


def down(settings: Settings | None = None, *, report: Callable[[str], None] = lambda step: None) -> list[str]:
    """Stop the embedded servers cleanly.

    Returns
    -------
    list of str
        Names of the servers that ran and were stopped.
    """
    settings = settings or get_settings()
    if not settings.data_dir.exists():
        return []
    stopped = []
    with services_lock(settings.data_dir):
        report("stopping Redis")
        if embedded_redis(settings).stop():
            stopped.append("redis")
        report("stopping PostgreSQL")
        if embedded_postgres(settings).stop():
            stopped.append("postgresql")
    return stopped


def status(settings: Settings | None = None) -> list[ServiceStatus]:
    """What runs, PostgreSQL first; never raises because a server is down."""
    settings = settings or get_settings()
    return [_postgres_status(settings), _redis_status(settings)]


def _postgres_status(settings: Settings) -> ServiceStatus:
    embedded = settings.database_url is None
    server = embedded_postgres(settings)
    pid = server.pid() if embedded else None
    fields: dict[str, object] = {"running": False}
    engine = connect(settings, pooled=False)
    if embedded and pid is None:
        fields["detail"] = "not running: `phdl up` starts it"
    else:
        try:
            with engine.connect() as connection:
                version = str(connection.scalar(text("SHOW server_version")))
                size = connection.scalar(text("SELECT pg_database_size(current_database())"))
                fields = {"running": True, "version": version, "size": size}
            fields["detail"] = migrate.describe(engine)
        except (PhdlError, SQLAlchemyError) as error:
            fields["detail"] = str(error).splitlines()[0]
    return ServiceStatus(
        name="postgresql",
        embedded=embedded,
        url=database_url(settings).set(drivername="postgresql").render_as_string(hide_password=True),
        pid=pid,
        started_at=_started_at(pid),
        directory=str(server.directory) if embedded else None,
        **fields,  # type: ignore[arg-type]
    )


def _redis_status(settings: Settings) -> ServiceStatus:
    embedded = settings.broker_url is None
    server = embedded_redis(settings)
    pid = server.pid() if embedded else None
    fields: dict[str, object] = {"running": False}
    if embedded and pid is None:
        fields["detail"] = "not running: `phdl up` starts it"
    else:
        client = connect_broker(settings)
        try:
            info = client.info()
            fields = {"running": True, "version": info["redis_version"], "size": info["used_memory"]}
        except redis.RedisError as error:
            fields["detail"] = str(error)
        finally:
            client.close()
    return ServiceStatus(
        name="redis",
        embedded=embedded,
        url=_without_password(broker_url(settings)),
        pid=pid,
        started_at=_started_at(pid),
        directory=str(server.directory) if embedded else None,
        **fields,  # type: ignore[arg-type]
    )


def _started_at(pid: int | None) -> str | None:
    try:
        started = psutil.Process(pid).create_time() if pid else None
    except psutil.NoSuchProcess:
        return None
    return datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds") if started else None


def _without_password(url: str) -> str:
    if "@" not in url:
        return url
    return make_url(url).render_as_string(hide_password=True)
