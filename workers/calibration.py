"""The calibration task: a request in, a calibration set in PostgreSQL out."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task

from phdl_catalog.errors import PhdlError

_log = logging.getLogger(__name__)


@shared_task(name="phdl.calibrate")
def calibrate(request: dict[str, Any]) -> None:
    """Calibrate a model.  Running it twice is harmless: the same input gives the set that is there already.

    Parameters
    ----------
    request : dict
        A `phdl_catalog.database.calibration_run.CalibrationRequest` as JSON.  What it came to is an event of
        ``calibration_request:<request_id>``.
    """
    from phdl_catalog.database.calibration_run import CalibrationRequest, note_start, run_calibration
    from phdl_catalog.database.session import connect

    wanted = CalibrationRequest.from_dict(request)
    engine = connect(pooled=False)
    try:
        note_start(engine, wanted)
        outcome = run_calibration(engine, wanted, _log.info)
        _log.info("calibration set %s of model %s", outcome.name, wanted.model)
    except PhdlError as error:
        # Its text is in the events, where the one who asked looks for it.
        _log.error("calibration of model %s failed: %s", wanted.model, error)
    finally:
        engine.dispose()
