"""A request for a calibration is a row that is claimed, done once, and never forgotten."""

from __future__ import annotations

import pytest
from database_rows import add_model, add_release, add_run
from sqlalchemy import Connection, Engine, text

from phdl_catalog.database.calibration_requests import (
    MOST_ATTEMPTS,
    add_request,
    any_request_unfinished,
    find_request,
    list_requests,
    run_request,
    take_due_requests,
)
from phdl_catalog.database.calibration_run import CalibrationRequest
from phdl_catalog.database.models import RequestState
from phdl_catalog.errors import CalibrationError, NotFoundError

WANTED = CalibrationRequest("default")
AGE = 60.0


@pytest.fixture
def run(database: Engine) -> int:
    """A planned run of a model that has no fits."""
    with database.begin() as connection:
        return add_run(connection, add_release(connection), add_model(connection))


def finish(connection: Connection, run: int, state: str = "done") -> None:
    connection.execute(
        text("UPDATE phdl.fit_run SET state = :state, finished_at = now() WHERE fit_run_id = :run"),
        {"run": run, "state": state},
    )


def test_a_request_waits_for_its_run(database: Engine, run: int) -> None:
    with database.begin() as connection:
        number = add_request(connection, WANTED, after_run=run)
        assert take_due_requests(connection, AGE) == []
        assert not any_request_unfinished(connection)
        finish(connection, run)
        assert any_request_unfinished(connection)
        assert take_due_requests(connection, AGE) == [number]
        # Told once; again only after a while in which nobody claimed it.
        assert take_due_requests(connection, AGE) == []
        assert take_due_requests(connection, -1.0) == [number]


def test_a_run_has_one_open_request(database: Engine, run: int) -> None:
    with database.begin() as connection:
        first = add_request(connection, WANTED, after_run=run)
        assert add_request(connection, WANTED, after_run=run) == first
        # Requests for no run stand for themselves.
        assert len({add_request(connection, WANTED) for _ in range(2)}) == 2


def test_a_cancelled_run_ends_its_request_with_a_reason(database: Engine, run: int) -> None:
    with database.begin() as connection:
        number = add_request(connection, WANTED, after_run=run)
        finish(connection, run, "cancelled")
        assert take_due_requests(connection, AGE) == []
        row = find_request(connection, number)
    assert row.state is RequestState.FAILED
    with pytest.raises(CalibrationError, match=f"run {run} was cancelled"):
        _ = row.outcome


def test_what_cannot_be_done_says_why_and_is_not_done_again(database: Engine, run: int) -> None:
    with database.begin() as connection:
        number = add_request(connection, WANTED)
        take_due_requests(connection, AGE)
    assert run_request(database, number, "worker 1") is None
    assert run_request(database, number, "worker 2") is None
    with database.connect() as connection:
        (row,) = list_requests(connection)
    assert (row.state, row.worker, row.attempt) == (RequestState.FAILED, "worker 1", 1)
    assert "phdl pairs import" in str(row.error_text)


def test_a_silent_worker_loses_its_request_but_not_for_ever(database: Engine, run: int) -> None:
    with database.begin() as connection:
        number = add_request(connection, WANTED)
        for attempt in range(MOST_ATTEMPTS):
            assert take_due_requests(connection, AGE) == [number], attempt
            connection.execute(
                text(
                    "UPDATE phdl.calibration_request SET state = 'running', attempt = attempt + 1, "
                    "lease_until = now() - interval '1 second'"
                )
            )
        assert take_due_requests(connection, AGE) == []
        assert find_request(connection, number).error_text == f"its worker died {MOST_ATTEMPTS} times"


def test_an_unknown_request_is_named(database: Engine) -> None:
    with database.connect() as connection, pytest.raises(NotFoundError, match="no request 7"):
        find_request(connection, 7)
