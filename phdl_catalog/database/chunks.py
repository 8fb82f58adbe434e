"""The life of a fit job in the database: claim, heartbeat, close, hand back, fail, split, quarantine.

``fit_chunk`` is the truth about what is to be done; a message of the broker only says "look at this one".
Every step of a worker names the attempt it is: once the chunk belongs to somebody else, no row matches, and
the step changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from phdl_catalog.database.events import record_event
from phdl_catalog.database.fits import write_failure
from phdl_catalog.database.migrate import check_connection, expected_revision
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import PhdlError

#: Failures of its own after which a chunk is split, or its only spectrum quarantined.
MOST_FAILURES = 2

#: Longest text of an error that is kept.
_LONGEST_TEXT = 2000

#: Wait before a chunk is tried again after a transient error [s]: doubled with every attempt up to the last.
_FIRST_DELAY, _LONGEST_DELAY = 2.0, 300.0


class ErrorKind(StrEnum):
    """Why a chunk was not finished; decides what becomes of it."""

    TRANSIENT = "transient"
    """The database, the store or the network did not answer: tried again, as often as it takes."""

    PERMANENT = "permanent"
    """Model, schema or rights are wrong: no chunk of the run can succeed; the second time, the run pauses."""

    POISON = "poison"
    """The fit raised: something in these spectra; the second time, the chunk is split."""

    LOST = "lost"
    """The worker died or froze, perhaps because of these spectra; the second time, the chunk is split."""


class LostChunkError(PhdlError):
    """The chunk belongs to somebody else now; what this attempt computed is not written."""


@dataclass(frozen=True)
class Claim:
    """A chunk that a worker has, and what it needs to fit it.

    Parameters
    ----------
    chunk, run, attempt : int
        Chunk, its run, and which attempt this is.
    worker : str
        Who has it.
    failures : int
        Earlier failures of its own.
    spectrum_ids : tuple of int
        Its spectra, ascending.
    model_version_id : int
        Key of the model version.
    model, model_uri, model_sha256 : str
        Its name, where it is, and what its weights must be.
    configuration : dict
        Options of the fit.
    """

    chunk: int
    run: int
    attempt: int
    worker: str
    failures: int
    spectrum_ids: tuple[int, ...]
    model_version_id: int
    model: str
    model_uri: str
    model_sha256: str
    configuration: dict[str, Any]


@dataclass(frozen=True)
class Held:
    """An attempt at a chunk, as one knows of it who is not its worker."""

    chunk: int
    attempt: int
    worker: str


@dataclass(frozen=True)
class ChunkTimings:
    """Where the time of a chunk went [s]."""

    read: float
    fit: float
    write: float


class Outcome(StrEnum):
    """What became of a chunk that failed."""

    AGAIN = "again"
    SPLIT = "split"
    QUARANTINED = "quarantined"
    LOST = "lost"


def claim_chunk(connection: Connection, chunk: int, worker: str, lease: float) -> Claim | None:
    """Take a chunk for `lease` seconds; None if it is not to be had.

    Not to be had is ordinary: the message came twice, the run was paused or cancelled, another worker was
    quicker.

    Raises
    ------
    SchemaError
        If the database was upgraded, and this code is older: it may not touch what it does not know.
    """
    wanted = {"chunk": chunk, "worker": worker, "lease": lease, "revision": expected_revision()}
    row = connection.execute(statement("chunks", "claim"), wanted).one_or_none()
    if row is None:
        check_connection(connection)
        return None
    return Claim(
        chunk=row.fit_chunk_id,
        run=row.fit_run_id,
        attempt=row.attempt,
        worker=worker,
        failures=row.failures,
        spectrum_ids=tuple(row.spectrum_ids),
        model_version_id=row.model_version_id,
        model=row.model,
        model_uri=row.model_uri,
        model_sha256=row.model_sha256,
        configuration=row.configuration,
    )


def extend_lease(connection: Connection, claim: Claim, lease: float) -> bool:
    """A heartbeat: `lease` seconds from now.  False if this attempt no longer owns the chunk."""
    row = connection.execute(statement("chunks", "extend_lease"), {**_mine(claim), "lease": lease})
    return row.one_or_none() is not None


def close_chunk(connection: Connection, claim: Claim, n_fitted: int, timings: ChunkTimings) -> None:
    """The last statement of the transaction that wrote the labels.

    Raises
    ------
    LostChunkError
        If the chunk belongs to somebody else: the caller's transaction must be rolled back.
    """
    closed = connection.execute(
        statement("chunks", "close"),
        {
            **_mine(claim),
            "n_fitted": n_fitted,
            "n_failed": len(claim.spectrum_ids) - n_fitted,
            "read_seconds": timings.read,
            "fit_seconds": timings.fit,
            "write_seconds": timings.write,
        },
    ).one_or_none()
    if closed is None:
        raise LostChunkError(
            f"attempt {claim.attempt} no longer owns chunk {claim.chunk} of run {claim.run}: "
            "nothing is written"
        )


def was_closed_by(connection: Connection, claim: Claim) -> bool:
    """Whether this attempt's writing transaction was committed, although its answer was lost."""
    return bool(connection.scalar(statement("chunks", "was_closed_by"), _mine(claim)))


