"""An event says who, when and what, and stands or falls with its transaction."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine, func, select

from phdl_catalog.database.events import default_actor, record_event
from phdl_catalog.database.models import Event
from phdl_catalog.database.queries import statement


def test_an_event_is_recorded_with_its_detail_and_actor(transaction: Connection) -> None:
    record_event(transaction, "fit_run:1", "enqueued", {"spectra": 3, "note": "a:b %s"})
    record_event(transaction, "fit_run:1", "finished", actor="worker-1")
    record_event(transaction, "fit_run:2", "enqueued")
    rows = transaction.execute(statement("events", "of_subject"), {"subject": "fit_run:1"}).mappings().all()
    assert [(row["action"], row["actor"]) for row in rows] == [
        ("enqueued", default_actor()),
        ("finished", "worker-1"),
    ]
    assert rows[0]["detail"] == {"spectra": 3, "note": "a:b %s"}
    assert rows[0]["happened_at"] < rows[1]["happened_at"]


def test_an_event_is_gone_with_its_transaction(database: Engine) -> None:
    with database.connect() as connection:
        record_event(connection, "fit_run:1", "enqueued")
        connection.rollback()
        assert connection.scalar(select(func.count()).select_from(Event)) == 0


def test_a_detail_that_is_no_json_is_refused(transaction: Connection) -> None:
    with pytest.raises(ValueError, match="JSON"):
        record_event(transaction, "fit:1", "made", {"chi2": float("nan")})
