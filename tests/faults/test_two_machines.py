"""A worker on another machine, with nothing but URLs and passwords: it works, and its cable is pulled."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from job_examples import add_observations, enqueue_all
from job_stage import Stage
from job_wire import Wire, wired

from phdl_catalog.emulator.model import Emulator
from phdl_catalog.services.redis_server import program

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
import s3fs

SPECTRA = 24
PASSWORD = "hunter2"
_REDIS, _S3 = 6380, 9100


@pytest.fixture
def wire() -> Iterator[Wire]:
    with wired() as made:
        yield made


@pytest.fixture
def remote(
    empty_stage: Stage, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """What is set on the other machine; servers listen on this end of the wire."""
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{wire.here}:{_S3}", "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": PASSWORD, "AWS_DEFAULT_REGION": "us-east-1",
        "PHDL_STORE_URL": "s3://survey/shards",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PHDL_BROKER_URL", f"redis://:{PASSWORD}@{wire.here}:{_REDIS}/0")
    with _listening_postgres(empty_stage, wire), _redis(wire, tmp_path), _s3(wire, tmp_path):
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem(skip_instance_cache=True).makedirs("survey", exist_ok=True)
        yield {
            "PHDL_DATABASE_URL": f"postgresql://phdl_worker:{PASSWORD}@{wire.here}/stage",
            "PHDL_DATA_DIR": str(tmp_path / "other machine"),
        }
        empty_stage.end()


def test_a_worker_of_another_network_fits_and_outlives_a_pulled_cable(
    empty_stage: Stage, remote: dict[str, str], wire: Wire, model: Emulator, model_file: Path
) -> None:
    stage = empty_stage
    add_observations(stage.engine, model, SPECTRA)
    enqueue_all(stage.engine, model, model_file, chunk_size=4)
    stage.dispatcher()
    stage.prefix = wire.prefix
    stage.worker(TEST_SECONDS="0.3", **remote)
    stage.wait_until(lambda: stage.number(_DONE) > 0, "a chunk that is done")
    stage.wait_for_a_chunk()
    wire.pull()
    stage.wait_until(lambda: stage.events("failed") > 0, "a chunk that is taken back")
    wire.plug()
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(SPECTRA)
    assert PASSWORD not in stage.log.read_text()


_DONE = "SELECT count(*) FROM phdl.fit_chunk WHERE state = 'done'"


@contextmanager
def _listening_postgres(stage: Stage, wire: Wire) -> Iterator[None]:
    """The server, with a port on the wire and a password for workers."""
    rules = stage.postgres.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"{before}\nhost stage phdl_worker {wire.there}/32 scram-sha-256\n")
    _configure(stage, f"SET listen_addresses = '{wire.here}'")
    with psycopg.connect(stage.postgres.url("stage"), autocommit=True) as connection:
        connection.execute(f"ALTER ROLE phdl_worker PASSWORD '{PASSWORD}'")
    try:
        yield
    finally:
        rules.write_text(before)
        _configure(stage, "RESET listen_addresses")


def _configure(stage: Stage, setting: str) -> None:
    with psycopg.connect(stage.postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM {setting}")  # type: ignore[arg-type]
    stage.restart_postgres(away=0.0)


@contextmanager
def _redis(wire: Wire, folder: Path) -> Iterator[None]:
    settings = folder / "redis.conf"
    settings.write_text(f'bind {wire.here}\nport {_REDIS}\nrequirepass {PASSWORD}\nsave ""\ndir "{folder}"\n')
    with _server([str(program()), str(settings)], folder):
        yield


@contextmanager
def _s3(wire: Wire, folder: Path) -> Iterator[None]:
    code = f"from moto.server import main; main(['-H', '{wire.here}', '-p', '{_S3}'])"
    with _server([sys.executable, "-c", code], folder):
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://{wire.here}:{_S3}", timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < end, "the S3 server does not answer"
                time.sleep(0.1)
        yield


@contextmanager
def _server(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / "servers.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()
