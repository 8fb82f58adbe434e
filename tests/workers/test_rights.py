"""The worker's role: enough for a chunk's whole life, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_examples import add_observations, bench, counts, enqueue_all
from job_fits import poisoned, quick_fit
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError
from typer.testing import CliRunner

from phdl_catalog.cli.main import app
from phdl_catalog.database.roles import WORKER
from phdl_catalog.emulator.model import Emulator
from phdl_catalog.errors import StateError
from phdl_catalog.services.postgres_server import PostgresServer
from workers.failures import classify
from workers.fitting import ChunkOutcome, run_chunk
from workers.supervisor import WorkerOptions


@pytest.fixture
def as_worker(
    database: Engine,
    model: Emulator,
    model_file: Path,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Engine:
    """Four spectra in one chunk; the settings connect as the worker's role."""
    add_observations(database, model, 4)
    enqueue_all(database, model, model_file, chunk_size=4)
    monkeypatch.setenv("PHDL_DATABASE_URL", postgres.url(str(database.url.database), WORKER))
    return database


def test_the_workers_role_can_fit_split_and_quarantine(as_worker: Engine) -> None:
    used = bench(poisoned({2}))
    with used.engine.connect() as connection:
        assert connection.scalar(text("SELECT current_user")) == WORKER
    for _ in range(10):
        with as_worker.connect() as connection:
            planned = list(
                connection.scalars(text("SELECT fit_chunk_id FROM phdl.fit_chunk WHERE state = 'planned'"))
            )
        for chunk in planned:
            run_chunk(chunk, used)
    assert counts(as_worker) == {"fits": 4, "spectra_fitted": 4, "labelled": 3, "spectra": 4, "open": 0}


def test_a_claim_is_all_a_worker_needs(as_worker: Engine) -> None:
    assert run_chunk(1, bench(quick_fit)) is ChunkOutcome.DONE


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE phdl.fit_run SET state = 'done'",
        "DELETE FROM phdl.fit",
        "DELETE FROM phdl.fit_chunk",
        "UPDATE phdl.event SET actor = 'me'",
        "INSERT INTO phdl.data_release (name) VALUES ('mine')",
        "UPDATE phdl.calibration_set SET state = 'certified'",
        "DELETE FROM phdl.calibration_member",
        "SELECT phdl.show_calibration_view(1)",
    ],
)
def test_what_is_not_a_workers_business_is_refused_and_called_permanent(
    as_worker: Engine, statement: str
) -> None:
    with bench(quick_fit).engine.connect() as connection, pytest.raises(ProgrammingError) as caught:
        connection.execute(text(statement))
    assert classify(caught.value) == "permanent"


@pytest.mark.parametrize("command", ["worker", "dispatcher"])
def test_a_dispatcher_with_a_workers_rights_is_not_started_and_told_why(
    as_worker: Engine, command: str
) -> None:
    with pytest.raises(StateError, match=r"phdl_worker may not close runs .* --no-dispatcher"):
        CliRunner().invoke(app, [command], catch_exceptions=False)


def test_processes_and_their_threads_do_not_exceed_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHDL_THREADS", "8")
    assert WorkerOptions().processes == 8
    assert WorkerOptions(threads=4).processes == 2
    assert WorkerOptions(threads=16).processes == 1
    assert WorkerOptions(device="cuda").processes == 1
    assert WorkerOptions(concurrency=3).processes == 3
