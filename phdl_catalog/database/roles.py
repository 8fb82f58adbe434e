"""The roles: the owner, who made the schema, and one for each kind of process, with what that needs."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from phdl_catalog.database.copy import driver_connection
from phdl_catalog.database.queries import run_script
from phdl_catalog.errors import InputError, SchemaError
from phdl_catalog.settings import Settings

#: May write fits, chunks and events, and nothing else.
WORKER = "phdl_worker"

#: May do that for a worker that is gone, and say how far a run is.
DISPATCHER = "phdl_dispatcher"

#: May read everything, and write nothing: the pages of `phdl serve`.
PAGES = "phdl_pages"

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

#: The page of a catalogue counts its rows, millions of them.
PAGES_HABITS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "5min",
    "idle_in_transaction_session_timeout": READER_TIMEOUT,
}

ROLES = {WORKER: WORKER_HABITS, DISPATCHER: WORKER_HABITS, PAGES: PAGES_HABITS, READER: READER_HABITS}


def creation_statements() -> list[str]:
    """SQL that makes the roles, for an administrator of a server where we may not."""
    statements = []
    for role, habits in ROLES.items():
        statements.append(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
        for name, value in habits.items():
            # A list of names is a list of words, not one quoted word.
            quoted = value if name == "search_path" else f"'{value}'"
            statements.append(f"ALTER ROLE {role} SET {name} = {quoted}")
    return statements


def create_roles(connection: Connection) -> None:
    """Make the roles that do not exist, and give those that do the habits they lack; one that is set stays.

    Roles belong to the whole server, so a second database on it finds them made.  They have no password until
    `set_passwords` gives them one: over the embedded server's socket none is needed.

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
            f"the roles {', '.join(ROLES)} cannot be made by this user "
            f"({str(error.orig).splitlines()[0]}); ask the administrator to run: {listed}"
        ) from error


def _has(known: dict[str, set[str]], statement: str) -> bool:
    """Whether a statement of `creation_statements` would bring nothing new."""
    verb, _, role, *rest = statement.split()
    return role in known and (verb == "CREATE" or rest[1] in known[role])


def chosen_passwords(settings: Settings) -> dict[str, SecretStr]:
    """Passwords that the settings have for roles."""
    chosen = {
        WORKER: settings.worker_password,
        DISPATCHER: settings.dispatcher_password,
        PAGES: settings.pages_password,
        READER: settings.reader_password,
    }
    return {role: password for role, password in chosen.items() if password is not None}


def set_passwords(connection: Connection, passwords: Mapping[str, SecretStr]) -> None:
    """Give roles the passwords they log in with over a network; doing it again is harmless.

    The server, its log included, is told what verifies a password (SCRAM-SHA-256), and not the password.

    Raises
    ------
    InputError
        If a password is empty: nobody could log in with it.
    SchemaError
        If this user may not, because an administrator made the roles.
    """
    driver = driver_connection(connection)
    for role, password in passwords.items():
        secret = password.get_secret_value()
        if not secret:
            name = f"PHDL_{role.removeprefix('phdl_').upper()}_PASSWORD"
            raise InputError(f"{name} is empty: choose a password for {role}, or do not set it at all")
        verifier = driver.pgconn.encrypt_password(secret.encode(), role.encode(), b"scram-sha-256").decode()
        command = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
        try:
            connection.exec_driver_sql(command.as_string(driver))
        except DBAPIError as error:
            raise SchemaError(
                f"the password of {role} cannot be set by this user ({str(error.orig).splitlines()[0]}); "
                "ask the administrator, who made the roles, to set it"
            ) from None


def may_dispatch(connection: Connection) -> bool:
    """Whether this user may do a dispatcher's work: close runs."""
    right = text("SELECT has_column_privilege('phdl.fit_run', 'state', 'UPDATE')")
    return bool(connection.scalar(right))


def grant(connection: Connection, statements: str) -> None:
    """Give the roles their rights (``migrations/sql/roles.sql``); running it again changes nothing."""
    run_script(connection, statements)
