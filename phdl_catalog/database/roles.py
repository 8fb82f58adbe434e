"""The three roles: the owner, who made the schema; the worker; the reader."""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from phdl_catalog.database.queries import run_script
from phdl_catalog.errors import SchemaError

#: May write fits, chunks and events, and nothing else.
WORKER = "phdl_worker"

#: May read the published catalogue and the views of labels, and nothing else.
READER = "phdl_reader"

#: Longest time a reader's statement may take, and a forgotten transaction may stay open.
READER_TIMEOUT = "60s"

#: Habits of the roles, set where they are made so that every client that logs in has them.
READER_HABITS = {
    "default_transaction_read_only": "on",
    "statement_timeout": READER_TIMEOUT,
    "idle_in_transaction_session_timeout": READER_TIMEOUT,
    "search_path": "catalog, phdl, public",
}

#: A statement of a worker writes or reads one chunk: far less than this even where it waits for another.
WORKER_HABITS = {"statement_timeout": "10min", "idle_in_transaction_session_timeout": "5min"}


def creation_statements() -> list[str]:
    """SQL that makes the roles, for an administrator of a server where we may not."""
    statements = []
    for role, habits in {WORKER: WORKER_HABITS, READER: READER_HABITS}.items():
        statements.append(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
        for name, value in habits.items():
            # A list of names is a list of words, not one quoted word.
            quoted = value if name == "search_path" else f"'{value}'"
            statements.append(f"ALTER ROLE {role} SET {name} = {quoted}")
    return statements


def create_roles(connection: Connection) -> None:
    """Make the roles that do not exist, and give those that do the habits they lack; one that is set stays.

    Roles belong to the whole server, so a second database on it finds them made.  They have no password: over
    the embedded server's socket none is needed, elsewhere the administrator sets one or maps them.

    Raises
    ------
    SchemaError
        With the statements an administrator has to run, if this user may not make roles.
    """
    rows = connection.execute(text("SELECT rolname, coalesce(rolconfig, '{}') FROM pg_roles"))
    known = {name: {setting.split("=")[0] for setting in settings} for name, settings in rows}
    missing = [line for line in creation_statements() if not _has(known, line)]
    try:
        for statement in missing:
            connection.execute(text(statement))
    except DBAPIError as error:
        listed = "; ".join(creation_statements())
        raise SchemaError(
            f"the roles {WORKER} and {READER} cannot be made by this user "
            f"({str(error.orig).splitlines()[0]}); ask the administrator to run: {listed}"
        ) from error


def _has(known: dict[str, set[str]], statement: str) -> bool:
    """Whether a statement of `creation_statements` would bring nothing new."""
    verb, _, role, *rest = statement.split()
    return role in known and (verb == "CREATE" or rest[1] in known[role])


def grant(connection: Connection, statements: str) -> None:
    """Give the roles their rights (``migrations/sql/roles.sql``); running it again changes nothing."""
    run_script(connection, statements)
