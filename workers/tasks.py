"""The tasks: a chunk by its number, and one round of the dispatcher."""

from __future__ import annotations

import os

from celery import Task, shared_task

from workers.app import DISPATCH_TASK, FIT_TASK
from workers.process import this_process


class ChunkTask(Task):
    """A task whose parent process reports the death of a child."""

    Request = "workers.requests:ChunkRequest"


@shared_task(name=FIT_TASK, base=ChunkTask)
def fit_chunk(chunk: int) -> None:
    """Fit one chunk.  Never raises for the chunk's sake: what happened is in ``fit_chunk`` and ``event``."""
    this_process(os.getpid()).run(chunk)


@shared_task(name=DISPATCH_TASK)
def dispatch() -> None:
    """One round of the dispatcher, for installations that run Celery beat; idle if a dispatcher runs."""
    from workers.app import app
    from workers.dispatcher import Dispatcher

    Dispatcher(app).single_round()
