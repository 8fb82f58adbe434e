"""``phdl worker`` as a person starts it: real fits, a worker that hangs, what it shows and what it hides."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from pathlib import Path

import psutil
import pytest
from job_examples import add_observations, enqueue_all
from job_stage import Stage
from sqlalchemy import text

from phdl_catalog.emulator.model import Emulator
from phdl_catalog.services.redis_server import connect_broker

SPECTRA = 24
SECRET = "hunter2-is-no-password"


def test_a_stuck_worker_is_started_again_and_the_machine_shows_all_but_its_secrets(
    empty_stage: Stage, model: Emulator, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = empty_stage
    _demand_a_password(stage, monkeypatch)
    port = _free_port()
    machine = stage.start("phdl_catalog.cli.main", "worker", "--metrics-port", str(port), PHDL_LOG_JSON="1")
    stage.wait_until(lambda: "ready." in stage.log.read_text(), "a worker")
    celery = next(child for child in psutil.Process(machine.pid).children() if "celery" in child.cmdline())
    os.killpg(celery.pid, signal.SIGSTOP)
    add_observations(stage.engine, model, SPECTRA)
    enqueue_all(stage.engine, model, model_file, chunk_size=4)
    stage.wait_until(lambda: stage.events("restarted") > 0, "a restart")
    stage.wait_for_the_end(timeout=120)
    stage.assert_all_is_accounted_for(SPECTRA)
    titles = _command_lines(machine.pid)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        shown = answer.read().decode()
    machine.send_signal(signal.SIGTERM)
    assert machine.wait(timeout=60) == 0
    for line in (
        'phdl_spectra_total{result="fitted"} 24.0',
        'phdl_chunks_total{outcome="done"} 6.0',
        'phdl_chunk_seconds_count{phase="fit"} 6.0',
        "phdl_runs_finished_total 1.0",
        "phdl_dispatcher_leads",
    ):
        assert line in shown
    assert len(titles) > 3
    assert not [title for title in titles if SECRET in title]
    assert SECRET not in stage.log.read_text()
    # What Celery says on stdout would stand in the document of --json, and between logs as JSON.
    assert stage.said("shutdown (MainProcess)") == 0
    assert '"obsid": "1..4 (4)"' in stage.log.read_text()


def test_processes_of_older_code_end_when_the_database_is_upgraded(stage: Stage) -> None:
    keeper, worker = stage.dispatcher(), stage.worker(TEST_SECONDS="0.4")
    stage.wait_for_a_chunk()
    revision = _set_revision(stage, "of_the_future")
    assert keeper.wait(timeout=30) == 1
    worker.wait(timeout=30)
    said = stage.log.read_text()
    assert "the dispatcher ends: the database schema is at revision of_the_future" in said
    assert "this worker ends: the database schema is at revision of_the_future" in said
    assert "install the newer phdl-catalog on this machine" in said
    assert not stage.is_running()
    _set_revision(stage, revision)
    stage.dispatcher()
    stage.worker()
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(SPECTRA)


def _demand_a_password(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect_broker() as client:
        client.config_set("requirepass", SECRET)
    broker = os.environ["PHDL_BROKER_URL"].replace("://", f"://:{SECRET}@", 1)
    monkeypatch.setenv("PHDL_BROKER_URL", broker)
    monkeypatch.setenv(
        "PHDL_DATABASE_URL", os.environ["PHDL_DATABASE_URL"].replace("phdl@", f"phdl:{SECRET}@", 1)
    )


def _set_revision(stage: Stage, revision: str) -> str:
    with stage.engine.begin() as connection:
        old = connection.scalar(text("SELECT version_num FROM phdl.alembic_version"))
        connection.execute(text("UPDATE phdl.alembic_version SET version_num = :new"), {"new": revision})
    return str(old)


def _command_lines(pid: int) -> list[str]:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return [" ".join(process.cmdline()) for process in family]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
