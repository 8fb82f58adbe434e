"""SQL of the catalogue in ``.sql`` files beside this module, each statement under a heading that names it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from sqlalchemy import TextClause, text

from phdl_catalog.database.queries import split


@cache
def _load(file: str) -> dict[str, str]:
    return split((files(__name__) / f"{file}.sql").read_text(encoding="utf-8"))


def statement(file: str, name: str) -> TextClause:
    """One statement, ready for ``connection.execute(statement(...), parameters)``.

    Raises
    ------
    KeyError
        If the file has no statement of that name.
    """
    return text(_load(file)[name])
