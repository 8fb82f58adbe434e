"""SQL statements in ``.sql`` files beside this module, each under a heading that names it.

A file ``chunks.sql`` with the heading ``-- name: claim`` gives ``statement("chunks", "claim")``.  The lines
of comment under a heading say what the statement is for; parameters are written ``:name``.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from sqlalchemy import Connection, TextClause, text

from phdl_catalog.errors import NotFoundError

_HEADING = re.compile(r"^-- name: *(?P<name>[a-z][a-z0-9_]*) *$", re.MULTILINE)


@cache
def load(file: str) -> dict[str, str]:
    """All statements of one file, by name.

    Raises
    ------
    NotFoundError
        If there is no such file.
    """
    path = files(__name__) / f"{file}.sql"
    if not path.is_file():
        raise NotFoundError(f"there is no file {file}.sql of named statements")
    return split(path.read_text(encoding="utf-8"))


def split(content: str) -> dict[str, str]:
    """Cut the content of a file into its named statements.

    Raises
    ------
    ValueError
        If a name stands twice.
    """
    parts = _HEADING.split(content)[1:]
    names = parts[::2]
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice: {', '.join(names)}")
    return {name: body.strip().removesuffix(";") for name, body in zip(names, parts[1::2], strict=True)}


def statement(file: str, name: str) -> TextClause:
    """One statement, ready for ``connection.execute(statement(...), parameters)``.

    Raises
    ------
    NotFoundError
        If the file has no statement of that name.
    """
    known = load(file)
    if name not in known:
        raise NotFoundError(f"{file}.sql has no statement '{name}'; it has {', '.join(known)}")
    return text(known[name])


def run_script(connection: Connection, script: str) -> None:
    """Run a text of several statements without parameters, as ``psql`` would, in the current transaction."""
    connection.exec_driver_sql(script, execution_options={"no_parameters": True})
