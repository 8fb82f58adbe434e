"""Fit runs: planning, enqueueing, cancelling, pausing, trying again.

A run is one release with one model, one configuration and one selection.  Enqueueing the same again finds
the same run and adds what is missing.  "Missing" are the selected spectra that no run with the same release,
model and configuration has: overlapping selections do not fit a spectrum twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from phdl_catalog import __version__
from phdl_catalog.database.events import record_event
from phdl_catalog.database.missing import add_chunks, find_missing, missing_spectra
from phdl_catalog.database.model_versions import ModelVersionRow
from phdl_catalog.database.models import RunState
from phdl_catalog.database.outbox import set_run_state
from phdl_catalog.database.queries import statement
from phdl_catalog.database.releases import find_release
from phdl_catalog.database.selection import Selection
from phdl_catalog.errors import InputError, NotFoundError, StateError

#: Spectra in a chunk: seconds to minutes of work, one contiguous read, one commit.
CHUNK_SIZE = 256
_LARGEST_CHUNK = 8192


@dataclass(frozen=True)
class RunRequest:
    """What is to be fitted, and how.

    Parameters
    ----------
    release : str
        Name of the data release.
    model : ModelVersionRow
        Registered model.
    selection : Selection
        Which spectra of the release.
    configuration : dict
        Options of the fit (`phdl_catalog.fitting.FitOptions.as_dict`).
    chunk_size : int
        Spectra in a chunk.
    priority : int, optional
        Chunks of a higher priority go first; None is 0 for a new run, and what it is for one that exists.
    """

    release: str
    model: ModelVersionRow
    selection: Selection
    configuration: dict[str, Any]
    chunk_size: int = CHUNK_SIZE
    priority: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_size <= _LARGEST_CHUNK:
            raise InputError(f"a chunk has 1 to {_LARGEST_CHUNK} spectra, not {self.chunk_size}")
        if self.priority is not None:
            _check_priority(self.priority)

    @property
    def configuration_hash(self) -> str:
        """SHA-256 of the configuration."""
        canonical = json.dumps(self.configuration, sort_keys=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Enqueued:
    """What enqueueing did.

    Parameters
    ----------
    run : int
        Number of the run.
    created : bool
        Whether it is new.
    state : RunState
        Its state now.
    selected, added, chunks : int
        Spectra selected, spectra added by this call, and the chunks made for them.
    """

    run: int
    created: bool
    state: RunState
    selected: int
    added: int
    chunks: int


@dataclass(frozen=True)
class Need:
    """What a request would add: spectra selected, spectra missing, chunks, and the run there is already."""

    selected: int
    missing: int
    chunks: int
    run: int | None


def needed(connection: Connection, request: RunRequest) -> Need:
    """What `enqueue` would do now; changes nothing that stays after the transaction.

    Raises
    ------
    NotFoundError
        If there is no such release.
    """
    release_id = _release_id(connection, request.release)
    missing = find_missing(connection, request, release_id)
    found = connection.execute(
        statement("fit_runs", "find_same"), _identity(request, release_id)
    ).one_or_none()
    chunks = missing.chunks(request.chunk_size)
    return Need(missing.selected, missing.spectra, chunks, found.fit_run_id if found else None)


def sample_of_missing(connection: Connection, request: RunRequest, limit: int) -> list[int]:
    """Some of the spectra that `enqueue` would add, by number; call `needed` first, in this transaction."""
    return missing_spectra(connection, request, _release_id(connection, request.release), limit)


def enqueue(connection: Connection, request: RunRequest) -> Enqueued:
    """Make a run, or find the same one, and add chunks for the spectra that are missing.

    All in the caller's transaction: the dispatcher sees either nothing or everything.  Two callers at once
    wait for each other.

    Raises
    ------
    NotFoundError
        If there is no such release.
    """
    release_id = _release_id(connection, request.release)
    connection.execute(
        statement("fit_runs", "lock_enqueue"),
        {"release_id": str(release_id), "model_version_id": str(request.model.model_version_id)},
    )
    missing = find_missing(connection, request, release_id)
    identity = _identity(request, release_id)
    found = connection.execute(statement("fit_runs", "find_same"), identity).one_or_none()
    if found is None:
        run = connection.execute(
            statement("fit_runs", "insert_run"),
            {
                **identity,
                "configuration": json.dumps(request.configuration, allow_nan=False),
                "code_version": __version__,
                "priority": request.priority or 0,
            },
        ).scalar_one()
        state, priority = RunState.PLANNED, request.priority or 0
    else:
        run, state, priority = found.fit_run_id, RunState(found.state), found.priority
        if request.priority is not None and request.priority != priority:
            priority = request.priority
            change_priority(connection, run, priority)
    added = add_chunks(connection, request, release_id, run, priority, missing)
    if added.spectra and state is RunState.DONE:
        connection.execute(statement("fit_runs", "reopen"), {"run": run})
        state = RunState.RUNNING
    if found is None or added.spectra:
        record_event(
            connection,
            f"fit_run:{run}",
            "enqueued" if found is None else "extended",
            {
                "release": request.release, "model": request.model.name, "spectra": added.spectra,
                "chunks": added.chunks, "chunk_size": request.chunk_size,
            },
        )  # fmt: skip
    return Enqueued(run, found is None, state, missing.selected, added.spectra, added.chunks)


def cancel_run(connection: Connection, run: int) -> int:
    """Stop a run for good; what is fitted stays.  Returns the number of spectra that are not fitted now.

    Raises
    ------
    NotFoundError, StateError
        If there is no such run, or it is done.
    """
    state = _lock_run(connection, run)
    if state is RunState.CANCELLED:
        return 0
    if state is RunState.DONE:
        raise StateError(f"run {run} is done; there is nothing to cancel")
    spectra = sum(connection.scalars(statement("fit_runs", "cancel_chunks"), {"run": run}))
    set_run_state(connection, run, RunState.CANCELLED)
    record_event(connection, f"fit_run:{run}", "cancelled", {"spectra": spectra})
    return spectra


def pause_run(connection: Connection, run: int) -> None:
    """Claim no more chunks of a run; those that are running are finished.

    Raises
    ------
    NotFoundError, StateError
        If there is no such run, or it is over.
    """
    state = _lock_run(connection, run)
    if state in (RunState.DONE, RunState.CANCELLED):
        raise StateError(f"run {run} is {state.value}; only a run that goes on can be paused")
    if state is not RunState.PAUSED:
        set_run_state(connection, run, RunState.PAUSED)
        record_event(connection, f"fit_run:{run}", "paused", {"why": "asked for"})


def resume_run(connection: Connection, run: int) -> None:
    """Go on with a paused run; chunks that wait after an error are due at once.

    Raises
    ------
    NotFoundError, StateError
        If there is no such run, or it is not paused.
    """
    state = _lock_run(connection, run)
    if state is not RunState.PAUSED:
        raise StateError(f"run {run} is {state.value}, not paused")
    connection.execute(statement("fit_runs", "retry_waiting"), {"run": run})
    set_run_state(connection, run, RunState.RUNNING)
    record_event(connection, f"fit_run:{run}", "resumed")


def change_priority(connection: Connection, run: int, priority: int) -> int:
    """Let a run go before others, or after: jobs of a higher priority are begun first.

    Returns
    -------
    int
        Number of its spectra that are still to be fitted.

    Raises
    ------
    NotFoundError, StateError
        If there is no such run, or it was cancelled.
    InputError
        If the priority is out of range.
    """
    _check_priority(priority)
    if _lock_run(connection, run) is RunState.CANCELLED:
        raise StateError(f"run {run} was cancelled; enqueue the release again")
    wanted = {"run": run, "priority": priority}
    if connection.execute(statement("fit_runs", "set_priority"), wanted).one_or_none() is not None:
        record_event(connection, f"fit_run:{run}", "priority", {"priority": priority})
    return sum(connection.scalars(statement("fit_runs", "set_chunk_priority"), wanted))


def retry_run(connection: Connection, run: int, *, failed: bool = False) -> int:
    """Try again what was given up: quarantined spectra, chunks waiting after an error.

    Parameters
    ----------
    connection : Connection
        The caller's transaction.
    run : int
        Number of the run.
    failed : bool
        Also fit again the chunks in which some spectrum got no labels.

    Returns
    -------
    int
        Number of spectra that are to be fitted again.

    Raises
    ------
    NotFoundError, StateError
        If there is no such run, or it was cancelled.
    """
    state = _lock_run(connection, run)
    if state is RunState.CANCELLED:
        raise StateError(f"run {run} was cancelled; enqueue the release again")
    names = ["retry_quarantined", "retry_waiting", *(["retry_failed"] if failed else [])]
    spectra = sum(sum(connection.scalars(statement("fit_runs", name), {"run": run})) for name in names)
    if spectra:
        set_run_state(connection, run, RunState.RUNNING)
        record_event(connection, f"fit_run:{run}", "retried", {"spectra": spectra, "failed_too": failed})
    return spectra


def _check_priority(priority: int) -> None:
    if not -1000 <= priority <= 1000:
        raise InputError(f"a priority lies between -1000 and 1000, not {priority}")


def _release_id(connection: Connection, release: str) -> int:
    release_id = find_release(connection, release)
    if release_id is None:
        raise NotFoundError(f"there is no release '{release}'; `phdl release list` shows those there are")
    return release_id


def _lock_run(connection: Connection, run: int) -> RunState:
    row = connection.execute(statement("fit_runs", "find_run"), {"run": run}).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no run {run}; `phdl fit status` shows those there are")
    return RunState(row.state)


def _identity(request: RunRequest, release_id: int) -> dict[str, Any]:
    """What makes two requests the same run."""
    return {
        "release_id": release_id,
        "model_version_id": request.model.model_version_id,
        "configuration_hash": request.configuration_hash,
        "selection": json.dumps(request.selection.as_dict()),
    }
