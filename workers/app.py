"""The Celery app: JSON only, late acknowledgement, no results.  The broker carries ids and keeps nothing."""

from __future__ import annotations

import os
from importlib.util import find_spec

from celery import Celery, platforms, signals
from kombu import Queue

from phdl_catalog.services.redis_server import broker_url
from phdl_catalog.settings import Settings
from workers import logs
from workers.job_settings import JobSettings

#: Chunks of fit runs; calibrations; the dispatcher's rounds where Celery beat asks for them.
FIT_QUEUE = "phdl.fit"
CALIBRATION_QUEUE = "phdl.calibration"
CONTROL_QUEUE = "phdl.control"
QUEUES = (FIT_QUEUE, CALIBRATION_QUEUE, CONTROL_QUEUE)

#: Spectra of a grid to be computed: for workers of their own, which need no database.
SYNTHESIS_QUEUE = "phdl.synthesis"

#: Name of the task whose only argument is the number of a chunk.
FIT_TASK = "phdl.fit_chunk"
DISPATCH_TASK = "phdl.dispatch"
SYNTHESIS_TASK = "phdl.synthesize"

#: Redis gives a message to another worker if it is not acknowledged within this time [s].
_VISIBILITY_TIMEOUT = 3600

#: Set by the command ``phdl worker``, whose end is the end of what it started.
SUPERVISED = "PHDL_SUPERVISED"

_OPTIONAL_TASKS = ("workers.calibration", "workers.synthesis")


def make_app(settings: Settings | None = None, jobs: JobSettings | None = None) -> Celery:
    """An app for the broker of the settings; nothing is contacted yet."""
    jobs = jobs or JobSettings()
    app = Celery("phdl", include=["workers.tasks", *(name for name in _OPTIONAL_TASKS if find_spec(name))])
    app.conf.update(
        broker_url=_celery_url(broker_url(settings)),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_TIMEOUT,
            # A broker whose machine is gone without a word is noticed (of no effect on Unix sockets).
            "socket_keepalive": True,
            "socket_connect_timeout": 10.0,
        },
        # Nothing but JSON is ever read: a message cannot execute code.
        accept_content=["json"],
        task_serializer="json",
        # Completion is a count in SQL.
        result_backend=None,
        task_ignore_result=True,
        # A message is acknowledged when its chunk is over.  A worker that is killed does not requeue it: the
        # chunk would kill the next one too, for ever.  Attempts are counted in PostgreSQL, and the dispatcher
        # publishes the chunk again.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        # A killed process sends no late results: its parent need not wait for them before it says so.
        worker_lost_wait=1.0,
        worker_prefetch_multiplier=1,
        # A lost broker is no reason to throw away a fit: the result goes to PostgreSQL.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=jobs.grace,
        worker_enable_soft_shutdown_on_idle=False,
        task_time_limit=jobs.longest_chunk,
        task_default_queue=CONTROL_QUEUE,
        task_queues=[Queue(name, routing_key=name) for name in (*QUEUES, SYNTHESIS_QUEUE)],
        task_routes={
            FIT_TASK: {"queue": FIT_QUEUE},
            DISPATCH_TASK: {"queue": CONTROL_QUEUE},
            SYNTHESIS_TASK: {"queue": SYNTHESIS_QUEUE},
            "phdl.calibrate*": {"queue": CALIBRATION_QUEUE},
            "workers.calibration.*": {"queue": CALIBRATION_QUEUE},
        },
        # Used by `celery -A workers.app beat` only; `phdl dispatcher` needs no beat.
        beat_schedule={
            "dispatch": {"task": DISPATCH_TASK, "schedule": 5.0, "options": {"expires": 5.0}},
        },
        timezone="UTC",
    )
    return app


def _celery_url(url: str) -> str:
    """A socket as Celery writes it, for those who write it as redis-py does."""
    return url.replace("unix://", "redis+socket://", 1) if url.startswith("unix://") else url


@signals.setup_logging.connect
def _set_up_logging(loglevel: int | str | None = None, **_: object) -> None:
    logs.configure(loglevel or "INFO")


@signals.celeryd_init.connect
def _end_with_the_supervisor(**_: object) -> None:
    """A worker started by `phdl worker` finishes its chunk and ends if that command is killed."""
    if SUPERVISED in os.environ:
        platforms.set_pdeathsig("SIGTERM")


app = make_app()
