"""The pixel store: spectra as records of fixed width, in shards that never change once they exist.

A shard is one file: a header of 4096 bytes (`MAGIC`, one JSON object, spaces, a line feed) and then its
records (`phdl_catalog.spectra.records`), row n at byte ``4096 + n * record_bytes``.  It is written whole,
under another name, made durable and then given its name; on object stores one upload does the same.  So a
name that can be seen belongs to a complete shard, and only then may a database refer to it.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import fsspec
import numpy as np

from phdl_catalog.errors import InputError, NotFoundError, StorageError
from phdl_catalog.spectra.grid import SURVEY_GRID
from phdl_catalog.spectra.records import RECORD, RECORD_BYTES, PixelBlock, pack, unpack, verify
from phdl_catalog.spectra.spectrum import Spectrum

#: First bytes of a shard; the number is the version of the format.
MAGIC = b"PHDLPIX1"

#: Size of a shard's header [bytes].
HEADER_BYTES = 4096

#: Most rows of a shard: 36 MB, held in memory until it is written.
MOST_ROWS = 1024

#: Rows of no interest that are read along, rather than reading twice.
_LARGEST_GAP = 8

_SUFFIX = ".shard"
_UNFINISHED = ".part"


@dataclass(frozen=True, order=True)
class PixelAddress:
    """Where the pixels of one spectrum lie: name of the shard, and row inside it."""

    shard: str
    row: int


class PixelStore:
    """Shards under one URL.

    Parameters
    ----------
    url : str
        A local path, or any URL fsspec knows (``s3://bucket/prefix``, ``memory://``, ...).
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        self._fs, root = fsspec.core.url_to_fs(self.url)
        self._root = root.rstrip("/")
        protocol = self._fs.protocol if isinstance(self._fs.protocol, str) else self._fs.protocol[0]
        self._local = protocol in ("file", "local")
        self._checked: set[str] = set()

    def open_shard(self, release: str) -> ShardWriter:
        """Begin a shard of a release; nothing can be seen of it until it is committed."""
        if not release or "/" in release or release.startswith("."):
            raise InputError(f"{release!r} cannot be a folder of the pixel store")
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        return ShardWriter(self, release, f"{release}/{stamp}-{uuid.uuid4().hex[:12]}{_SUFFIX}")

    def read(self, addresses: Sequence[PixelAddress]) -> PixelBlock:
        """Read spectra, in the order asked for; neighbouring rows are one read.

        Parameters
        ----------
        addresses : (N,) sequence of PixelAddress
            What to read; may repeat.

        Raises
        ------
        NotFoundError
            If a shard is not there.
        StorageError
            If a shard cannot be read, is shorter than a row asked for, or is damaged.
        """
        records = np.empty(len(addresses), dtype=RECORD)
        places: dict[str, list[tuple[int, int]]] = {}
        for place, address in enumerate(addresses):
            places.setdefault(address.shard, []).append((address.row, place))
        for shard, rows in places.items():
            self._check_header(shard)
            for run in _runs(sorted(rows)):
                first, last = run[0][0], run[-1][0]
                chunk = self._read_rows(shard, first, last + 1 - first)
                records[[place for _, place in run]] = chunk[[row - first for row, _ in run]]
        return unpack(records)

    def shards(self, release: str) -> list[str]:
        """Names of the complete shards of a release, in order."""
        return sorted(name for name in self._listing(release) if name.endswith(_SUFFIX))

    def remove_unreferenced(self, release: str, referenced: Iterable[str]) -> list[str]:
        """Remove what an interrupted writer left: unfinished shards, and those nothing refers to.

        Only for a caller that knows that nobody else is writing shards of this release.
        """
        keep = set(referenced)
        removed = [name for name in self._listing(release) if name not in keep]
        for name in removed:
            self._fs.rm_file(self._path(name))
        return removed

    def _listing(self, release: str) -> Iterator[str]:
        try:
            found = self._fs.ls(self._path(release), detail=False, refresh=True)
        except FileNotFoundError:
            return
        for path in found:
            name = str(path).rsplit("/", 1)[-1]
            if name.endswith((_SUFFIX, _UNFINISHED)):
                yield f"{release}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _read_bytes(self, shard: str, start: int, length: int) -> bytes:
        try:
            if self._local:
                with open(self._path(shard), "rb", buffering=0) as stream:
                    return os.pread(stream.fileno(), length, start)
            return bytes(self._fs.cat_file(self._path(shard), start=start, end=start + length))
        except FileNotFoundError:
            raise NotFoundError(
                f"the pixel store {self.url} has no shard {shard}; is PHDL_STORE_URL (or PHDL_DATA_DIR) "
                "what it was ingested with?"
            ) from None
        except OSError as error:
            if not self._local and error.errno == errno.EINVAL:
                return b""  # S3 refuses a range that begins behind the end, where a file reads as empty
            raise StorageError(f"cannot read shard {shard} of {self.url}: {error}") from error

    def _check_header(self, shard: str) -> None:
        if shard in self._checked:
            return
        header = parse_header(self._read_bytes(shard, 0, HEADER_BYTES), shard)
        expected = {
            "first_pixel": SURVEY_GRID.first,
            "n_pixels": SURVEY_GRID.size,
            "record_bytes": RECORD_BYTES,
        }
        found = {key: header.get(key) for key in expected}
        if found != expected:
            raise StorageError(f"shard {shard} has records this version cannot read: {found}, not {expected}")
        self._checked.add(shard)

    def _read_rows(self, shard: str, first: int, count: int) -> np.ndarray[Any, np.dtype[np.void]]:
        if first < 0:
            raise InputError(f"row {first} of shard {shard}: rows count from 0")
        raw = self._read_bytes(shard, HEADER_BYTES + first * RECORD_BYTES, count * RECORD_BYTES)
        if len(raw) != count * RECORD_BYTES:
            raise StorageError(
                f"shard {shard} ends before row {first + count - 1}: it is truncated, or not the one meant"
            )
        verify(raw, f"shard {shard}, counted from row {first},")
        return np.frombuffer(raw, dtype=RECORD)

    def _write_shard(self, name: str, parts: Sequence[bytes]) -> None:
        path = self._path(name)
        try:
            if self._local:
                _write_durably(Path(path), parts)
            else:
                self._fs.pipe_file(path, b"".join(parts))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            advice = "the disk is full: make room and run the same command again" if full else str(error)
            raise StorageError(
                f"shard {name} cannot be written to {self.url}: {advice}; nothing of it was kept, and "
                "all that was done before is safe"
            ) from error


class ShardWriter:
    """A shard in the making: in memory until `commit`, which is all or nothing.

    Use it as a context manager: leaving the block commits, leaving it by an exception does not.
    """

    def __init__(self, store: PixelStore, release: str, name: str) -> None:
        self._store, self._release = store, release
        self.name = name
        self._records: list[bytes] = []
        self._open = True

    def append(self, spectrum: Spectrum) -> PixelAddress:
        """Add a spectrum; the address holds only after `commit`."""
        return self.append_record(pack(spectrum))

    def append_record(self, record: bytes) -> PixelAddress:
        """Add a spectrum that is packed already, by `phdl_catalog.spectra.records.pack`."""
        if not self._open:
            raise InputError(f"shard {self.name} is closed")
        if len(record) != RECORD_BYTES:
            raise InputError(f"a record has {RECORD_BYTES} bytes, not {len(record)}")
        if len(self._records) >= MOST_ROWS:
            raise InputError(f"a shard has at most {MOST_ROWS} rows; commit it and open another")
        self._records.append(record)
        return PixelAddress(self.name, len(self._records) - 1)

    def commit(self) -> None:
        """Make the shard durable and give it its name; an empty one leaves nothing.

        Raises
        ------
        StorageError
            If it cannot be written, a full disk for one; nothing can be seen of it then.
        """
        if not self._open:
            return
        self._open = False
        if self._records:
            header = _make_header(self._release, len(self._records))
            self._store._write_shard(self.name, [header, *self._records])
            self._records.clear()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        self._open = False


def parse_header(content: bytes, name: str) -> dict[str, Any]:
    """The JSON header of a shard, from its first `HEADER_BYTES` bytes.

    Raises
    ------
    StorageError
        If these are not a shard's.
    """
    if len(content) < HEADER_BYTES or not content.startswith(MAGIC):
        raise StorageError(f"{name} is no pixel shard: it does not start with {MAGIC.decode()}")
    try:
        header = json.loads(content[len(MAGIC) : HEADER_BYTES])
    except ValueError as error:
        raise StorageError(f"the header of shard {name} is damaged: {error}") from error
    if not isinstance(header, dict):
        raise StorageError(f"the header of shard {name} is damaged: it is no JSON object")
    return header


def _make_header(release: str, rows: int) -> bytes:
    document = {
        "format": "phdl-catalog pixel shard",
        "version": 1,
        "release": release,
        "rows": rows,
        "header_bytes": HEADER_BYTES,
        "record_bytes": RECORD_BYTES,
        "first_pixel": SURVEY_GRID.first,
        "n_pixels": SURVEY_GRID.size,
        "grid": "log10(wavelength / Angstrom) of pixel i is (first_pixel + i) * 1e-4, vacuum",
        "record": [[name, RECORD[name].base.str, list(RECORD[name].shape)] for name in RECORD.names or ()],
        "checksum": "crc32 of the bytes of a record after its first four",
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = MAGIC + json.dumps(document).encode("ascii")
    return text.ljust(HEADER_BYTES - 1) + b"\n"


def _runs(rows: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Split sorted (row, place) pairs where reading on would read too much for nothing."""
    start = 0
    for index in range(1, len(rows) + 1):
        if index == len(rows) or rows[index][0] - rows[index - 1][0] > _LARGEST_GAP + 1:
            yield rows[start:index]
            start = index


def _write_durably(path: Path, parts: Sequence[bytes]) -> None:
    """Write a new file so that it is there whole or not at all, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + _UNFINISHED)
    try:
        with open(unfinished, "xb") as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