def hand_back(connection: Connection, claim: Claim, worker: str, why: str) -> bool:
    """Give a chunk back that was begun and is not at fault, as at a shutdown; it is due at once."""
    row = _give_back(connection, claim, delay=0.0, failures=0, kind=None, error=None)
    if row:
        _chunk_event(connection, claim, "handed_back", {"why": why}, worker)
    return row


def fail_chunk(
    connection: Connection, claim: Claim | Held, kind: ErrorKind, error: str, actor: str
) -> Outcome:
    """Record that an attempt failed, and decide what becomes of the chunk.

    Parameters
    ----------
    connection : Connection
        All of it is one transaction, the caller's.
    claim : Claim or Held
        The attempt.
    kind : ErrorKind
        Transient and permanent errors are tried again later; the others, the second time, split the chunk or
        quarantine its only spectrum, with a row in ``fit`` that has no labels.
    error : str
        What happened, for a person.
    actor : str
        Who reports it.

    Returns
    -------
    Outcome
        LOST if the attempt no longer owned the chunk: nothing was changed.
    """
    chunk, attempt, mine = claim.chunk, claim.attempt, _mine(claim)
    held = connection.execute(statement("chunks", "lock_running"), mine).one_or_none()
    if held is None:
        return Outcome.LOST
    text = error[:_LONGEST_TEXT] or "no message"
    detail: dict[str, Any] = {"run": held.fit_run_id, "attempt": attempt, "error": text, "kind": kind.value}
    at_fault = kind in (ErrorKind.POISON, ErrorKind.LOST)
    if not at_fault or held.failures + 1 < MOST_FAILURES:
        counted = 0 if kind is ErrorKind.TRANSIENT else 1
        delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(attempt - 1, 16)) if not at_fault else 0.0
        connection.execute(
            statement("chunks", "hand_back"),
            {**mine, "delay": delay, "failures": counted, "error_kind": kind.value, "error_text": text},
        )
        outcome, action = Outcome.AGAIN, "failed"
        detail["next_try_in_s"] = delay
    elif len(held.spectrum_ids) > 1:
        detail["halves"] = _split(connection, held, kind, text)
        outcome, action = Outcome.SPLIT, "split"
    else:
        connection.execute(
            statement("chunks", "quarantine"), {"chunk": chunk, "error_kind": kind.value, "error_text": text}
        )
        write_failure(connection, held.fit_run_id, held.model_version_id, held.spectrum_ids[0])
        detail["spectrum_id"] = str(held.spectrum_ids[0])
        detail["obsid"] = connection.scalar(
            statement("chunks", "obsid"), {"spectrum_id": held.spectrum_ids[0]}
        )
        outcome, action = Outcome.QUARANTINED, "quarantined"
    record_event(connection, f"fit_chunk:{chunk}", action, detail, actor=actor)
    return outcome


def expire_of_worker(connection: Connection, chunk: int, worker: str, why: str) -> bool:
    """End the lease of a worker process that is known to be dead, so that nobody waits for it to run out."""
    row = connection.execute(
        statement("chunks", "expire_of_worker"), {"chunk": chunk, "worker": worker, "error_text": why}
    ).one_or_none()
    return row is not None


def requeue_expired(connection: Connection, actor: str, limit: int = 100) -> int:
    """Take back chunks whose lease ran out: tried again, split or quarantined.

    Returns
    -------
    int
        Number of chunks.
    """
    expired = connection.execute(statement("chunks", "expired"), {"limit": limit}).all()
    for row in expired:
        why = row.error_text or (
            f"worker {row.worker} stopped answering; its lease ran out at "
            f"{row.lease_until:%Y-%m-%d %H:%M:%S} UTC"
        )
        held = Held(row.fit_chunk_id, row.attempt, row.worker)
        fail_chunk(connection, held, ErrorKind.LOST, why, actor)
    return len(expired)


def _split(connection: Connection, held: Any, kind: ErrorKind, text: str) -> list[int]:
    """Put two halves in the place of a chunk."""
    connection.execute(
        statement("chunks", "split"),
        {"chunk": held.fit_chunk_id, "error_kind": kind.value, "error_text": text},
    )
    middle = len(held.spectrum_ids) // 2
    halves: Sequence[list[int]] = (held.spectrum_ids[:middle], held.spectrum_ids[middle:])
    return [
        connection.execute(
            statement("chunks", "add_half"),
            {
                "run": held.fit_run_id,
                "parent": held.fit_chunk_id,
                "priority": held.priority,
                "spectrum_ids": half,
            },
        ).scalar_one()
        for half in halves
    ]


def _give_back(
    connection: Connection, claim: Claim, *, delay: float, failures: int, kind: str | None, error: str | None
) -> bool:
    row = connection.execute(
        statement("chunks", "hand_back"),
        {**_mine(claim), "delay": delay, "failures": failures, "error_kind": kind, "error_text": error},
    ).one_or_none()
    return row is not None


def _chunk_event(
    connection: Connection, claim: Claim, action: str, detail: dict[str, Any], worker: str
) -> None:
    told = {"run": claim.run, "attempt": claim.attempt, **detail}
    record_event(connection, f"fit_chunk:{claim.chunk}", action, told, actor=worker)


def _mine(claim: Claim | Held) -> dict[str, Any]:
    """What a step names: attempt and worker, since a crash of the server may undo a claim and its number."""
    return {"chunk": claim.chunk, "attempt": claim.attempt, "worker": claim.worker}
