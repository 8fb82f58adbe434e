"""``phdl worker``: a Celery worker for this machine and a dispatcher beside it, kept running, stopped well.

Three processes: this one, which runs neither Celery nor a thread and only watches; the Celery worker, whose
children fit; and the dispatcher, of which any number may run.  The database says when there is nothing left.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from phdl_catalog.database.calibration_requests import any_request_unfinished
from phdl_catalog.database.outbox import anything_unfinished
from phdl_catalog.errors import ServiceError
from phdl_catalog.settings import get_settings
from workers import models, process
from workers.app import CALIBRATION_QUEUE, CONTROL_QUEUE, QUEUES, SUPERVISED, make_app
from workers.broker import BROKER_ERRORS, waiting
from workers.failures import describe, is_database_hiccup
from workers.job_settings import JobSettings

_log = logging.getLogger(__name__)

#: A process that ended is started again after so long [s]: doubled each time, up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

#: In a container everybody is root; messages are JSON, so it is no danger here.
_QUIET_WARNINGS = "ignore:You're running the worker with superuser privileges"

#: A process that ran for so long is healthy, and its next end is the first one [s].
_HEALTHY = 60.0


@dataclass(frozen=True)
class WorkerOptions:
    """What ``phdl worker`` was asked for.

    Parameters
    ----------
    concurrency : int, optional
        Processes that fit: one a device.  By default one a core, or one for a GPU.
    device : str
        ``cpu``, ``cuda`` or ``cuda:1``.
    dispatcher : bool
        Whether to run a dispatcher too.
    until_idle : bool
        Whether to stop when nothing is left to do.
    threads : int, optional
        Threads of each process; one by default.
    log_level : str
        Least level of the logs.
    """

    concurrency: int | None = None
    device: str = "cpu"
    dispatcher: bool = True
    until_idle: bool = False
    threads: int = 1
    log_level: str = "INFO"

    @property
    def processes(self) -> int:
        """Number of processes; with their threads they have no more than the machine has cores."""
        if self.concurrency is not None:
            return self.concurrency
        return max(1, get_settings().threads // self.threads) if self.device == "cpu" else 1


class _Child:
    """A process that is started again when it ends by itself."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name, self._command, self._environment = name, command, environment
        self._popen: subprocess.Popen[bytes] | None = None
        self._started = self._next_start = 0.0
        self._pause = _FIRST_PAUSE

    def keep_running(self) -> None:
        """Start it, if it does not run and is due."""
        now = time.monotonic()
        if self._popen is not None and self._popen.poll() is not None:
            self._pause = (
                _FIRST_PAUSE if now - self._started > _HEALTHY else min(_LONGEST_PAUSE, self._pause * 2)
            )
            self._next_start = now + self._pause
            _log.error(
                "the %s ended with status %s; it is started again in %.0f s",
                self.name,
                self._popen.returncode,
                self._pause,
            )
            self._popen = None
        if self._popen is None and now >= self._next_start:
            # A session of its own: Ctrl-C in the terminal reaches this process only, which stops the others.
            self._popen = subprocess.Popen(
                self._command, env=self._environment, start_new_session=True, stdin=subprocess.DEVNULL
            )
            self._started = now

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Wait for its end; False if it still runs."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kill it and all it started."""
        if self._popen is not None and self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()


class Supervisor:
    """Runs the processes of one machine.

    Parameters
    ----------
    options : WorkerOptions
        What was asked for.
    engine : Engine
        Database, asked whether anything is left.
    jobs : JobSettings, optional
        Times; from the environment by default.
    """

    def __init__(self, options: WorkerOptions, engine: Engine, jobs: JobSettings | None = None) -> None:
        self._options, self._engine = options, engine
        self._jobs = jobs or JobSettings()
        self._app = make_app(jobs=self._jobs)
        self._stops = 0
        self._worker = _Child("worker", self._worker_command(), self._environment())
        self._dispatcher = _Child("dispatcher", _dispatcher_command(options), self._environment())

    def run(self, watch: Callable[[], None] = lambda: None) -> None:
        """Run until a signal comes, or, if asked for, until nothing is left to do.

        Parameters
        ----------
        watch : callable
            Called about once a second.
        """
        with self._signals():
            if self._options.until_idle and self._idle():
                return
            while not self._stops:
                self._worker.keep_running()
                if self._options.dispatcher:
                    self._dispatcher.keep_running()
                self._sleep(1.0)
                watch()
                if self._options.until_idle and self._idle():
                    break
            self._stop()

    def _idle(self) -> bool:
        """Whether nothing is left: no run is open, and no other task waits in the broker."""
        try:
            with self._engine.connect() as connection:
                if anything_unfinished(connection) or any_request_unfinished(connection):
                    return False
            return not any(waiting(self._app, queue) for queue in (CALIBRATION_QUEUE, CONTROL_QUEUE))
        except (DBAPIError, ServiceError, *BROKER_ERRORS) as error:
            if isinstance(error, DBAPIError) and not is_database_hiccup(error):
                raise
            _log.warning("cannot tell whether anything is left: %s", describe(error))
            return False

    def _stop(self) -> None:
        """Let the worker finish or hand back what it has, then stop the dispatcher."""
        if self._stops:
            # Celery's soft shutdown: a while to finish the chunk, then the chunk is handed back.
            self._worker.send(signal.SIGQUIT)
            patience = self._jobs.grace + 15.0
        else:
            self._worker.send(signal.SIGTERM)
            patience = self._jobs.longest_chunk + 15.0
        asked, end = self._stops, time.monotonic() + patience
        while not self._worker.wait(0.2):
            if self._stops > asked:
                # Asked again: at once.
                self._worker.send(signal.SIGQUIT)
                asked, end = self._stops, min(end, time.monotonic() + 10.0)
            if time.monotonic() > end:
                _log.error("the worker does not stop and is killed; its chunk is taken back by a dispatcher")
                self._worker.kill()
        self._dispatcher.send(signal.SIGTERM)
        if not self._dispatcher.wait(10.0):
            self._dispatcher.kill()

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stops and time.monotonic() < end:
            time.sleep(0.1)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def count(number: int, frame: FrameType | None) -> None:
            self._stops += 1

        old = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _environment(self) -> dict[str, str]:
        threads = str(self._options.threads)
        return {
            **os.environ,
            SUPERVISED: "1",
            process.DEVICE: self._options.device,
            models.THREADS: threads,
            "PYTHONWARNINGS": _QUIET_WARNINGS,
            "OMP_WAIT_POLICY": "PASSIVE",
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
        }

    def _worker_command(self) -> list[str]:
        name = f"phdl-{os.getpid()}@{socket.gethostname()}"
        return [
            sys.executable, "-m", "celery", "--quiet", "-A", "workers.app", "worker", "--pool", "prefork",
            "--concurrency", str(self._options.processes), "--hostname", name, "--queues", ",".join(QUEUES),
            "--loglevel", self._options.log_level, "--without-gossip", "--without-mingle",
        ]  # fmt: skip


def _dispatcher_command(options: WorkerOptions) -> list[str]:
    return [sys.executable, "-m", "workers.dispatch_forever", "--log-level", options.log_level]
