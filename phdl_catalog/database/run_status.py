"""How fit runs stand, from PostgreSQL alone: no worker and no broker is asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from phdl_catalog.database.models import ChunkState, RunState
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import NotFoundError

#: The rate is that of the last so many seconds.
RATE_WINDOW = 300.0

#: Bytes of a page of a table.
_PAGE = 8192

_WAITING = (ChunkState.PLANNED, ChunkState.QUEUED)
_UNFINISHED = (*_WAITING, ChunkState.RUNNING)


@dataclass(frozen=True)
class RunStatus:
    """How one run stands; ``spectra = done + failed + cancelled + remaining`` always holds.

    Parameters
    ----------
    run : int
        Number of the run.
    release, model : str
        What is fitted with what.
    state : str
        planned, running, paused, done or cancelled.
    spectra : int
        All its spectra.
    done, failed, cancelled, remaining : int
        Spectra with labels; with a row that says why there are none; never tried; to be done.
    quarantined : int
        Those of `failed` that were given up after their job failed.
    rate : float or None
        Spectra a second, over the last minutes; over the whole run if it is finished.
    eta_s : float or None
        Seconds until the rest is done at that rate; 0 if nothing is left.
    chunks : dict
        Number of chunks by state, states without any left out.
    oldest_due_s : float or None
        How long the oldest chunk that could run has been waiting [s].
    priority, created_at, finished_at, selection
        As in ``fit_run``; of a list of obsids, how many.
    """

    run: int
    release: str
    model: str
    state: str
    spectra: int
    done: int
    failed: int
    cancelled: int
    remaining: int
    quarantined: int
    rate: float | None
    eta_s: float | None
    chunks: dict[str, int]
    oldest_due_s: float | None
    priority: int
    created_at: datetime
    finished_at: datetime | None
    selection: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: times in ISO 8601."""
        times = {
            name: value.isoformat() if value else None
            for name, value in (("created_at", self.created_at), ("finished_at", self.finished_at))
        }
        return {**asdict(self), **times}


@dataclass(frozen=True)
class WorkerStatus:
    """A worker process that has a chunk, or finished one a moment ago; its device is part of its name."""

    worker: str
    device: str
    running: int
    rate: float | None


@dataclass(frozen=True)
class ErrorStatus:
    """How many chunks show an error of one kind, and the text of the latest."""

    kind: str
    chunks: int
    latest: str


def run_status(connection: Connection, run: int | None = None) -> list[RunStatus]:
    """How all runs stand, or one.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    rows = connection.execute(statement("run_status", "runs"), {"run": run, "window": RATE_WINDOW}).mappings()
    by_run: dict[int, list[Any]] = {}
    for row in rows:
        by_run.setdefault(row["run"], []).append(row)
    if run is not None and not by_run:
        raise NotFoundError(f"there is no run {run}; `phdl fit status` shows those there are")
    return [_status(listed) for listed in by_run.values()]


def worker_status(connection: Connection, run: int | None = None) -> list[WorkerStatus]:
    """Workers by name, with their rate over the last minutes [spectra/s]."""
    rows = connection.execute(statement("run_status", "workers"), {"run": run, "window": RATE_WINDOW})
    return [
        WorkerStatus(
            row.worker,
            _device(row.worker),
            row.running,
            _per_second(row.recent_spectra, row.recent_start, row.now),
        )
        for row in rows
    ]


def running_of(connection: Connection, workers: list[str]) -> int:
    """Number of chunks that some worker processes have now."""
    return int(connection.scalar(statement("run_status", "running_of"), {"workers": workers}) or 0)


def _device(worker: str) -> str:
    """``host:pid`` works on a processor, ``host:pid:cuda:1`` on a GPU."""
    return ":".join(worker.split(":")[2:]) or "cpu"


def error_status(connection: Connection, run: int | None = None) -> list[ErrorStatus]:
    """Errors that chunks show now, by kind."""
    rows = connection.execute(statement("run_status", "errors"), {"run": run})
    return [ErrorStatus(row.kind, row.chunks, row.latest) for row in rows]


def measured_rate(connection: Connection, model_version_id: int) -> float | None:
    """Spectra a second of one worker process with this model, over its latest chunks; None if none."""
    rate = connection.scalar(statement("run_status", "rate"), {"model_version_id": model_version_id})
    return None if rate is None else float(rate)


def bytes_per_fit(connection: Connection, model_version_id: int, n_labels: int) -> float:
    """Disk that one fit takes, indexes included: measured if there are enough fits, else reckoned."""
    row = connection.execute(
        statement("run_status", "partition_size"), {"model_version_id": model_version_id}
    ).one()
    if row.bytes and row.fits >= 1000:
        return float(row.bytes) / float(row.fits)
    # Row header and scalars, three arrays, correlations, the row's pointer.  A page holds whole rows; an
    # entry of the index is 28 bytes at 90 % filling.
    length = 24 + 60 + 3 * (24 + 4 * n_labels) + 4 + n_labels * (n_labels - 1) + 4
    return _PAGE / max(1, (_PAGE - 24) // length) + 32


def _status(rows: list[Any]) -> RunStatus:
    first = rows[0]
    # The database's clock, by which all times were written: that of this machine may be wrong.
    now = first["now"]
    by_state = {ChunkState(row["chunk_state"]): row for row in rows if row["chunk_state"] is not None}

    def spectra(*states: ChunkState) -> int:
        return sum(int(by_state[state]["spectra"]) for state in states if state in by_state)

    done_row = by_state.get(ChunkState.DONE)
    fitted = int(done_row["fitted"]) if done_row else 0
    failed = int(done_row["failed"]) if done_row else 0
    quarantined = spectra(ChunkState.QUARANTINED)
    remaining = spectra(*_UNFINISHED)
    rate = _rate(first["state"], by_state, first["finished_at"], now)
    waiting = [by_state[state]["oldest_due"] for state in _WAITING if state in by_state]
    return RunStatus(
        run=first["run"],
        release=first["release"],
        model=first["model"],
        state=first["state"],
        spectra=fitted + failed + quarantined + remaining + spectra(ChunkState.CANCELLED),
        done=fitted,
        failed=failed + quarantined,
        cancelled=spectra(ChunkState.CANCELLED),
        remaining=remaining,
        quarantined=quarantined,
        rate=rate,
        eta_s=0.0 if remaining == 0 else (remaining / rate if rate else None),
        chunks={state.value: int(row["chunks"]) for state, row in by_state.items()},
        oldest_due_s=max((now - due).total_seconds() for due in waiting) if waiting else None,
        priority=first["priority"],
        created_at=first["created_at"],
        finished_at=first["finished_at"],
        selection=first["selection"],
    )


def _rate(
    state: str, by_state: dict[ChunkState, Any], finished_at: datetime | None, now: datetime
) -> float | None:
    done = by_state.get(ChunkState.DONE)
    if done is None:
        return None
    if state in (RunState.DONE, RunState.CANCELLED):
        return _per_second(int(done["spectra"]), done["first_started"], done["last_finished"])
    return _per_second(int(done["recent_spectra"] or 0), done["recent_start"], now)


def _per_second(spectra: int, start: datetime | None, end: datetime) -> float | None:
    if not spectra or start is None:
        return None
    return spectra / max((end - start).total_seconds(), 1e-3)
