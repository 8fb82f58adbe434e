"""The reading side of an ingest: from paths to packed spectra, in several processes.

A reader process holds no database connection and no store: it turns the paths it is sent into outcomes, and
is worth nothing when it dies, because the same files are read again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait

from phdl_catalog.errors import RejectedSpectrum
from phdl_catalog.spectra import RejectionReason, SpectrumHeader, parse_spectrum
from phdl_catalog.spectra.files import load_file
from phdl_catalog.spectra.records import pack

#: Files sent to a reader at once.
PIECE_FILES = 32

#: Pieces read ahead of the one being written: 1,024 spectra, 36 MB.
_PIECES_AHEAD = 32

#: Longest explanation of a rejection that is kept.
_LONGEST_DETAIL = 500


@dataclass(frozen=True)
class ReadTask:
    """A file to read, and the checksum its bytes had when it was read before (hexadecimal)."""

    path: str
    uri: str
    known_sha256: str | None = None


@dataclass(frozen=True)
class Rejected:
    """A file that is not a usable spectrum."""

    task: ReadTask
    reason: str
    detail: str
    sha256: str | None
    bytes_read: int = 0


@dataclass(frozen=True)
class Unchanged:
    """A file whose bytes are those it had before."""

    task: ReadTask
    sha256: str
    bytes_read: int


@dataclass(frozen=True)
class Accepted:
    """A spectrum, packed for the store."""

    task: ReadTask
    sha256: str
    bytes_read: int
    header: SpectrumHeader
    first_pixel: int
    n_pixels: int
    record: bytes


Outcome = Accepted | Rejected | Unchanged


def read_file(task: ReadTask) -> Outcome:
    """Read one file; whatever it holds, this returns."""
    sha256, size = None, 0
    try:
        loaded = load_file(task.path)
        sha256, size = loaded.sha256.hex(), loaded.size
        if sha256 == task.known_sha256:
            return Unchanged(task, sha256, size)
        spectrum = parse_spectrum(loaded.data)
    except RejectedSpectrum as rejection:
        return Rejected(task, str(rejection.reason), _printable(rejection.detail), sha256, size)
    return Accepted(
        task, sha256, size, spectrum.header, spectrum.first_pixel, spectrum.flux.size, pack(spectrum)
    )


def read_piece(tasks: list[ReadTask]) -> list[Outcome]:
    """Read some files, in order."""
    return [read_file(task) for task in tasks]


def read_pieces(pieces: Iterable[list[ReadTask]], processes: int) -> Iterator[list[Outcome]]:
    """Read pieces of work in several processes; outcomes come in the order of the pieces.

    A file that kills the process that reads it (out of memory, a fault in a library) is found by reading its
    piece file by file, and rejected; the others are read again.

    Parameters
    ----------
    pieces : iterable of lists of ReadTask
        Pulled from some pieces ahead.
    processes : int
        Number of readers; with 1 the files are read here, without any other process.
    """
    if processes == 1:
        yield from map(read_piece, pieces)
        return
    source = iter(pieces)
    pending: deque[tuple[list[ReadTask], Future[list[Outcome]]]] = deque()
    pool = _new_pool(processes)
    try:
        while True:
            while len(pending) < _PIECES_AHEAD and (piece := next(source, None)) is not None:
                pending.append((piece, pool.submit(read_piece, piece)))
            if not pending:
                return
            piece, future = pending.popleft()
            try:
                outcomes = future.result()
            except BrokenProcessPool:
                pool.shutdown(wait=True, cancel_futures=True)
                outcomes = _read_one_by_one(piece)
                pool = _new_pool(processes)
                pending = deque((other, pool.submit(read_piece, other)) for other, _ in pending)
            yield outcomes
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read_one_by_one(tasks: list[ReadTask]) -> list[Outcome]:
    """Read files in a process that may die of each of them, and outlive it."""
    outcomes: list[Outcome] = []
    pool = _new_pool(1)
    try:
        for task in tasks:
            try:
                outcomes.append(pool.submit(read_file, task).result())
            except BrokenProcessPool:
                reason, detail = RejectionReason.UNREADABLE, "reading it killed the reading process"
                outcomes.append(Rejected(task, str(reason), detail, None))
                pool.shutdown(wait=True, cancel_futures=True)
                pool = _new_pool(1)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return outcomes


def _new_pool(processes: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork would copy database connections, and threads' locks in any state.
    return ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_reader
    )


def _begin_reader() -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone, be it by kill -9."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _printable(text: str) -> str:
    """Text PostgreSQL takes, whatever was in the file."""
    cut = text if len(text) <= _LONGEST_DETAIL else text[: _LONGEST_DETAIL - 3] + "..."
    return "".join(letter if letter.isprintable() else "?" for letter in cut)
