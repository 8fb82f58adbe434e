"""Requests for calibrations: the outbox of the calibration task, as ``fit_chunk`` is that of the fits.

The broker is told a number and nothing else; it may lose it.  A request is claimed for a while, and taken
back from a worker that is silent; doing it twice is harmless: the same input gives the set that is there.
Dispatchers look here too, and do without the libraries of a calibration.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine

from phdl_catalog.database.events import record_event
from phdl_catalog.database.models import RequestState
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import CalibrationError, NotFoundError, PhdlError

if TYPE_CHECKING:
    from phdl_catalog.database.calibration_run import CalibrationOutcome, CalibrationRequest

#: A silent worker keeps a request for so long [s]; longer than any step of a calibration.
LEASE = 600.0

#: A request whose worker died so often is given up.
MOST_ATTEMPTS = 3

#: Longest text of an error that is kept.
_LONGEST_TEXT = 2000


@dataclass(frozen=True)
class RequestRow:
    """One request; see the comments of the columns of ``phdl.calibration_request``."""

    number: int
    model: str
    run: int | None
    state: RequestState
    calibration_set: str | None
    is_new: bool | None
    error_text: str | None
    attempt: int
    worker: str | None
    created_at: datetime
    finished_at: datetime | None

    @property
    def outcome(self) -> CalibrationOutcome | None:
        """What it came to; None as long as it is not known.

        Raises
        ------
        CalibrationError
            With the worker's message, if it failed.
        """
        if self.state is RequestState.FAILED:
            raise CalibrationError(self.error_text or "the calibration failed", request=self.number)
        if self.calibration_set is None or self.is_new is None:
            return None
        from phdl_catalog.database.calibration_run import CalibrationOutcome

        return CalibrationOutcome(self.calibration_set, self.is_new)


def add_request(connection: Connection, request: CalibrationRequest, after_run: int | None = None) -> int:
    """Ask for a calibration; a dispatcher tells the workers of it.

    Parameters
    ----------
    connection : Connection
        The caller's transaction.
    request : CalibrationRequest
        What is asked for.
    after_run : int, optional
        Number of the fit run that must be done first.

    Returns
    -------
    int
        Number of the request; that of the open one if the run has one already.
    """
    parameters = {"request": json.dumps(request.to_dict(), allow_nan=False), "run": after_run}
    number = connection.execute(statement("calibration_requests", "add"), parameters).scalar_one_or_none()
    if number is None:
        found = connection.execute(statement("calibration_requests", "open_of_run"), {"run": after_run})
        return int(found.scalar_one())
    detail = {"model": request.model, "after_run": after_run}
    record_event(connection, f"calibration_request:{number}", "asked", detail)
    return int(number)


def list_requests(connection: Connection) -> list[RequestRow]:
    """All requests, the newest last."""
    return _rows(connection, None)


def find_request(connection: Connection, number: int) -> RequestRow:
    """One request.

    Raises
    ------
    NotFoundError
        If there is none of that number.
    """
    rows = _rows(connection, number)
    if not rows:
        raise NotFoundError(
            f"there is no request {number}; `phdl calibration requests` shows those there are"
        )
    return rows[0]


def _rows(connection: Connection, number: int | None) -> list[RequestRow]:
    found = connection.execute(statement("calibration_requests", "list"), {"number": number}).mappings()
    return [RequestRow(**{**row, "state": RequestState(row["state"])}) for row in found]


def take_due_requests(connection: Connection, age: float) -> list[int]:
    """Mark requests the workers are to be told of, and return their numbers.

    The caller commits and then publishes.  Those published more than `age` seconds ago that nobody claimed
    are among them, and those whose worker is silent; those whose run was cancelled fail.
    """
    for row in connection.execute(statement("calibration_requests", "take_back"), {"most": MOST_ATTEMPTS}):
        record_event(connection, f"calibration_request:{row.calibration_request_id}", "taken back")
    for number in connection.scalars(statement("calibration_requests", "fail_hopeless")):
        record_event(connection, f"calibration_request:{number}", "failed")
    return sorted(connection.scalars(statement("calibration_requests", "take_due"), {"age": age}))


def any_request_unfinished(connection: Connection) -> bool:
    """Whether a request waits for nothing but a worker."""
    return bool(connection.scalar(statement("calibration_requests", "unfinished")))


def run_request(engine: Engine, number: int, worker: str, lease: float = LEASE) -> CalibrationOutcome | None:
    """Claim a request, do it, and close it; what happened is in ``calibration_request``.

    Parameters
    ----------
    engine : Engine
        Database.
    number : int
        Number of the request.
    worker : str
        Who does it.
    lease : float
        Time after which a silent worker loses it [s].

    Returns
    -------
    CalibrationOutcome or None
        None if it is not to be had (done, or somebody else's), or failed for a reason that is noted.
    """
    from phdl_catalog.database.calibration_run import CalibrationRequest, run_calibration

    with engine.begin() as connection:
        claimed = connection.execute(
            statement("calibration_requests", "claim"), {"number": number, "worker": worker, "lease": lease}
        ).one_or_none()
    if claimed is None:
        return None
    mine = {"number": number, "attempt": claimed.attempt}

    def beat(line: str) -> None:
        with engine.begin() as connection:
            connection.execute(statement("calibration_requests", "extend"), {**mine, "lease": lease})

    request = CalibrationRequest.from_dict(claimed.request)
    try:
        outcome = run_calibration(engine, request, beat)
    except (PhdlError, ArithmeticError, ValueError, MemoryError) as error:
        # It would fail again; whoever waits is to hear why.  A database that went away is another matter.
        with engine.begin() as connection:
            connection.execute(
                statement("calibration_requests", "fail"),
                {**mine, "error": (str(error) or type(error).__name__)[:_LONGEST_TEXT]},
            )
            record_event(connection, f"calibration_request:{number}", "failed", {"error": str(error)})
        return None
    with engine.begin() as connection:
        connection.execute(
            statement("calibration_requests", "close"),
            {**mine, "set": outcome.name, "is_new": outcome.new},
        )
        record_event(connection, f"calibration_request:{number}", "done", {"set": outcome.name})
    return outcome
