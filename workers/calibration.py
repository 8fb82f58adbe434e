"""The calibration task: the number of a request in, a calibration set in PostgreSQL out."""

from __future__ import annotations

import logging
import os

from celery import Celery, shared_task
from sqlalchemy import Connection

from phdl_catalog.database.calibration_requests import run_request, take_due_requests
from phdl_catalog.database.session import connect
from phdl_catalog.services.calibration_request import CALIBRATION_TASK, publish_requests
from workers.broker import BROKER_ERRORS
from workers.failures import describe
from workers.process import process_name

_log = logging.getLogger(__name__)


@shared_task(name=CALIBRATION_TASK)
def calibrate(request: int) -> None:
    """Calibrate a model.  Running it twice is harmless; what it came to is in ``calibration_request``.

    Parameters
    ----------
    request : int
        Number of the request.
    """
    engine = connect(pooled=False)
    try:
        outcome = run_request(engine, request, process_name(os.getpid()))
    finally:
        engine.dispose()
    if outcome is not None:
        _log.info("request %d: calibration set %s", request, outcome.name)


def publish_due(app: Celery, connection: Connection, age: float) -> int:
    """The dispatcher's part: tell the workers of requests that are due, again of those nobody claimed."""
    with connection.begin():
        due = take_due_requests(connection, age)
    try:
        publish_requests(app, due)
    except BROKER_ERRORS as error:
        _log.warning("the broker does not answer, will publish again: %s", describe(error))
        return 0
    return len(due)
