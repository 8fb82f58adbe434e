"""The steps of one chunk find it by its key, whatever the planner believes of the states of the others."""

from __future__ import annotations

import pytest
from database_rows import add_model, add_release, add_run
from sqlalchemy import Connection, Engine, text

from phdl_catalog.database.queries import statement

_VALUES = {
    "chunk": 3, "attempt": 1, "worker": "host:1", "lease": 60.0, "revision": "0001", "n_fitted": 1,
    "n_failed": 0, "read_seconds": 1.0, "fit_seconds": 1.0, "write_seconds": 1.0, "delay": 0.0, "failures": 0,
    "error_kind": None, "error_text": None,
}  # fmt: skip


@pytest.fixture
def busy(database: Engine) -> Engine:
    """Statistics of a time when all chunks were done, and many that run and wait since."""
    with database.begin() as connection:
        release = add_release(connection)
        run = add_run(connection, release, add_model(connection))
        _add(connection, run, "done", 2000)
        connection.execute(text("ANALYZE phdl.fit_chunk"))
        _add(connection, run, "running", 300)
        _add(connection, run, "queued", 300)
    return database


def _add(connection: Connection, run: int, state: str, count: int) -> None:
    done, running = state == "done", state == "running"
    connection.execute(
        text(
            "INSERT INTO phdl.fit_chunk (fit_run_id, spectrum_ids, state, attempt, worker, started_at, "
            "lease_until, finished_at, n_fitted, n_failed) "
            "SELECT :run, ARRAY[g], :state, 1, 'host:1', now(), "
            "CASE WHEN :running THEN now() END, CASE WHEN :done THEN now() END, CASE WHEN :done THEN 1 END, "
            "CASE WHEN :done THEN 0 END FROM generate_series(1, :count) AS g"
        ),
        {"run": run, "state": state, "done": done, "running": running, "count": count},
    )


@pytest.mark.parametrize(
    "name", ["claim", "extend_lease", "close", "hand_back", "lock_running", "was_closed_by"]
)
def test_a_step_goes_by_the_key(busy: Engine, name: str) -> None:
    query = text("EXPLAIN " + str(statement("chunks", name)))
    values = {key: value for key, value in _VALUES.items() if key in query.compile().params}
    with busy.connect() as connection:
        plan = "\n".join(connection.scalars(query, values))
    assert "pk_fit_chunk" in plan, plan
    assert "ix_fit_chunk" not in plan, plan
