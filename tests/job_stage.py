"""A stage for accidents: servers and workers of its own, which a test may kill, freeze and restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, text

from phdl_catalog.database.roles import DISPATCHER, WORKER
from phdl_catalog.services.postgres_server import PostgresServer
from phdl_catalog.services.redis_server import RedisServer

TESTS = Path(__file__).parent

#: Patience that suits a test: a worker is given up after two seconds of silence.
TIMES = {
    "PHDL_JOB_LEASE": "2",
    "PHDL_JOB_HEARTBEAT": "0.5",
    "PHDL_JOB_TICK": "0.1",
    "PHDL_JOB_REPUBLISH": "2",
    "PHDL_JOB_REPUBLISH_EMPTY": "0.5",
    "PHDL_JOB_GRACE": "1",
    "PHDL_JOB_STUCK": "3",
    "OMP_NUM_THREADS": "1",
    "PHDL_THREADS": "1",
    "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
}

Process = subprocess.Popen[bytes]


@dataclass
class Stage:
    """Servers and processes of one test.

    Parameters
    ----------
    engine : Engine
        The test's database.
    postgres, redis
        The servers; nobody else's.
    log : Path
        Where all processes write.
    prefix : tuple of str
        What stands before the commands of processes that are started from now on.
    """

    engine: Engine
    postgres: PostgresServer
    redis: RedisServer
    log: Path
    prefix: tuple[str, ...] = ()
    processes: list[Process] = field(default_factory=list)

    def start(self, *command: str, **environment: str) -> Process:
        """Start a Python module as a process of its own session."""
        with self.log.open("ab") as stream:
            process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", *command],
                env=os.environ | TIMES | {"PYTHONPATH": _path()} | environment,
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker(self, concurrency: int = 1, **environment: str) -> Process:
        """A Celery worker whose fit is that of `job_worker`; it has a worker's rights and no more."""
        return self._celery(concurrency, "phdl.fit", self._as(WORKER) | environment)

    def control_worker(self) -> Process:
        """The Celery worker that does what beat asks for, with a dispatcher's rights and no more."""
        return self._celery(1, "phdl.control", self._as(DISPATCHER))

    def _celery(self, concurrency: int, queues: str, environment: dict[str, str]) -> Process:
        return self.start(
            "celery", "--quiet", "-A", "job_worker", "worker", "--concurrency", str(concurrency), "--queues",
            queues, "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat",
            "--hostname", f"worker-{len(self.processes)}@stage", **environment,
        )  # fmt: skip

    def dispatcher(self) -> Process:
        """A dispatcher, with a dispatcher's rights and no more."""
        return self.start("workers.dispatch_forever", **self._as(DISPATCHER))

    def _as(self, role: str) -> dict[str, str]:
        return {"PHDL_DATABASE_URL": self.postgres.url("stage", role)}

    def children(self, process: Process) -> list[int]:
        """Processes that a worker has forked."""
        try:
            return [child.pid for child in psutil.Process(process.pid).children()]
        except psutil.NoSuchProcess:
            return []

    def kill(self, process: Process) -> None:
        """As the kernel does it when memory runs out, or as a machine that loses its power."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def crash_postgres(self) -> None:
        """Kill the server and all its sessions, and start it again: it recovers from its log."""
        pid = self.postgres.pid()
        assert pid is not None
        members = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for member in members:
            if member.is_running():
                member.kill()
        psutil.wait_procs(members, timeout=10)
        self.postgres.start()

    def restart_postgres(self, away: float = 0.5) -> None:
        self.postgres.stop()
        time.sleep(away)
        self.postgres.start()

    def crash_redis(self, away: float = 0.2) -> None:
        """Kill the broker; it comes back with nothing."""
        pid = self.redis.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        time.sleep(away)
        self.redis.start()

    def said(self, words: str) -> int:
        """How often the processes have said something."""
        return self.log.read_text(errors="replace").count(words)

    def number(self, statement: str) -> int:
        """One number, by SQL."""
        with self.engine.connect() as connection:
            return int(connection.execute(text(statement)).scalar_one())

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                said = self.log.read_text(errors="replace")[-6000:]
                pytest.fail(f"{what} did not happen in {timeout} s; {self.chunks()}; log:\n{said}")
            time.sleep(0.05)

    def wait_for_a_chunk(self) -> None:
        self.wait_until(self.is_running, "a chunk")

    def wait_for_the_end(self, timeout: float = 60.0) -> None:
        self.wait_until(self.is_done, "the end of the run", timeout)

    def is_running(self) -> bool:
        return self.number("SELECT count(*) FROM phdl.fit_chunk WHERE state = 'running'") > 0

    def is_done(self) -> bool:
        return self.number("SELECT count(*) FROM phdl.fit_run WHERE state <> 'done'") == 0

    def events(self, action: str) -> int:
        return self.number(f"SELECT count(*) FROM phdl.event WHERE action = '{action}'")  # noqa: S608

    def chunks(self) -> list[tuple[object, ...]]:
        """What is not done, for a message."""
        with self.engine.connect() as connection:
            query = (
                "SELECT fit_chunk_id, state, attempt, failures, worker, due_at, error_text "
                "FROM phdl.fit_chunk WHERE state <> 'done' ORDER BY 1"
            )
            return [tuple(row) for row in connection.execute(text(query))]

    def end(self) -> None:
        """Kill everything, and have both servers running."""
        for process in self.processes:
            self.kill(process)
        self.postgres.start()
        self.redis.start()

    def assert_all_is_accounted_for(self, spectra: int, labelled: int | None = None) -> None:
        """What must hold after any accident, counted by SQL."""
        facts = {name: self.number(query) for name, query in _FACTS.items()}
        wrong = {name: facts[name] for name in _FACTS if name.startswith("no ") and facts[name]}
        assert not wrong, (wrong, self.chunks(), self.log.read_text(errors="replace")[-6000:])
        counted = (facts["fits"], facts["spectra with a fit"], facts["spectra in chunks"])
        assert counted == (spectra, spectra, spectra), (facts, self.chunks())
        assert facts["with labels"] == (spectra if labelled is None else labelled)


#: What is counted; a name that begins with "no" must be zero.
_FACTS = {
    "fits": "SELECT count(*) FROM phdl.fit",
    "spectra with a fit": "SELECT count(DISTINCT spectrum_id) FROM phdl.fit",
    "with labels": "SELECT count(*) FROM phdl.fit WHERE label_values IS NOT NULL",
    "spectra in chunks": "SELECT count(DISTINCT s) FROM phdl.fit_chunk, unnest(spectrum_ids) AS s "
    "WHERE state <> 'split'",
    "no spectrum is in two chunks": "SELECT count(*) FROM (SELECT s FROM phdl.fit_chunk, "
    "unnest(spectrum_ids) AS s WHERE state <> 'split' GROUP BY s HAVING count(*) > 1) AS t",
    "no chunk is stuck": "SELECT count(*) FROM phdl.fit_chunk "
    "WHERE state IN ('planned', 'queued', 'running')",
    "no run is open": "SELECT count(*) FROM phdl.fit_run WHERE state <> 'done'",
    "no count differs": "SELECT count(*) FROM phdl.fit_chunk AS c WHERE state = 'done' AND n_fitted <> "
    "(SELECT count(*) FROM phdl.fit WHERE spectrum_id = ANY (c.spectrum_ids) AND label_values IS NOT NULL)",
    "no attempt is unexplained": "SELECT count(*) FROM phdl.fit_chunk AS c WHERE attempt <> "
    "(state = 'done')::int + (SELECT count(*) FROM phdl.event WHERE subject = 'fit_chunk:' || fit_chunk_id "
    "AND action IN ('failed', 'handed_back', 'split', 'quarantined'))",
}


def _path() -> str:
    return os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
