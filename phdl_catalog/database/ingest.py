"""Ingest: files of a survey's release become rows of `spectrum` and pixels in the store.

For each batch of files the pixels are made durable first, in a shard nobody refers to yet; then one
transaction writes the rows that do.  An ingest that is killed between the two leaves a shard that the next
one removes; one that is killed at any other moment leaves whole batches, and goes on where it stopped when
it is run again, because files whose bytes are known are not read further than their checksum.

What happens to a file:

| the file | counted as |
| --- | --- |
| a usable spectrum, new | accepted |
| no usable spectrum | rejected, with a reason |
| the same bytes as before, or the same bytes as another file of the release | unchanged |
| other bytes under the same obsid, or other bytes than this file had when it was accepted | conflict |
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import Engine, func, select

from phdl_catalog.database.events import record_event
from phdl_catalog.database.ingest_files import FileTree
from phdl_catalog.database.ingest_reader import (
    PIECE_FILES,
    Accepted,
    Outcome,
    ReadTask,
    Rejected,
    Unchanged,
    read_pieces,
)
from phdl_catalog.database.ingest_rows import (
    KnownFile,
    KnownSpectrum,
    known_files,
    known_spectra,
    merge_rows,
    unreferenced_shards,
)
from phdl_catalog.database.models import SpectrumState
from phdl_catalog.database.releases import add_release, find_release
from phdl_catalog.errors import ConflictError, NotFoundError, StateError
from phdl_catalog.spectra import PixelAddress, PixelStore
from phdl_catalog.spectra.files import file_uri

#: Files a shard and a transaction hold: 18 MB of pixels.
BATCH_FILES = 512

#: Fewer files than this are read in this process: starting others takes longer.
_FEWEST_FOR_PROCESSES = 1000

#: First half of the key of the advisory lock that a release is ingested under; the second is release_id.
_LOCK_CLASS = 0x50484449

#: Most conflicts that are described; all are counted.
_MOST_CONFLICTS_LISTED = 1000


@dataclass(frozen=True)
class Conflict:
    """Two files that claim to be the same spectrum and are not the same."""

    obsid: int | None
    file: str
    known_file: str
    detail: str


@dataclass
class IngestSummary:
    """What became of the files of one ingest; the four counts add up to `found`."""

    release: str
    created: bool = False
    found: int = 0
    accepted: int = 0
    rejected: int = 0
    unchanged: int = 0
    conflicts: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    conflict_list: list[Conflict] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Files a second."""
        return self.found / self.seconds if self.seconds > 0 else 0.0

    def raise_conflicts(self) -> None:
        """Raise `ConflictError` naming both files of each conflict, if there are any."""
        if self.conflicts:
            shown = "; ".join(conflict.detail for conflict in self.conflict_list[:5])
            more = f"; and {self.conflicts - 5} more" if self.conflicts > 5 else ""
            raise ConflictError(
                f"files left out because release {self.release} has other bytes for the same spectrum: "
                f"{self.conflicts}; {shown}{more}; ingest such files into a release of their own",
                conflicts=self.conflict_list,
            )


def ingest(
    engine: Engine,
    store: PixelStore,
    release: str,
    paths: Sequence[str],
    *,
    processes: int = 1,
    create: bool = True,
    on_progress: Callable[[int], None] | None = None,
    batch_files: int = BATCH_FILES,
) -> IngestSummary:
    """Ingest files into a release.

    Parameters
    ----------
    engine : Engine
        The database.
    store : PixelStore
        Where the pixels go.
    release : str
        Name of the release.
    paths : sequence of str
        Files, folders and patterns, see `FileTree`.
    processes : int
        Number of reading processes.
    create : bool
        Add the release if it is not there.
    on_progress : callable, optional
        Called with the number of files that were finished since the last call.
    batch_files : int
        Files a shard and a transaction hold.

    Returns
    -------
    IngestSummary
        Conflicts are in it and not raised: see `IngestSummary.raise_conflicts`.

    Raises
    ------
    InputError
        If a path is not there.
    NotFoundError
        If the release is not there and may not be created.
    StateError
        If the release is being ingested elsewhere.
    StorageError
        If pixels cannot be written; what was reported done is safe.
    """
    tree = FileTree(paths)
    with engine.connect() as connection:
        release_id = find_release(connection, release)
    summary = IngestSummary(release, created=release_id is None)
    if release_id is None:
        if not create:
            raise NotFoundError(f"there is no release {release!r}; `phdl release add {release}` adds it")
        release_id = add_release(engine, release)
    begun = time.monotonic()
    with _only_ingest_of(engine, release_id, release):
        _remove_leftovers(engine, store, release)
        few = len(list(islice(iter(tree), _FEWEST_FOR_PROCESSES))) < _FEWEST_FOR_PROCESSES
        batch = _Batch(engine, store, release_id, summary)
        pieces = _pieces(engine, release_id, tree)
        pending: list[Outcome] = []
        for outcomes in read_pieces(pieces, 1 if few else processes):
            pending.extend(outcomes)
            while len(pending) >= batch_files:
                batch.write(pending[:batch_files])
                del pending[:batch_files]
                if on_progress is not None:
                    on_progress(batch_files)
        batch.write(pending)
        if on_progress is not None:
            on_progress(len(pending))
        summary.seconds = time.monotonic() - begun
        _record(engine, summary)
    return summary


