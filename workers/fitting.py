"""Running one chunk: claim, read the pixels, fit, write the labels and close, or say why not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from phdl_catalog.database.chunks import (
    ChunkTimings,
    Claim,
    ErrorKind,
    LostChunkError,
    claim_chunk,
    close_chunk,
    fail_chunk,
    hand_back,
    was_closed_by,
)
from phdl_catalog.database.fits import SpectrumPixels, find_pixels, write_fits
from phdl_catalog.errors import NotFoundError, StorageError
from phdl_catalog.spectra.records import PixelBlock
from phdl_catalog.spectra.store import PixelStore
from workers import metrics
from workers.failures import StoreUnavailableError, classify, describe, is_database_hiccup
from workers.heartbeat import Heartbeat
from workers.job_settings import JobSettings
from workers.logs import without_secrets

if TYPE_CHECKING:
    from phdl_catalog.fitting import FitResult

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Fits the pixels of a chunk; the argument of tests that must not wait for a real fit.
FitFunction = Callable[[Claim, PixelBlock], "FitResult"]


class ShutdownRequested(BaseException):
    """The process was told to stop in the middle of a chunk; no `except Exception` may swallow it."""


class ChunkOutcome(StrEnum):
    """What came of a message."""

    DONE = "done"
    NOT_CLAIMED = "not_claimed"
    LOST = "lost"
    FAILED = "failed"


@dataclass(frozen=True)
class Bench:
    """What a worker process works with.

    Parameters
    ----------
    engine : Engine
        Database; made in this process, after the fork.
    store : PixelStore
        Pixels.
    fit : callable
        From a claim and its pixels to a `FitResult`.
    worker : str
        Name of this process, ``host:pid``.
    jobs : JobSettings
        Times.
    """

    engine: Engine
    store: PixelStore
    fit: FitFunction
    worker: str
    jobs: JobSettings


def run_chunk(chunk: int, bench: Bench) -> ChunkOutcome:
    """Fit one chunk, if it is to be had.

    No transaction is open while the pixels are read and fitted.  Labels and the end of the chunk are one
    transaction.  Running a chunk twice, in turn or at once, leaves one row a spectrum.

    Raises
    ------
    ShutdownRequested
        After the chunk was handed back.
    """
    claim = _in_transaction(bench, lambda connection: claim_chunk(
        connection, chunk, bench.worker, bench.jobs.lease
    ))  # fmt: skip
    if claim is None:
        _log.debug("chunk %d is not to be had", chunk)
        metrics.count_message("not_claimed")
        return ChunkOutcome.NOT_CLAIMED
    about: dict[str, object] = {"run": claim.run, "chunk": claim.chunk, "attempt": claim.attempt}
    try:
        with Heartbeat(bench.engine, claim, bench.jobs) as heartbeat:
            n_fitted, timings = _fit_and_write(claim, bench, heartbeat, about)
    except LostChunkError as error:
        _log.warning("%s", error, extra={"job": about})
        metrics.count_message("lost")
        return ChunkOutcome.LOST
    except ShutdownRequested:
        _in_transaction(bench, lambda connection: hand_back(connection, claim, bench.worker, "shutdown"))
        _log.info("handed back", extra={"job": about})
        metrics.count_message("handed_back")
        raise
    except Exception as error:  # noqa: BLE001 - whatever a fit raises decides the fate of its chunk
        _fail(claim, bench, error, about)
        metrics.count_message("failed")
        return ChunkOutcome.FAILED
    metrics.count_message("done")
    metrics.count_done(n_fitted, len(claim.spectrum_ids) - n_fitted, timings.read, timings.fit, timings.write)
    _log.info(
        "done: %d of %d spectra have labels, %.1f/s (read %.2f s, fit %.2f s, write %.2f s)",
        n_fitted,
        len(claim.spectrum_ids),
        len(claim.spectrum_ids) / max(timings.read + timings.fit + timings.write, 1e-3),
        timings.read,
        timings.fit,
        timings.write,
        extra={"job": about},
    )
    return ChunkOutcome.DONE


def _fit_and_write(
    claim: Claim, bench: Bench, heartbeat: Heartbeat, about: dict[str, object]
) -> tuple[int, ChunkTimings]:
    begin = time.perf_counter()
    pixels = _in_transaction(bench, lambda connection: find_pixels(connection, list(claim.spectrum_ids)))
    about["obsid"] = _span(pixels.obsids)
    block = _read(pixels, bench.store)
    after_read = time.perf_counter()
    result = bench.fit(claim, block)
    after_fit = time.perf_counter()
    if heartbeat.lost:
        raise LostChunkError(f"chunk {claim.chunk} was taken away during the fit: nothing is written")

    def write(connection: Connection) -> tuple[int, ChunkTimings]:
        n_fitted = write_fits(connection, claim.run, claim.model_version_id, pixels.spectrum_ids, result)
        timings = ChunkTimings(
            read=after_read - begin, fit=after_fit - after_read, write=time.perf_counter() - after_fit
        )
        try:
            close_chunk(connection, claim, n_fitted, timings)
        except LostChunkError:
            # The answer to an earlier commit of ours may have been lost with the connection.
            if not was_closed_by(connection, claim):
                raise
        return n_fitted, timings

    return _in_transaction(bench, write)


def _span(obsids: NDArray[np.int64]) -> str:
    """Which observations, for the logs: the one, or the first and the last of so many."""
    if len(obsids) == 1:
        return str(obsids[0])
    return f"{obsids.min()}..{obsids.max()} ({len(obsids)})"


def _read(pixels: SpectrumPixels, store: PixelStore) -> PixelBlock:
    """The pixels of a chunk.

    Raises
    ------
    StoreUnavailableError
        If the store has nothing of the release at all: the wrong store, or a disk that is not mounted.
    StorageError
        If a shard is missing or damaged: the fault of these spectra.
    """
    try:
        block = store.read(pixels.addresses)
    except NotFoundError as error:
        release = pixels.addresses[0].shard.rpartition("/")[0]
        if not store.shards(release):
            raise StoreUnavailableError(str(error)) from error
        raise StorageError(str(error)) from error
    if (block.obsid != pixels.obsids).any():
        where = int((block.obsid != pixels.obsids).argmax())
        raise StorageError(
            f"{pixels.addresses[where]} holds the pixels of obsid {block.obsid[where]}, "
            f"not {pixels.obsids[where]}"
        )
    return block


def _fail(claim: Claim, bench: Bench, error: Exception, about: dict[str, object]) -> None:
    kind = classify(error)
    text = without_secrets(describe(error))
    about["kind"] = kind.value
    metrics.count_error(kind.value)
    _log.error("failed: %s", text, extra={"job": about}, exc_info=kind is ErrorKind.POISON)
    outcome = _in_transaction(
        bench, lambda connection: fail_chunk(connection, claim, kind, text, bench.worker)
    )
    _log.info("the chunk is %s", outcome.value, extra={"job": about})


def _in_transaction(bench: Bench, work: Callable[[Connection], _T]) -> _T:
    """Run one short transaction, again if the database restarts or two writers deadlock."""
    for attempt in Retrying(
        retry=retry_if_exception(is_database_hiccup),
        wait=wait_random_exponential(multiplier=0.1, max=10.0),
        stop=stop_after_delay(bench.jobs.patience),
        reraise=True,
    ):
        with attempt, bench.engine.begin() as connection:
            return work(connection)
    raise AssertionError("unreachable")
