"""Ask a worker for a calibration: a row that stays, one message, and the outcome in the same row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from phdl_catalog.database.calibration_requests import add_request, find_request, take_due_requests
from phdl_catalog.database.models import RequestState
from phdl_catalog.errors import ServiceError
from phdl_catalog.services.redis_server import broker_url, connect_broker

if TYPE_CHECKING:
    from celery import Celery

    from phdl_catalog.database.calibration_run import CalibrationOutcome, CalibrationRequest

#: Task of the workers, and its queue.
CALIBRATION_TASK = "phdl.calibrate"
CALIBRATION_QUEUE = "phdl.calibration"

#: Time between two looks at the outcome [s], and until it is said that nobody has taken the request.
_PAUSE = 0.5
_PATIENCE = 10.0

#: A request that nobody claimed for so long is sent again [s].
_REPUBLISH = 60.0

#: Within this time a worker answers a call [s].
_ANSWER_TIME = 2.0


def send_calibration(engine: Engine, request: CalibrationRequest) -> int:
    """Ask the workers for a calibration.

    The request stands in the database before they are told: a message that is lost is sent again by the
    dispatcher.

    Returns
    -------
    int
        Number of the request, under which `wait_for_calibration` finds what it came to.

    Raises
    ------
    ServiceError
        If the broker does not answer; nothing is asked for then.
    """
    app = _application()
    with engine.begin() as connection:
        number = add_request(connection, request)
    with engine.begin() as connection:
        due = take_due_requests(connection, _REPUBLISH)
    publish_requests(app, due)
    return number


def publish_requests(app: Celery, numbers: list[int]) -> None:
    """Send one message a request, its number and nothing else.

    Raises
    ------
    kombu.exceptions.OperationalError
        If the broker does not answer.
    """
    if not numbers:
        return
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        for number in numbers:
            app.send_task(
                CALIBRATION_TASK,
                args=[number],
                queue=CALIBRATION_QUEUE,
                connection=connection,
                ignore_result=True,
                retry=False,
            )


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
    engine: Engine, number: int, timeout: float, say: Callable[[str], None] = lambda line: None
) -> CalibrationOutcome:
    """Wait until a worker has done what was asked for.

    Parameters
    ----------
    engine : Engine
        Database.
    number : int
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
    start, told = time.monotonic(), False
    while True:
        with engine.connect() as connection:
            row = find_request(connection, number)
        if (outcome := row.outcome) is not None:
            return outcome
        waited, started = time.monotonic() - start, row.state is RequestState.RUNNING
        if waited > timeout:
            state = "is still at it" if started else "has taken it: is `phdl worker` running?"
            raise ServiceError(
                f"no result after {timeout:.0f} s: {'a' if started else 'no'} worker {state}; request "
                f"{number} stands, `phdl calibration requests` shows it; `phdl calibrate --local` computes "
                "it here",
                request=number,
            )
        if not started and not told and waited > _PATIENCE:
            told = True
            say("no worker has taken it yet: `phdl worker` starts one, --local computes it here")
        time.sleep(_PAUSE)
