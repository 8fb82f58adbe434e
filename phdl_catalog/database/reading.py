"""Queries of a person: read-only, as the reader, with a time limit, and errors in one line."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from phdl_catalog.database.copy import driver_connection
from phdl_catalog.database.session import connect_reader
from phdl_catalog.errors import PhdlError
from phdl_catalog.settings import Settings

#: Rows fetched from the server at a time.
_BATCH = 5000


class QueryError(PhdlError):
    """PostgreSQL refused a query."""


@dataclass(frozen=True)
class QueryResult:
    """Columns of a result, and its rows as they come from the server.

    Parameters
    ----------
    columns : tuple of str
        Names of the columns.
    rows : iterator of sequence
        The rows; they can be read once, while the query is open.
    """

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


@contextmanager
def open_query(
    query: str, *, timeout: float | None = None, settings: Settings | None = None
) -> Iterator[QueryResult]:
    """Run one SELECT in a read-only transaction as ``phdl_reader``; rows are streamed.

    Parameters
    ----------
    query : str
        One statement.
    timeout : float, optional
        Longest time it may take [s]; the role's own limit by default.
    settings : Settings, optional
        Which database; read from the environment by default.

    Raises
    ------
    QueryError
        With PostgreSQL's message in one line.
    ServiceError
        If the server does not answer.
    """
    engine = connect_reader(settings)
    try:
        with engine.connect() as connection:
            if timeout is not None:
                connection.execute(
                    text("SELECT set_config('statement_timeout', :limit, true)"),
                    {"limit": f"{int(timeout * 1000)}ms"},
                )
            connection.execute(text("SET TRANSACTION READ ONLY"))
            driver = driver_connection(connection)
            columns = _describe(driver, query)
            # A generator, to be closed when the caller stops early: that cancels the query.
            stream = cast(
                Generator[Sequence[Any], None, None], driver.cursor().stream(query.encode(), size=_BATCH)
            )
            with closing(stream) as rows:
                yield QueryResult(columns, rows)
    except psycopg.Error as error:
        raise QueryError(one_line(error, query)) from error
    except DBAPIError as error:
        raise QueryError(str(error.orig).strip().splitlines()[0]) from error
    finally:
        engine.dispose()


def _describe(connection: psycopg.Connection[Any], query: str) -> tuple[str, ...]:
    """Names of a query's columns without running it: an empty result has columns too."""
    server = connection.pgconn
    for result in (server.prepare(b"", query.encode()), server.describe_prepared(b"")):
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result)
    if result.nfields == 0:
        raise QueryError("this statement has no result to show; write one SELECT")
    return tuple((result.fname(index) or b"").decode() for index in range(result.nfields))


def one_line(error: psycopg.Error, query: str) -> str:
    """PostgreSQL's error in one line: what, where in the query, and its hint."""
    diagnostic = error.diag
    message = diagnostic.message_primary or str(error).strip().splitlines()[0]
    if "multiple commands" in message:
        return "one statement at a time, please"
    if diagnostic.statement_position:
        position = int(diagnostic.statement_position) - 1
        near = " ".join(query[position : position + 30].split())
        message += f" (at '{near}')" if near else " (at the end)"
    if diagnostic.message_hint:
        message += f"; {diagnostic.message_hint}"
    return message
