"""What the roles may do, table by table: the whole list, so that a new table needs a decision."""

from __future__ import annotations

import pytest
from database_rows import add_model
from sqlalchemy import Engine, text

from phdl_catalog.database.roles import DISPATCHER, PAGES, READER, ROLES, WORKER

#: Tables of schema phdl that the worker changes, and how; all else it reads or does not see at all.
WORKER_CHANGES = {
    "fit": {"INSERT", "UPDATE"},
    "fit_chunk": {"INSERT", "UPDATE"},
    "event": {"INSERT"},
    "calibration_request": {"UPDATE"},
    "calibration_set": {"INSERT"},
    "calibration_offset": {"INSERT"},
    "calibration_member": {"INSERT"},
    "calibration_cell": {"INSERT"},
    "calibration_polynomial": {"INSERT"},
}

#: The same of the dispatcher, which besides closes runs: two columns of `fit_run`.
DISPATCHER_CHANGES = {
    "fit": {"INSERT", "UPDATE"},
    "fit_chunk": {"INSERT", "UPDATE"},
    "event": {"INSERT"},
    "calibration_request": {"UPDATE"},
}

_RIGHTS = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


@pytest.fixture
def filled(database: Engine) -> Engine:
    """A model with its partition and view, and a published table."""
    with database.begin() as connection:
        add_model(connection)
        connection.execute(text("CREATE TABLE catalog.subgiant AS SELECT 7::bigint AS obsid"))
    return database


def rights(engine: Engine, role: str, which: tuple[str, ...]) -> dict[str, set[str]]:
    """Rights of a role by table or view of our schemas; those without any left out."""
    query = text(
        "SELECT relnamespace::regnamespace::text, relname, p "
        "FROM pg_class, unnest(CAST(:rights AS text[])) AS p "
        "WHERE relnamespace IN ('phdl'::regnamespace, 'catalog'::regnamespace) "
        "AND relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(:role, oid, p)"
    )
    found: dict[str, set[str]] = {}
    with engine.connect() as connection:
        for schema, name, right in connection.execute(query, {"role": role, "rights": list(which)}):
            found.setdefault(name if schema == "phdl" else f"{schema}.{name}", set()).add(right)
    return found


def test_the_worker_changes_what_is_listed_and_nothing_else(filled: Engine) -> None:
    assert rights(filled, WORKER, _RIGHTS) == WORKER_CHANGES


def test_the_dispatcher_changes_what_is_listed_and_two_columns_of_runs(filled: Engine) -> None:
    assert rights(filled, DISPATCHER, _RIGHTS) == DISPATCHER_CHANGES
    query = text(
        "SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "WHERE relnamespace = 'phdl'::regnamespace AND attnum > 0 AND NOT attisdropped "
        "AND has_column_privilege(:role, attrelid, attnum, 'UPDATE') "
        "AND NOT has_table_privilege(:role, attrelid, 'UPDATE')"
    )
    with filled.connect() as connection:
        columns = {tuple(row) for row in connection.execute(query, {"role": DISPATCHER})}
    assert columns == {("phdl.fit_run", "state"), ("phdl.fit_run", "finished_at")}


@pytest.mark.parametrize("role", [WORKER, DISPATCHER])
def test_who_does_the_jobs_does_not_read_the_published_catalogue(filled: Engine, role: str) -> None:
    assert not [name for name in rights(filled, role, ("SELECT",)) if name.startswith("catalog.")]


@pytest.mark.parametrize("role", [READER, PAGES])
def test_who_reads_changes_nothing_at_all(filled: Engine, role: str) -> None:
    assert rights(filled, role, _RIGHTS) == {}


def test_the_reader_reads_the_published_tables_and_the_views_of_labels(filled: Engine) -> None:
    with filled.connect() as connection:
        tables = set(
            connection.scalars(
                text(
                    "SELECT relname FROM pg_class "
                    "WHERE relnamespace = 'phdl'::regnamespace AND relkind IN ('r', 'p')"
                )
            )
        )
    readable = set(rights(filled, READER, ("SELECT",)))
    assert {"label_long", "labels_default", "catalog.subgiant"} <= readable
    assert not readable & tables


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_no_more_power_than_its_rights(filled: Engine, role: str) -> None:
    query = text(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin, "
        "has_schema_privilege(rolname, 'phdl', 'CREATE'), "
        "has_schema_privilege(rolname, 'catalog', 'CREATE'), "
        "has_schema_privilege(rolname, 'public', 'CREATE') FROM pg_roles WHERE rolname = :role"
    )
    with filled.connect() as connection:
        row = connection.execute(query, {"role": role}).one()
        member = connection.scalar(
            text("SELECT count(*) FROM pg_auth_members WHERE member = CAST(:role AS regrole)"), {"role": role}
        )
    assert tuple(row) == (False, False, False, False, False, True, False, False, False)
    assert member == 0


@pytest.mark.parametrize("role", ROLES)
def test_no_statement_of_a_role_runs_for_ever(filled: Engine, role: str) -> None:
    with filled.connect() as connection:
        settings = connection.scalar(
            text("SELECT rolconfig FROM pg_roles WHERE rolname = :role"), {"role": role}
        )
    names = {setting.split("=")[0] for setting in settings or ()}
    assert {"statement_timeout", "idle_in_transaction_session_timeout"} <= names
