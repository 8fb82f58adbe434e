"""The embedded servers start, stop, survive what machines do to them, and open no port."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from phdl_catalog import services
from phdl_catalog.database.events import record_event
from phdl_catalog.database.session import connect, connect_reader
from phdl_catalog.errors import ServiceError
from phdl_catalog.services.account import Account
from phdl_catalog.services.lock import services_lock
from phdl_catalog.services.postgres_server import PostgresServer
from phdl_catalog.settings import Settings


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    """Settings of a data directory of its own, inside a directory that only its owner may enter."""
    parent = Path(tempfile.mkdtemp(prefix="phdl-up-"))
    settings = Settings(data_dir=parent / "data", database_url=None, broker_url=None)
    yield settings
    services.down(settings)
    shutil.rmtree(parent)
    shutil.rmtree(settings.socket_dir, ignore_errors=True)


@pytest.fixture
def running(settings: Settings) -> Settings:
    """The same, with both servers up."""
    services.up(settings)
    return settings


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_starts_at_once_give_one_pair_of_servers(settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(services.up, [settings, settings]))
    first = [status.pid for status in services.status(settings)]
    services.up(settings)
    assert [status.pid for status in services.status(settings)] == first
    assert all(first)


def test_no_tcp_port_is_open(running: Settings) -> None:
    for status in services.status(running):
        process = psutil.Process(status.pid)
        family = [process, *process.children(recursive=True)]
        assert [connection for one in family for connection in one.net_connections("inet")] == []


def test_postgres_does_not_run_as_root(running: Settings) -> None:
    pid = services.status(running)[0].pid
    assert psutil.Process(pid).uids().effective != 0


def test_nobody_else_may_enter_the_directory_of_the_sockets(running: Settings) -> None:
    assert running.socket_dir.stat().st_mode & 0o077 == 0


def test_status_knows_versions_sizes_and_the_schema(running: Settings) -> None:
    postgres, redis = services.status(running)
    assert (postgres.name, postgres.running, postgres.embedded) == ("postgresql", True, True)
    assert postgres.version is not None
    assert postgres.version.startswith("18.")
    assert postgres.detail is not None
    assert postgres.detail.startswith("schema 0")
    assert postgres.size is not None
    assert postgres.size > 1e6
    assert (redis.name, redis.running) == ("redis", True)


def test_the_reader_logs_in_by_the_socket(running: Settings) -> None:
    with connect_reader(running).connect() as connection:
        assert connection.scalar(text("SELECT session_user")) == "phdl_reader"


def test_servers_come_back_after_kill_9_with_what_was_committed(running: Settings) -> None:
    with connect(running, pooled=False).begin() as connection:
        record_event(connection, "test:kill", "committed")
    for status in services.status(running):
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
    _wait(lambda: not any(status.running for status in services.status(running)))
    services.up(running)
    with connect(running, pooled=False).connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM phdl.event WHERE subject = 'test:kill'")) == 1


def test_a_pid_file_that_names_another_program_is_stale(running: Settings) -> None:
    postgres = services.embedded_postgres(running)
    redis = services.embedded_redis(running)
    pid_file = postgres.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    services.down(running)
    # As after a reboot: the number now belongs to this very process.
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    (redis.directory / "redis.pid").write_text(str(os.getpid()))
    assert not any(status.running for status in services.status(running))
    services.up(running)
    assert all(status.running for status in services.status(running))


def test_down_stops_both_and_a_second_down_finds_nothing(running: Settings) -> None:
    assert services.down(running) == ["redis", "postgresql"]
    assert services.down(running) == []
    postgres, redis = services.status(running)
    assert not postgres.running
    assert not redis.running
    assert postgres.detail == redis.detail == "not running: `phdl up` starts it"


def test_an_interrupted_initialisation_does_not_stand_in_the_way(server_dir: Path) -> None:
    directory = server_dir / "interrupted"
    server = PostgresServer(directory, directory / "run", durable=False, shared_buffers=16)
    try:
        (server.directory / "data.new" / "base").mkdir(parents=True)
        (server.directory / "data.new" / "PG_VERSION").write_text("18\n")
        server.start()
        assert server.answers()
    finally:
        server.stop()


def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path: Path) -> None:
    deep = Settings(data_dir=tmp_path / ("d" * 120), database_url=None, broker_url=None)
    server = services.embedded_redis(deep)
    try:
        assert server.start()
        assert server.answers()
    finally:
        server.stop()
        shutil.rmtree(deep.socket_dir)


def test_data_of_another_version_are_left_alone_with_a_clear_message(settings: Settings) -> None:
    services.down(settings)
    server = services.embedded_postgres(settings)
    version = server.data / "PG_VERSION"
    content = version.read_text()
    version.write_text("17\n")
    try:
        with pytest.raises(ServiceError, match="are of PostgreSQL 17, the installed one is 18"):
            services.up(settings)
    finally:
        version.write_text(content)


def test_a_lock_that_is_held_is_said_so(tmp_path: Path) -> None:
    with (
        services_lock(tmp_path),
        pytest.raises(ServiceError, match="another process has been starting"),
        services_lock(tmp_path, timeout=0.2),
    ):
        pass


def test_mode_bits_say_what_another_user_may_read(tmp_path: Path) -> None:
    stranger = Account(uid=54321, gid=54321)
    file = tmp_path / "file"
    file.touch(mode=0o644)
    for place in (tmp_path, *tmp_path.parents):
        if not place.stat().st_mode & 0o001:
            break
    else:
        assert stranger.may_read(file)
    tmp_path.chmod(0o700)
    assert not stranger.may_read(file)
    assert Account(os.geteuid(), os.getegid()).may_read(file)


def test_servers_whose_urls_are_given_are_used_and_not_started(
    database: object, broker: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHDL_DATA_DIR", str(tmp_path))
    services.up()
    postgres, redis = services.status()
    assert (postgres.running, postgres.embedded, postgres.pid) == (True, False, None)
    assert (redis.running, redis.embedded, redis.pid) == (True, False, None)
    assert not (tmp_path / "postgresql").exists()
    assert services.down() == []


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHDL_DATABASE_URL", "postgresql://me:secret@localhost:1/x")
    monkeypatch.setenv("PHDL_BROKER_URL", "redis://:secret@localhost:1/0")
    statuses = services.status()
    assert not any(status.running for status in statuses)
    assert "secret" not in repr(statuses)
