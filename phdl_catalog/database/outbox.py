"""What the dispatcher does to the database: which chunks the broker is told of, and when a run is done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection

from phdl_catalog.database.chunks import MOST_FAILURES, ErrorKind
from phdl_catalog.database.events import record_event
from phdl_catalog.database.models import RunState
from phdl_catalog.database.queries import statement

#: A run that quarantined so many spectra before it fitted any is paused.
MOST_QUARANTINED = 16


@dataclass(frozen=True)
class InFlight:
    """Chunks that left the outbox: told to the broker, and claimed by workers."""

    queued: int
    running: int


def in_flight(connection: Connection) -> InFlight:
    """How many chunks are queued and running."""
    row = connection.execute(statement("chunks", "in_flight")).one()
    return InFlight(row.queued, row.running)


def oldest_due(connection: Connection) -> float | None:
    """How long the most urgent chunk that could run has waited [s]; None if none does."""
    seconds = connection.scalar(statement("chunks", "oldest_due"))
    return None if seconds is None else float(seconds)


def take_due(connection: Connection, limit: int, actor: str) -> list[int]:
    """Mark chunks that are due as published, the most urgent first, and return their numbers.

    The caller commits and then publishes: a message that is lost in between is published again later.  A
    chunk that failed permanently for the second time is not published; its run is paused instead.
    """
    due = connection.execute(statement("chunks", "due"), {"limit": limit}).all()
    hopeless = {
        row.fit_run_id: row
        for row in due
        if row.error_kind == ErrorKind.PERMANENT and row.failures >= MOST_FAILURES
    }
    for run, row in hopeless.items():
        set_run_state(connection, run, RunState.PAUSED)
        detail = {"chunk": str(row.fit_chunk_id), "error": row.error_text}
        record_event(connection, f"fit_run:{run}", "paused", detail, actor=actor)
    going = [row for row in due if row.fit_run_id not in hopeless]
    if going:
        chunks = [row.fit_chunk_id for row in going]
        connection.execute(statement("chunks", "mark_published"), {"chunks": chunks})
        runs = list(Counter(row.fit_run_id for row in going))
        connection.execute(statement("fit_runs", "started"), {"runs": runs})
    return [row.fit_chunk_id for row in going]


def pause_hopeless(connection: Connection, actor: str) -> list[int]:
    """Pause runs of which nothing was ever fitted and much is quarantined; `phdl fit retry` goes on."""
    rows = connection.execute(statement("fit_runs", "hopeless"), {"most": MOST_QUARANTINED}).all()
    for row in rows:
        set_run_state(connection, row.fit_run_id, RunState.PAUSED)
        why = f"{row.spectra} spectra are quarantined and none was ever fitted"
        record_event(connection, f"fit_run:{row.fit_run_id}", "paused", {"error": why}, actor=actor)
    return [row.fit_run_id for row in rows]


def take_overdue(connection: Connection, age: float, limit: int) -> list[int]:
    """Chunks published more than `age` seconds ago that nobody claimed; from now on they count as new."""
    rows = connection.scalars(statement("chunks", "republish"), {"age": age, "limit": limit})
    return sorted(rows)


def finish_runs(connection: Connection, actor: str) -> list[int]:
    """Close the runs that have nothing left to do.

    Runs are locked first and looked at after: whoever adds chunks to a run holds its lock.
    """
    runs = connection.scalars(statement("fit_runs", "lock_active")).all()
    if not runs:
        return []
    finished = list(connection.scalars(statement("fit_runs", "finish"), {"runs": runs}))
    for run in finished:
        record_event(connection, f"fit_run:{run}", "done", actor=actor)
    return finished


def set_run_state(connection: Connection, run: int, state: RunState) -> None:
    """Change a run's state; a final one gets its end."""
    connection.execute(statement("fit_runs", "set_state"), {"run": run, "state": state.value})


def anything_unfinished(connection: Connection) -> bool:
    """Whether a run that is neither paused nor over exists."""
    return bool(connection.scalar(statement("chunks", "unfinished")))
