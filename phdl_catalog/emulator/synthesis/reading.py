"""Which format a line list has, by its content, and reading it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from phdl_catalog.emulator.synthesis.line_list import LineList, merge
from phdl_catalog.errors import InputError, NotFoundError

#: What line lists are read, and where they are found in the world.
KNOWN_FORMATS = (
    "VALD ('extract stellar', short or long, from vald.astro.uu.se, by mail); the Gaia-ESO list (table "
    "geslines of VizieR's J/A+A/645/A106, as FITS or VOTable); Kurucz gfall (160 columns, from "
    "kurucz.harvard.edu); MOOG as written by linemake (github.com/vmplacco/linemake)"
)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_kurucz(line: str) -> bool:
    fields = [line[0:11], line[11:18], line[18:24], line[24:36]]
    return len(line) >= 70 and all(_number(field) is not None for field in fields)


def _is_moog(line: str) -> bool:
    fields = [line[index * 10 : (index + 1) * 10] for index in range(4)]
    return all(_number(field) is not None for field in fields)


def recognise(path: Path) -> Callable[[Path], LineList]:
    """The reader of a file.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InputError
        If its content is of no known format; the message lists those that are.
    """
    from phdl_catalog.emulator.synthesis.ges import read_ges
    from phdl_catalog.emulator.synthesis.kurucz import read_kurucz
    from phdl_catalog.emulator.synthesis.moog import read_moog
    from phdl_catalog.emulator.synthesis.vald import read_vald

    if not path.is_file():
        raise NotFoundError(f"there is no line list {path}; what is read: {KNOWN_FORMATS}")
    with path.open("rb") as stream:
        start = stream.read(4096)
    if start.startswith(b"SIMPLE  =") or (b"<VOTABLE" in start):
        return read_ges
    lines = [line for line in start.decode("latin-1").splitlines() if line.strip()]
    if any("WL_air(" in line or "WL_vac(" in line for line in lines[:8]):
        return read_vald
    if lines and _is_kurucz(lines[0]):
        return read_kurucz
    if len(lines) > 1 and _is_moog(lines[1]):
        return read_moog
    raise InputError(f"{path.name} is no line list of a known format; what is read: {KNOWN_FORMATS}")


def read_lines(paths: Sequence[str | Path]) -> LineList:
    """Line lists as one, without hydrogen, which the engine has itself.

    Parameters
    ----------
    paths : sequence of path
        Files of the known formats; they must not have lines in common.

    Raises
    ------
    NotFoundError, InputError
        If a file is absent or cannot be read.
    """
    lists = [recognise(Path(path))(Path(path)) for path in paths]
    merged = merge(lists)
    return merged.select(~merged.is_hydrogen)
