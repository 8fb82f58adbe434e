"""``phdl worker``: a Celery worker for this machine and a dispatcher beside it, kept running, stopped well.

Three processes: this one, which runs neither Celery nor a thread and only watches; the Celery worker, whose
children fit; and the dispatcher, of which any number may run.  The database says when there is nothing left.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from phdl_catalog.database import migrate
from phdl_catalog.database.calibration_requests import any_request_unfinished
from phdl_catalog.database.events import record_event
from phdl_catalog.database.outbox import anything_unfinished
from phdl_catalog.errors import SchemaError, ServiceError
from phdl_catalog.settings import get_settings
from workers import metrics, models, process
from workers.app import CALIBRATION_QUEUE, CONTROL_QUEUE, QUEUES, SUPERVISED, make_app
from workers.broker import BROKER_ERRORS, waiting
from workers.child import Child
from workers.failures import describe, is_database_hiccup
from workers.job_settings import JobSettings
from workers.watchdog import Watchdog

_log = logging.getLogger(__name__)

#: In a container everybody is root; messages are JSON, so it is no danger here.
_QUIET_WARNINGS = "ignore:You're running the worker with superuser privileges"


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
    metrics : MetricsAddress, optional
        Where to show metrics for Prometheus; nowhere by default.
    """

    concurrency: int | None = None
    device: str = "cpu"
    dispatcher: bool = True
    until_idle: bool = False
    threads: int = 1
    log_level: str = "INFO"
    metrics: metrics.MetricsAddress | None = None

    @property
    def processes(self) -> int:
        """Number of processes; with their threads they have no more than the machine has cores."""
        if self.concurrency is not None:
            return self.concurrency
        return max(1, get_settings().threads // self.threads) if self.device == "cpu" else 1


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
        self._watchdog = Watchdog(self._app, engine, self._jobs.stuck, options.device)
        self._stops = 0

    def run(self, watch: Callable[[], None] = lambda: None) -> None:
        """Run until a signal comes, or, if asked for, until nothing is left to do.

        Parameters
        ----------
        watch : callable
            Called about once a second.

        Raises
        ------
        SchemaError
            If the database was upgraded by newer code meanwhile; all processes have ended then.
        """
        with self._signals(), metrics.shown(self._options.metrics) as environment:
            self._worker = Child("worker", self._worker_command(), self._environment() | environment)
            self._dispatcher = Child(
                "dispatcher", _dispatcher_command(self._options), self._environment() | environment
            )
            if self._options.until_idle and self._idle():
                return
            while not self._stops:
                ended = self._worker.keep_running()
                if self._options.dispatcher:
                    ended |= self._dispatcher.keep_running()
                if ended:
                    self._check_schema()
                self._sleep(1.0)
                if self._watchdog.is_stuck(self._worker.pid):
                    self._restart_worker()
                watch()
                if self._options.until_idle and self._idle():
                    break
            self._stop()

    def _check_schema(self) -> None:
        """Why a process ended may be that the database was upgraded: then all of them end."""
        try:
            migrate.check(self._engine)
        except SchemaError:
            self._stop()
            raise
        except (DBAPIError, ServiceError) as error:
            if not is_database_hiccup(error):
                raise

    def _restart_worker(self) -> None:
        why = f"jobs wait in the broker and it did nothing for {self._jobs.stuck:.0f} s"
        _log.error("the worker is stuck: %s; it is started again", why)
        self._worker.kill()
        try:
            with self._engine.begin() as connection:
                record_event(connection, f"worker:{socket.gethostname()}", "restarted", {"why": why})
        except (DBAPIError, ServiceError) as error:
            _log.warning("cannot record it: %s", describe(error))

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
