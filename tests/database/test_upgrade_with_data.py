"""Migrations on a database that is in use: forwards, and every row is still there."""

from __future__ import annotations

from alembic import command
from database_rows import add_model, add_release, add_run, add_spectrum, fit_values
from sqlalchemy import Connection, Engine, insert, text

from phdl_catalog.database import migrate, roles
from phdl_catalog.database.models import Fit
from phdl_catalog.database.run_status import run_status

_FIRST = "0001"


def _first_revision(engine: Engine) -> None:
    with engine.begin() as connection:
        roles.create_roles(connection)
        command.upgrade(migrate.alembic_config(connection), _FIRST)


def _fill(connection: Connection) -> None:
    release = add_release(connection)
    spectra = [add_spectrum(connection, release, number) for number in range(6)]
    model = add_model(connection)
    run = add_run(connection, release, model, state="running")
    connection.execute(insert(Fit), [fit_values(spectrum, model, run) for spectrum in spectra[:4]])
    connection.execute(
        text(
            "INSERT INTO phdl.fit_chunk (fit_run_id, spectrum_ids, state, attempt, worker, started_at, "
            "finished_at, n_fitted, n_failed) "
            "VALUES (:run, :done, 'done', 1, 'host:1', now(), now(), 4, 0)"
        ),
        {"run": run, "done": spectra[:4]},
    )
    connection.execute(
        text("INSERT INTO phdl.fit_chunk (fit_run_id, spectrum_ids) VALUES (:run, :open)"),
        {"run": run, "open": spectra[4:]},
    )
    connection.execute(text("INSERT INTO phdl.event (subject, action) VALUES ('fit_run:1', 'enqueued')"))


def _rows(connection: Connection, tables: list[str]) -> dict[str, list[dict[str, object]]]:
    found = {}
    for table in tables:
        query = f"SELECT to_jsonb(t) FROM phdl.{table} AS t ORDER BY 1"  # noqa: S608
        found[table] = [dict(row) for row in connection.scalars(text(query))]
    return found


def test_every_row_survives_the_upgrade_from_the_first_revision(empty_database: Engine) -> None:
    _first_revision(empty_database)
    with empty_database.begin() as connection:
        _fill(connection)
        tables = list(
            connection.scalars(
                text(
                    "SELECT relname FROM pg_class WHERE relnamespace = 'phdl'::regnamespace "
                    "AND relkind IN ('r', 'p') AND relname <> 'alembic_version' ORDER BY 1"
                )
            )
        )
        before = _rows(connection, tables)
    assert sum(map(len, before.values())) == 20
    assert migrate.upgrade(empty_database) is True
    migrate.check(empty_database, deep=True)
    with empty_database.connect() as connection:
        after = _rows(connection, tables)
        status = run_status(connection)[0]
    for table, rows in before.items():
        assert len(after[table]) == len(rows), table
        for old, new in zip(rows, after[table], strict=True):
            kept = {name: new.get(name) for name in old}
            assert kept == old, table
    assert (status.spectra, status.done, status.remaining) == (6, 4, 2)


def test_there_is_something_to_upgrade_to(empty_database: Engine) -> None:
    _first_revision(empty_database)
    found = migrate.schema_status(empty_database)
    assert (found.current, found.ahead, found.matches) == (_FIRST, False, False)
