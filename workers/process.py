"""The state of one worker process: made in the child, after the fork, at its first chunk."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from types import FrameType

from billiard import current_process

from phdl_catalog.database.session import connect
from phdl_catalog.errors import SchemaError
from phdl_catalog.settings import get_settings
from phdl_catalog.spectra.store import PixelStore
from workers.fitting import Bench, ShutdownRequested, run_chunk
from workers.job_settings import JobSettings
from workers.models import ModelFits

_log = logging.getLogger(__name__)

#: Set by `phdl worker`: the device of its processes.
DEVICE = "PHDL_WORKER_DEVICE"


def process_name(pid: int | None = None, device: str | None = None) -> str:
    """Name of a worker process, as in ``fit_chunk.worker``: ``host:pid``, and the device if it is no CPU."""
    device = device or os.environ.get(DEVICE, "cpu")
    suffix = "" if device == "cpu" else f":{device}"
    return f"{socket.gethostname()}:{pid or os.getpid()}{suffix}"


class StopSwitch:
    """SIGTERM: interrupts the chunk that is being fitted, once, or ends an idle process."""

    def __init__(self) -> None:
        self._armed = self._busy = False

    def install(self) -> None:
        """Take the signal; in the main thread only."""
        signal.signal(signal.SIGTERM, self._handle)

    @contextmanager
    def chunk(self) -> Iterator[None]:
        """The block in which the signal raises `ShutdownRequested`."""
        self._armed = self._busy = True
        try:
            yield
        finally:
            self._armed = self._busy = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            # Once: handing the chunk back must not be interrupted.
            self._armed = False
            raise ShutdownRequested
        if not self._busy:
            raise SystemExit(0)


@dataclass(frozen=True)
class WorkerProcess:
    """One process of the pool: what it works with, and how it is stopped."""

    bench: Bench
    switch: StopSwitch

    def run(self, chunk: int) -> None:
        """Fit one chunk; a chunk that a shutdown interrupts is handed back, and nothing is raised.

        A database that newer code upgraded ends the whole worker: it may not touch what it does not know.
        """
        try:
            with suppress(ShutdownRequested), self.switch.chunk():
                run_chunk(chunk, self.bench)
        except SchemaError as error:
            _log.critical("this worker ends: %s", error)
            if current_process().name != "MainProcess":
                os.kill(os.getppid(), signal.SIGTERM)


@cache
def this_process(pid: int) -> WorkerProcess:
    """The state of the process `pid`, this one; asked for by number, since a fork must not inherit it."""
    settings, jobs = get_settings(), JobSettings()
    bench = Bench(
        # A chunk and its fits are one transaction: what a crash of the server undoes is due again.
        engine=connect(settings, wait_for_disk=False, silence=jobs.lease),
        store=PixelStore(settings.pixel_store_url),
        fit=ModelFits(os.environ.get(DEVICE, "cpu")),
        worker=process_name(pid),
        jobs=jobs,
    )
    switch = StopSwitch()
    switch.install()
    return WorkerProcess(bench, switch)
