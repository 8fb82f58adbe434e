"""A stage for each test: servers that belong to these tests alone, started once and mended after each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from job_examples import add_observations, enqueue_all, load, small_model
from job_stage import Stage
from sqlalchemy import create_engine

from phdl_catalog.database import migrate
from phdl_catalog.database.session import connect
from phdl_catalog.emulator.model import Emulator
from phdl_catalog.services.postgres_server import PostgresServer
from phdl_catalog.services.redis_server import RedisServer

_TEMPLATE = "phdl_template"

#: Spectra of a run, and of a chunk.
SPECTRA, CHUNK = 24, 4


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a small model with four labels."""
    return small_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def model(model_file: Path) -> Emulator:
    return load(model_file)


@pytest.fixture(scope="session")
def own_postgres(server_dir: Path) -> Iterator[PostgresServer]:
    """A server that keeps what it confirmed even when it is killed, with a migrated template."""
    server = PostgresServer(server_dir / "faults", server_dir / "faults-run", shared_buffers=64)
    server.start()
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_TEMPLATE}")
    engine = create_engine(server.url(_TEMPLATE).replace("postgresql:", "postgresql+psycopg:", 1))
    migrate.upgrade(engine)
    engine.dispose()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def own_redis(server_dir: Path) -> Iterator[RedisServer]:
    server = RedisServer(server_dir / "faults-redis", server_dir / "faults-redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def empty_stage(
    own_postgres: PostgresServer,
    own_redis: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """Servers, and a fresh migrated database without a release."""
    with psycopg.connect(own_postgres.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS stage WITH (FORCE)")
        connection.execute(f"CREATE DATABASE stage TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY")
        # Rights on the database itself are not copied from the template.
        connection.execute("REVOKE TEMPORARY ON DATABASE stage FROM PUBLIC")
        connection.execute("GRANT TEMPORARY ON DATABASE stage TO phdl_worker")
    own_redis.stop()
    own_redis.start()
    monkeypatch.setenv("PHDL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PHDL_DATABASE_URL", own_postgres.url("stage"))
    monkeypatch.setenv("PHDL_BROKER_URL", own_redis.url)
    engine = connect(pooled=False)
    log = tmp_path / "processes.log"
    log.touch()
    stage = Stage(engine, own_postgres, own_redis, log)
    yield stage
    stage.end()


@pytest.fixture
def stage(empty_stage: Stage, model: Emulator, model_file: Path) -> Stage:
    """Twenty-four spectra in chunks of four, enqueued."""
    add_observations(empty_stage.engine, model, SPECTRA)
    enqueue_all(empty_stage.engine, model, model_file, chunk_size=CHUNK)
    return empty_stage
