"""Heartbeats: a thread that extends the lease of a chunk while the main thread fits."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from sqlalchemy import Engine

from phdl_catalog.database.chunks import Claim, extend_lease
from workers.failures import describe, is_database_hiccup
from workers.job_settings import JobSettings

_log = logging.getLogger(__name__)

#: Time between the commit that closes a chunk and the end of its heartbeats, at most [s].
_CLOSING = 0.5


class Heartbeat:
    """Extends the lease of one chunk until the block is left; each beat is a short transaction of its own.

    A database that does not answer is asked again at the next beat.  The beats end by themselves when the
    chunk belongs to somebody else, and after the longest time a chunk may take: a fit that hangs must lose
    its lease.

    Parameters
    ----------
    engine : Engine
        Where beats are written; the main thread's connections are not used.
    claim : Claim
        The chunk.
    jobs : JobSettings
        Times.
    """

    def __init__(self, engine: Engine, claim: Claim, jobs: JobSettings) -> None:
        self._engine, self._claim, self._jobs = engine, claim, jobs
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="phdl-heartbeat", daemon=True)
        self.lost = False

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        end = time.monotonic() + self._jobs.longest_chunk
        while not self._stop.wait(self._jobs.heartbeat) and time.monotonic() < end:
            try:
                with self._engine.begin() as connection:
                    mine = extend_lease(connection, self._claim, self._jobs.lease)
            except Exception as error:
                if not is_database_hiccup(error):
                    raise
                _log.warning("heartbeat failed, will try again: %s", describe(error))
                continue
            if not mine:
                if self._stop.wait(_CLOSING):
                    return  # the main thread has just closed the chunk
                self.lost = True
                _log.warning(
                    "the chunk belongs to somebody else now",
                    extra={"job": {"run": self._claim.run, "chunk": self._claim.chunk}},
                )
                return