@dataclass(frozen=True)
class _Batch:
    """Decides about a batch of outcomes, and makes the decision durable."""

    engine: Engine
    store: PixelStore
    release_id: int
    summary: IngestSummary

    def write(self, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        spectra = [item for item in outcomes if isinstance(item, Accepted)]
        with self.engine.connect() as connection:
            files = known_files(connection, self.release_id, [item.task.uri for item in outcomes])
            known = known_spectra(connection, self.release_id, [item.header.obsid for item in spectra])
        counts = IngestSummary(self.summary.release)
        accepted, rejected = _decide(outcomes, files, known, counts)
        addressed: list[tuple[Accepted, PixelAddress]] = []
        with self.store.open_shard(self.summary.release) as shard:
            addressed.extend((item, shard.append_record(item.record)) for item in accepted)
        with self.engine.begin() as connection:
            merge_rows(connection, self.release_id, addressed, rejected)
        _add(self.summary, counts)


def _decide(
    outcomes: Sequence[Outcome],
    files: dict[str, KnownFile],
    known: dict[int, KnownSpectrum],
    counts: IngestSummary,
) -> tuple[list[Accepted], list[Rejected]]:
    """Count each outcome once; return what is to be written.  `known` grows by what is accepted."""
    accepted: list[Accepted] = []
    rejected: list[Rejected] = []
    for item in outcomes:
        counts.found += 1
        counts.bytes_read += item.bytes_read
        before = files.get(item.task.uri)
        was_accepted = before is not None and before.state == SpectrumState.ACCEPTED
        if isinstance(item, Unchanged):
            counts.unchanged += 1
        elif was_accepted:
            obsid = item.header.obsid if isinstance(item, Accepted) else None
            detail = f"{item.task.uri} has other bytes than when it was ingested"
            _count_conflict(counts, Conflict(obsid, item.task.uri, item.task.uri, detail))
        elif isinstance(item, Rejected):
            if before is not None and before == KnownFile(SpectrumState.REJECTED, item.sha256, item.reason):
                counts.unchanged += 1
            else:
                counts.rejected += 1
                counts.reasons[item.reason] += 1
                rejected.append(item)
        else:
            twin = known.get(item.header.obsid)
            if twin is None:
                counts.accepted += 1
                known[item.header.obsid] = KnownSpectrum(item.task.uri, item.sha256)
                accepted.append(item)
            elif twin.sha256 == item.sha256:
                counts.unchanged += 1
            else:
                detail = f"obsid {item.header.obsid} is {twin.uri} and, with other bytes, {item.task.uri}"
                _count_conflict(counts, Conflict(item.header.obsid, item.task.uri, twin.uri, detail))
    return accepted, rejected


def _count_conflict(counts: IngestSummary, conflict: Conflict) -> None:
    counts.conflicts += 1
    counts.conflict_list.append(conflict)


def _add(summary: IngestSummary, counts: IngestSummary) -> None:
    for name in ("found", "accepted", "rejected", "unchanged", "conflicts", "bytes_read"):
        setattr(summary, name, getattr(summary, name) + getattr(counts, name))
    summary.reasons.update(counts.reasons)
    room = _MOST_CONFLICTS_LISTED - len(summary.conflict_list)
    summary.conflict_list.extend(counts.conflict_list[:room])


def _pieces(engine: Engine, release_id: int, tree: FileTree) -> Iterator[list[ReadTask]]:
    """Work for the readers, with the checksums that are known; one query for `BATCH_FILES` files."""
    paths = iter(tree)
    while some := list(islice(paths, BATCH_FILES)):
        uris = [file_uri(path) for path in some]
        with engine.connect() as connection:
            known = known_files(connection, release_id, uris)
        tasks = [
            ReadTask(path, uri, known[uri].sha256 if uri in known else None)
            for path, uri in zip(some, uris, strict=True)
        ]
        for start in range(0, len(tasks), PIECE_FILES):
            yield tasks[start : start + PIECE_FILES]


@contextmanager
def _only_ingest_of(engine: Engine, release_id: int, release: str) -> Iterator[None]:
    """Hold the release against other ingests; PostgreSQL lets go when this process ends, however it ends."""
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        held = connection.execute(select(func.pg_try_advisory_lock(_LOCK_CLASS, release_id))).scalar_one()
        if not held:
            raise StateError(f"release {release!r} is being ingested by another process; wait for it to end")
        try:
            yield
        finally:
            connection.execute(select(func.pg_advisory_unlock(_LOCK_CLASS, release_id)))
    finally:
        connection.close()


def _remove_leftovers(engine: Engine, store: PixelStore, release: str) -> None:
    shards = store.shards(release)
    with engine.connect() as connection:
        unused = set(unreferenced_shards(connection, shards)) if shards else set()
    store.remove_unreferenced(release, [shard for shard in shards if shard not in unused])


def _record(engine: Engine, summary: IngestSummary) -> None:
    counts = ("found", "accepted", "rejected", "unchanged", "conflicts")
    detail = {name: getattr(summary, name) for name in counts} | {"reasons": dict(summary.reasons)}
    with engine.begin() as connection:
        record_event(connection, f"data_release:{summary.release}", "ingested", detail)
