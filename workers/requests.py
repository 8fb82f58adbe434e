"""What the parent process of a pool does when one of its children dies with a chunk.

The child cannot tell any more.  The parent ends the lease of the chunk, so that the dispatcher takes it back
at once instead of waiting for the lease to run out.
"""

from __future__ import annotations

import logging
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request
from sqlalchemy.exc import SQLAlchemyError

from phdl_catalog.database.chunks import expire_of_worker
from phdl_catalog.database.session import connect
from phdl_catalog.errors import ServiceError
from workers.failures import describe
from workers.process import process_name

_log = logging.getLogger(__name__)


class ChunkRequest(Request):
    """A message that asks for a chunk, as the parent of the pool sees it."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Called for every failed task; the fit's own errors never come here."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, (WorkerLostError, SystemExit)) and not self._already_cancelled:
            self._expire(f"the worker process died: {describe(error)}")
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """Called when a chunk took longer than any chunk may; the child is killed."""
        if not soft:
            self._expire(f"{describe(TimeLimitExceeded(timeout))}: the fit hung and was killed")
        return super().on_timeout(soft, timeout)

    def _expire(self, why: str) -> None:
        chunk, pid = self.args[0], self.worker_pid
        if pid is None:
            return
        try:
            engine = connect(pooled=False)
            with engine.begin() as connection:
                expired = expire_of_worker(connection, int(chunk), process_name(pid), why)
        except (ServiceError, SQLAlchemyError) as error:
            # The lease runs out by itself.
            _log.warning("cannot report that a worker process died: %s", describe(error))
            return
        if expired:
            _log.error("%s", why, extra={"job": {"chunk": chunk}})
