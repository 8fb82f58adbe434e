"""Which files an ingest is about: files, folders with all that is below them, and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence

from phdl_catalog.errors import InputError


class FileTree:
    """The files below some paths, each once, in an order that is the same every time.

    Nothing is left out: hidden files, and those that cannot be spectra, are told apart by their content
    later.  Symbolic links are followed, and a folder that was seen already is not entered again.

    Parameters
    ----------
    arguments : sequence of str
        Files, folders and patterns (``*``, ``**``, ``?``, ``[...]``).

    Raises
    ------
    InputError
        If one of them is not there, or a pattern matches nothing.
    """

    def __init__(self, arguments: Sequence[str | os.PathLike[str]]) -> None:
        roots: dict[str, None] = {}
        for argument in arguments:
            for path in _expand(os.fspath(argument)):
                roots.setdefault(os.path.abspath(path))
        folders = {root for root in roots if os.path.isdir(root)}
        self.roots = tuple(root for root in roots if not _is_below(root, folders))

    def __iter__(self) -> Iterator[str]:
        seen: set[tuple[int, int]] = set()
        for root in self.roots:
            yield from _walk(root, seen)

    def count(self) -> int:
        """Number of files, found by walking through them."""
        return sum(1 for _ in self)


def _expand(argument: str) -> list[str]:
    if os.path.lexists(argument):
        return [argument]
    if glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True, include_hidden=True))
        if matches:
            # A pattern follows links in circles, until the system has enough of it.
            return sorted({os.path.realpath(match): match for match in reversed(matches)}.values())
        raise InputError(f"nothing matches the pattern {argument!r}")
    raise InputError(f"there is no file or folder {argument!r}")


def _is_below(path: str, folders: set[str]) -> bool:
    parent = os.path.dirname(path)
    while parent != path:
        if parent in folders:
            return True
        path, parent = parent, os.path.dirname(parent)
    return False


def _walk(path: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Depth first, entries by name; what cannot be listed is yielded itself, to be rejected by name."""
    if not os.path.isdir(path):
        yield path
        return
    try:
        status = os.stat(path)
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:
        yield path
        return
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return
    seen.add(identity)
    for entry in entries:
        if _is_folder(entry):
            yield from _walk(entry.path, seen)
        else:
            yield entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that leads in a circle is none."""
    try:
        return entry.is_dir(follow_symlinks=True)
    except OSError:
        return False
