"""A worker that is alive and takes no jobs: noticed from outside, since it does not know it itself.

Celery workers have been seen to go on living without consuming after their broker was reset; and a machine
that swaps, or a debugger, may freeze one.  The signs are together: jobs wait in the broker, none of this
machine's processes has one, and none of them uses the processor.  A worker that calibrates is busy, and one
that waits for the database has its job.
"""

from __future__ import annotations

import time

import psutil
from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from phdl_catalog.database.run_status import running_of
from phdl_catalog.errors import ServiceError
from workers.broker import BROKER_ERRORS, waiting
from workers.process import process_name

#: A tree of processes that uses less of one processor than this does nothing.
_IDLE_SHARE = 0.05


class Watchdog:
    """Says when the worker of this machine is stuck.

    Parameters
    ----------
    app : Celery
        Whose broker is asked what waits.
    engine : Engine
        Database, asked what this machine's processes have.
    patience : float
        How long all the signs must last [s].
    device : str
        Device of the worker's processes, which is part of their names.
    """

    def __init__(self, app: Celery, engine: Engine, patience: float, device: str = "cpu") -> None:
        self._app, self._engine, self._patience, self._device = app, engine, patience, device
        self._pid: int | None = None
        self._busy_at = self._looked_at = time.monotonic()
        self._cpu = 0.0

    def is_stuck(self, pid: int | None) -> bool:
        """Whether the worker `pid` is stuck; to be asked again and again, about once a second."""
        now = time.monotonic()
        if pid is None or pid != self._pid:
            self._pid, self._busy_at, self._looked_at = pid, now, now
            self._cpu = 0.0 if pid is None else _processor_time(pid)
            return False
        if now - self._looked_at < self._patience / 8:
            return False
        used = _processor_time(pid)
        busy = abs(used - self._cpu) > _IDLE_SHARE * (now - self._looked_at)
        self._cpu, self._looked_at = used, now
        if busy or not self._jobs_wait_for(pid):
            self._busy_at = now
        return now - self._busy_at >= self._patience

    def _jobs_wait_for(self, pid: int) -> bool:
        try:
            if not waiting(self._app):
                return False
            with self._engine.connect() as connection:
                return not running_of(connection, [process_name(child, self._device) for child in _tree(pid)])
        except (DBAPIError, ServiceError, *BROKER_ERRORS):
            return False  # nobody could work now


def _tree(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def _processor_time(pid: int) -> float:
    """Processor time that a process and all it started have used [s]."""
    total = 0.0
    for member in _tree(pid):
        try:
            times = psutil.Process(member).cpu_times()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += times.user + times.system
    return total
