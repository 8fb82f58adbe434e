"""Getting the bytes of one file, bounded: what is too large is refused before it is read or unpacked."""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

from phdl_catalog.errors import RejectedSpectrum
from phdl_catalog.spectra.spectrum import RejectionReason

#: Largest file, and largest content, taken seriously [bytes]; a spectrum of low resolution has 0.16 MB, the
#: largest of medium resolution some 3 MB.
LARGEST_BYTES = 16 * 1024 * 1024

#: Archives hold files that were packed twice; more often than this is an attack.
_MOST_GZIP_LAYERS = 3

_GZIP_MAGIC = b"\x1f\x8b"

#: zlib's window bits for one gzip member with header and checksum.
_GZIP_WINDOW = 31

#: What the first bytes of other kinds of files are.
_OTHER_KINDS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file: run `git lfs pull` where it is from",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"BZh": "a bzip2 archive: unpack it first",
    b"\xfd7zXZ": "an xz archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it first",
    b"\x1f\x9d": "a compress archive: unpack it first",
    b"\x89HDF": "HDF5",
    b"<": "HTML or XML, often a server's error page",
}


@dataclass(frozen=True)
class LoadedFile:
    """The bytes of one file as it lies on disk, and what identifies them.

    Parameters
    ----------
    data : bytes
        The bytes.
    sha256 : bytes
        Their SHA-256, 32 bytes.
    size, mtime_ns : int
        Size [bytes] and time of the last change [ns].
    """

    data: bytes
    sha256: bytes
    size: int
    mtime_ns: int


def load_file(path: str | os.PathLike[str]) -> LoadedFile:
    """Read a file of at most `LARGEST_BYTES`.

    Raises
    ------
    RejectedSpectrum
        As unreadable, too large or empty.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe waits for a writer that may never come.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise RejectedSpectrum(RejectionReason.UNREADABLE, str(error)) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RejectedSpectrum(RejectionReason.UNREADABLE, "not a regular file")
        if status.st_size > LARGEST_BYTES:
            raise RejectedSpectrum(
                RejectionReason.TOO_LARGE, f"{status.st_size:,} bytes; the limit is {LARGEST_BYTES:,}"
            )
        parts, length = [], 0
        while length <= LARGEST_BYTES and (part := os.read(descriptor, LARGEST_BYTES + 1 - length)):
            parts.append(part)
            length += len(part)
    except OSError as error:
        raise RejectedSpectrum(RejectionReason.UNREADABLE, str(error)) from error
    finally:
        os.close(descriptor)
    data = b"".join(parts)
    if len(data) > LARGEST_BYTES:
        raise RejectedSpectrum(RejectionReason.TOO_LARGE, f"grew past the limit of {LARGEST_BYTES:,} bytes")
    if not data:
        raise RejectedSpectrum(RejectionReason.EMPTY, "the file has no bytes")
    return LoadedFile(data, hashlib.sha256(data).digest(), len(data), status.st_mtime_ns)


def unpack(data: bytes) -> bytes:
    """Undo gzip, as often as it was applied, and make sure that what comes out starts like FITS.

    Raises
    ------
    RejectedSpectrum
        As too large, truncated, corrupt, empty or not FITS.
    """
    for _ in range(_MOST_GZIP_LAYERS):
        if not data.startswith(_GZIP_MAGIC):
            break
        data = _gunzip(data)
    if not data:
        raise RejectedSpectrum(RejectionReason.EMPTY, "nothing is left after unpacking")
    if not data.startswith(b"SIMPLE  ="):
        raise RejectedSpectrum(RejectionReason.NOT_FITS, _describe(data))
    return data


def _gunzip(data: bytes) -> bytes:
    parts, room = [], LARGEST_BYTES
    while data:
        member = zlib.decompressobj(wbits=_GZIP_WINDOW)
        try:
            part = member.decompress(data, room + 1)
        except zlib.error as error:
            raise RejectedSpectrum(RejectionReason.CORRUPT, f"the gzip stream is damaged: {error}") from error
        room -= len(part)
        if room < 0:
            raise RejectedSpectrum(
                RejectionReason.TOO_LARGE, f"unpacks to more than the limit of {LARGEST_BYTES:,} bytes"
            )
        if not member.eof:
            raise RejectedSpectrum(RejectionReason.TRUNCATED, "the gzip stream ends too early")
        parts.append(part)
        # Zeros may fill up a gzip file; anything else that follows must be another member.
        data = member.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _describe(data: bytes) -> str:
    for magic, kind in _OTHER_KINDS.items():
        if data.startswith(magic):
            return kind
    if data[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    start = data[:16]
    return f"starts with {start!r}, not with the card SIMPLE"


def file_uri(path: str | os.PathLike[str]) -> str:
    """The ``file:`` URI of a path, absolute but with symbolic links kept."""
    return Path(os.path.abspath(path)).as_uri()
