"""Fixtures: a real PostgreSQL and a real Redis, started once; a fresh migrated database for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine

from phdl_catalog.database import migrate
from phdl_catalog.database.roles import READER
from phdl_catalog.database.session import connect
from phdl_catalog.services.postgres_server import PostgresServer
from phdl_catalog.services.redis_server import RedisServer, connect_broker

_TEMPLATE = "phdl_template"

#: Faults of the random schedule that runs with the other tests.
_FEW_FAULTS = 8
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("phdl-catalog")
    group.addoption("--seed", type=int, default=1, help="seed of the random schedule of faults")
    group.addoption("--faults", type=int, default=_FEW_FAULTS, help="number of faults of the random schedule")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A long schedule takes its time, some seconds a fault; files with slow tests come first.

    Processes that share the files among them then end together.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if item.nodeid.startswith("tests/faults/test_chaos.py"):
            item.add_marker(pytest.mark.timeout(240 + 15 * config.getoption("--faults")))


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A directory whose path is short enough for a socket; each process of pytest-xdist has its own."""
    memory = Path("/dev/shm")
    # In memory a fresh database costs 30 ms, on a busy disk a second.
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 1024**3
    directory = Path(tempfile.mkdtemp(prefix="phdl-", dir=memory if roomy else None))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_dir: Path) -> Iterator[PostgresServer]:
    """A running embedded PostgreSQL with a migrated template database."""
    server = PostgresServer(server_dir / "postgresql", server_dir / "run", durable=False, shared_buffers=64)
    server.start()
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_TEMPLATE}")
    engine = create_engine(server.url(_TEMPLATE).replace("postgresql:", "postgresql+psycopg:", 1))
    migrate.upgrade(engine)
    engine.dispose()
    yield server
    server.stop()


@pytest.fixture
def empty_database(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A database of its own without any table; ``PHDL_DATABASE_URL`` names it."""
    yield from _database(postgres, "template1", monkeypatch)


@pytest.fixture
def database(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A fresh migrated database of its own; ``PHDL_DATABASE_URL`` and ``PHDL_READER_URL`` name it."""
    yield from _database(postgres, _TEMPLATE, monkeypatch)


@pytest.fixture(scope="session")
def _scratch_engine(postgres: PostgresServer) -> Iterator[Engine]:
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE phdl_scratch TEMPLATE {_TEMPLATE}")
    engine = create_engine(postgres.url("phdl_scratch").replace("postgresql:", "postgresql+psycopg:", 1))
    yield engine
    engine.dispose()


@pytest.fixture
def transaction(_scratch_engine: Engine) -> Iterator[Connection]:
    """A transaction in a migrated database, rolled back at the end: cheaper than `database`."""
    with _scratch_engine.connect() as connection:
        yield connection
        connection.rollback()


def _database(postgres: PostgresServer, template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        if template == _TEMPLATE:
            # Rights on the database itself are not copied from the template.
            migrate_rights = f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"
            connection.execute(migrate_rights)
            connection.execute(f"GRANT TEMPORARY ON DATABASE {name} TO phdl_worker")
    monkeypatch.setenv("PHDL_DATABASE_URL", postgres.url(name))
    monkeypatch.setenv("PHDL_READER_URL", postgres.url(name, READER))
    engine = connect()
    yield engine
    engine.dispose()
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _redis_server(server_dir: Path) -> Iterator[RedisServer]:
    server = RedisServer(server_dir / "redis", server_dir / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def broker(_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A running, empty Redis; ``PHDL_BROKER_URL`` names it."""
    monkeypatch.setenv("PHDL_BROKER_URL", _redis_server.url)
    with connect_broker() as client:
        client.flushall()
    return _redis_server


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's own data directory, nor a .env file."""
    monkeypatch.setenv("PHDL_DATA_DIR", str(tmp_path_factory.getbasetemp() / "data"))
    for name in ("PHDL_DATABASE_URL", "PHDL_READER_URL", "PHDL_BROKER_URL", "PHDL_STORE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def shared_data(pytestconfig: pytest.Config) -> Path:
    """The real survey data beside the repository; the test is skipped where they are absent."""
    path = pytestconfig.rootpath.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"the real survey data are not at {path}")
    return path
