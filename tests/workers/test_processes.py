"""Real Celery processes, killed, frozen and stopped in the middle of chunks: the counts add up every time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from job_examples import add_observations, counts, enqueue_all
from sqlalchemy import Engine, text

from phdl_catalog.emulator.model import Emulator
from phdl_catalog.services.postgres_server import PostgresServer
from phdl_catalog.services.redis_server import RedisServer, connect_broker

TESTS = Path(__file__).parents[1]

#: Patience that suits a test: a worker is given up after two seconds of silence.
TIMES = {
    "PHDL_JOB_LEASE": "2",
    "PHDL_JOB_HEARTBEAT": "0.5",
    "PHDL_JOB_TICK": "0.2",
    "PHDL_JOB_REPUBLISH": "3",
    "PHDL_JOB_REPUBLISH_EMPTY": "1",
    "PHDL_JOB_GRACE": "1",
    "OMP_NUM_THREADS": "1",
    "PHDL_THREADS": "1",
    "PYTHONPATH": str(TESTS),
    "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
}


@contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process while the block lasts; killed with all it started."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=os.environ | TIMES | environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def worker(log: Path, **environment: str) -> object:
    command = [
        "celery",
        "--quiet",
        "-A",
        "job_worker",
        "worker",
        "--concurrency",
        "1",
        "--queues",
        "phdl.fit",
    ]
    options = ["--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return running([*command, *options], log, **environment)


def dispatcher(log: Path) -> object:
    return running(["workers.dispatch_forever"], log)


def wait_until(condition: Callable[[], bool], what: str, log: Path, timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what} did not happen in {timeout} s; log:\n{log.read_text()[-6000:]}")
        time.sleep(0.05)


def number(engine: Engine, statement: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(statement)).scalar_one())


def is_running(engine: Engine) -> bool:
    return number(engine, "SELECT count(*) FROM phdl.fit_chunk WHERE state = 'running'") > 0


def is_done(engine: Engine) -> bool:
    return number(engine, "SELECT count(*) FROM phdl.fit_run WHERE state <> 'done'") == 0


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "processes.log"
    path.touch()
    return path


@pytest.fixture
def release(database: Engine, broker: RedisServer, model: Emulator, model_file: Path) -> Engine:
    """Twenty-four spectra in chunks of four."""
    add_observations(database, model, 24)
    enqueue_all(database, model, model_file, chunk_size=4)
    return database


def assert_all_fitted(engine: Engine, labelled: int = 24) -> None:
    assert counts(engine) == {
        "fits": 24, "spectra_fitted": 24, "labelled": labelled, "spectra": 24, "open": 0,
    }  # fmt: skip


def test_kills_everywhere_and_a_flushed_broker_leave_exact_counts(release: Engine, log: Path) -> None:
    with ExitStack() as stack:
        keeper = stack.enter_context(dispatcher(log))
        parent = stack.enter_context(worker(log, TEST_SECONDS="0.4"))
        # The child that fits, in the middle of a chunk.
        wait_until(lambda: is_running(release), "a chunk", log)
        os.kill(psutil.Process(parent.pid).children()[0].pid, signal.SIGKILL)
        wait_until(
            lambda: number(release, "SELECT count(*) FROM phdl.event WHERE action = 'failed'") > 0,
            "a loss",
            log,
        )
        # Everything the broker knows, and the dispatcher.
        wait_until(lambda: is_running(release), "a chunk", log)
        with connect_broker() as client:
            client.flushall()
        os.kill(keeper.pid, signal.SIGKILL)
        stack.enter_context(dispatcher(log))
        # The parent, and with it its child.
        wait_until(lambda: is_running(release), "a chunk", log)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        stack.enter_context(worker(log))
        wait_until(lambda: is_done(release), "the end of the run", log)
    assert_all_fitted(release)
    assert (
        number(
            release, "SELECT count(*) FROM phdl.event WHERE action = 'failed' AND detail->>'kind' = 'lost'"
        )
        >= 2
    )


def test_a_spectrum_that_kills_its_process_is_found_and_the_others_are_fitted(
    release: Engine, log: Path
) -> None:
    with dispatcher(log), worker(log, TEST_DEADLY="7"):
        wait_until(lambda: is_done(release), "the end of the run", log)
    assert_all_fitted(release, labelled=23)
    why = (
        "SELECT count(*) FROM phdl.fit_chunk "
        "WHERE state = 'quarantined' AND error_kind = 'lost' AND n_spectra = 1"
    )
    assert number(release, why) == 1
    obsid = (
        "SELECT s.obsid FROM phdl.fit f JOIN phdl.spectrum s USING (spectrum_id) WHERE f.label_values IS NULL"
    )
    assert number(release, obsid) == 7


def test_a_database_that_restarts_in_the_middle_costs_nothing_but_time(
    release: Engine, postgres: PostgresServer, log: Path
) -> None:
    with dispatcher(log), worker(log, TEST_SECONDS="0.4"):
        wait_until(lambda: is_running(release), "a chunk", log)
        postgres.stop()
        time.sleep(1.0)
        postgres.start()
        wait_until(lambda: is_done(release), "the end of the run", log)
    assert_all_fitted(release)
    assert number(release, "SELECT count(*) FROM phdl.fit_chunk WHERE state IN ('split', 'quarantined')") == 0


def test_a_frozen_worker_loses_its_chunk_and_does_no_harm_when_it_wakes(release: Engine, log: Path) -> None:
    with dispatcher(log), worker(log, TEST_SECONDS="0.5") as first:
        wait_until(lambda: is_running(release), "a chunk", log)
        os.killpg(first.pid, signal.SIGSTOP)
        with worker(log):
            wait_until(lambda: is_done(release), "the end of the run", log)
            os.killpg(first.pid, signal.SIGCONT)
            wait_until(
                lambda: "somebody else" in log.read_text() or "no longer owns" in log.read_text(),
                "a fence",
                log,
            )
    assert_all_fitted(release)


def test_a_stopped_worker_hands_its_chunk_back(release: Engine, log: Path) -> None:
    with dispatcher(log):
        with worker(log, TEST_SECONDS="60") as slow:
            wait_until(lambda: is_running(release), "a chunk", log)
            os.kill(slow.pid, signal.SIGQUIT)
            slow.wait(timeout=30)
        assert number(release, "SELECT count(*) FROM phdl.event WHERE action = 'handed_back'") == 1
        assert not is_running(release)
        with worker(log):
            wait_until(lambda: is_done(release), "the end of the run", log)
    assert_all_fitted(release)
    assert number(release, "SELECT count(*) FROM phdl.fit_chunk WHERE failures > 0") == 0


def test_the_worker_command_fits_everything_with_the_real_fit_and_ends(release: Engine, log: Path) -> None:
    command = ["phdl_catalog.cli.main", "worker", "--until-idle", "--log-level", "INFO"]
    with running(command, log) as process:
        process.wait(timeout=120)
    assert process.returncode == 0, log.read_text()
    assert_all_fitted(release)
    assert is_done(release)
