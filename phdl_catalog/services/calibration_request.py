"""Ask a worker for a calibration: one message, whose outcome is looked for in PostgreSQL."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from phdl_catalog.database.calibration_run import (
    CalibrationOutcome,
    CalibrationRequest,
    find_outcome,
    was_started,
)
from phdl_catalog.errors import ServiceError
from phdl_catalog.services.redis_server import broker_url, connect_broker

if TYPE_CHECKING:
    from celery import Celery

#: Task of the workers, and its queue.
CALIBRATION_TASK = "phdl.calibrate"
CALIBRATION_QUEUE = "phdl.calibration"

#: Time between two looks at the outcome [s], and until it is said that nobody has taken the request.
_PAUSE = 0.5
_PATIENCE = 10.0

#: Within this time a worker answers a call [s].
_ANSWER_TIME = 2.0


def send_calibration(request: CalibrationRequest) -> CalibrationRequest:
    """Send a request to the workers.

    Returns
    -------
    CalibrationRequest
        The same with an identifier, under which `wait_for_calibration` finds what it came to.

    Raises
    ------
    ServiceError
        If the broker does not answer.
    """
    sent = replace(request, request_id=uuid.uuid4().hex)
    app = _application()
    with app.connection_for_write() as connection:
        app.send_task(
            CALIBRATION_TASK,
            args=[sent.to_dict()],
            queue=CALIBRATION_QUEUE,
            connection=connection,
            ignore_result=True,
        )
    return sent


def a_worker_listens() -> bool:
    """Whether any worker that takes calibrations answers a call.

    Raises
    ------
    ServiceError
        If the broker does not answer.
    """
    queues = _application().control.inspect(timeout=_ANSWER_TIME).active_queues() or {}
    return any(queue["name"] == CALIBRATION_QUEUE for taken in queues.values() for queue in taken)


def _application() -> Celery:
    """A Celery application that sends, on a broker that answers."""
    import redis
    from celery import Celery

    try:
        with connect_broker() as client:
            client.ping()
    except redis.RedisError as error:
        raise ServiceError(
            f"the broker does not answer: {error}; `phdl up` starts the embedded one, "
            "`phdl calibrate --local` does without"
        ) from error
    app = Celery("phdl", broker=broker_url().replace("unix://", "redis+socket://", 1))
    app.conf.update(task_serializer="json", accept_content=["json"], result_backend=None)
    return app


def wait_for_calibration(
    engine: Engine,
    request: CalibrationRequest,
    timeout: float,
    say: Callable[[str], None] = lambda line: None,
) -> CalibrationOutcome:
    """Wait until a worker has done what was sent.

    Parameters
    ----------
    engine : Engine
        Database.
    request : CalibrationRequest
        From `send_calibration`.
    timeout : float
        Longest time to wait [s].
    say : callable
        Told, once, if no worker has taken the request for a while.

    Raises
    ------
    ServiceError
        If it is not done in time.
    CalibrationError
        If the worker could not do it.
    """
    identifier = request.request_id or ""
    start, told = time.monotonic(), False
    while (outcome := find_outcome(engine, identifier)) is None:
        waited = time.monotonic() - start
        started = was_started(engine, identifier)
        if waited > timeout:
            state = "is still at it" if started else "has taken it: is `phdl worker` running?"
            raise ServiceError(
                f"no result after {timeout:.0f} s: {'a' if started else 'no'} worker {state}; "
                "`phdl calibrate --local` computes it here",
                request_id=identifier,
            )
        if not started and not told and waited > _PATIENCE:
            told = True
            say("no worker has taken it yet: `phdl worker` starts one, --local computes it here")
        time.sleep(_PAUSE)
    return outcome
