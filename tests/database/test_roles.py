"""The worker writes fits, chunks and events; the reader reads what is public; both nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from database_rows import add_model, add_release, add_run, add_spectrum, fit_values
from psycopg import errors
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, event, insert, text

from phdl_catalog.database.models import Fit
from phdl_catalog.database.roles import DISPATCHER, READER, ROLES, WORKER, creation_statements, set_passwords
from phdl_catalog.errors import InputError
from phdl_catalog.services.postgres_server import PostgresServer


@pytest.fixture
def filled(database: Engine) -> Engine:
    """A database with a spectrum, a model, a run and a published table."""
    with database.begin() as connection:
        release = add_release(connection)
        spectrum = add_spectrum(connection, release, 7)
        model = add_model(connection)
        run = add_run(connection, release, model)
        connection.execute(insert(Fit).values(**fit_values(spectrum, model, run)))
        connection.execute(text("CREATE TABLE catalog.subgiant AS SELECT 7::bigint AS obsid"))
    return database


def _login(postgres: PostgresServer, engine: Engine, role: str) -> psycopg.Connection[tuple[object, ...]]:
    assert engine.url.database is not None
    return psycopg.connect(postgres.url(engine.url.database, role))


@pytest.fixture
def worker(postgres: PostgresServer, filled: Engine) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with _login(postgres, filled, WORKER) as connection:
        yield connection


@pytest.fixture
def reader(postgres: PostgresServer, filled: Engine) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with _login(postgres, filled, READER) as connection:
        yield connection


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO phdl.fit_chunk (fit_run_id, spectrum_ids) SELECT fit_run_id, '{1}' FROM phdl.fit_run",
        "UPDATE phdl.fit_chunk SET priority = 1",
        "UPDATE phdl.fit SET n_pixels = 5",
        "INSERT INTO phdl.event (subject, action) VALUES ('fit_chunk:1', 'claimed')",
        "CREATE TEMPORARY TABLE staged AS SELECT * FROM phdl.fit WITH NO DATA",
        "SELECT * FROM phdl.spectrum, phdl.model_version, phdl.data_release",
    ],
)
def test_the_worker_may(worker: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    worker.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE phdl.spectrum SET snr_g = 1",
        "DELETE FROM phdl.fit",
        "DELETE FROM phdl.fit_chunk",
        "UPDATE phdl.fit_run SET state = 'done'",
        "INSERT INTO phdl.data_release (name) VALUES ('x')",
        "INSERT INTO phdl.wide_binary DEFAULT VALUES",
        "UPDATE phdl.calibration_set SET state = 'certified'",
        "UPDATE phdl.event SET action = 'x'",
        "SELECT * FROM catalog.subgiant",
        "SELECT phdl.create_model_objects(1)",
        "CREATE TABLE phdl.mine (a int)",
        "CREATE TABLE public.mine (a int)",
    ],
)
def test_the_worker_may_not(worker: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        worker.execute(statement)


@pytest.mark.parametrize("table", ["catalog.subgiant", "subgiant", "phdl.label_long", "labels_default"])
def test_the_reader_reads_what_is_public(reader: psycopg.Connection[tuple[object, ...]], table: str) -> None:
    assert reader.execute(f"TABLE {table}").fetchall()


@pytest.mark.parametrize("table", ["fit", "spectrum", "fit_chunk", "event", "model_version", "fit_model_1"])
def test_the_reader_reads_no_working_table(
    reader: psycopg.Connection[tuple[object, ...]], table: str
) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        reader.execute(f"TABLE phdl.{table}")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO catalog.subgiant VALUES (8)",
        "DELETE FROM catalog.subgiant",
        "CREATE TABLE catalog.mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SET ROLE phdl_worker",
    ],
)
def test_the_reader_writes_nothing_even_in_a_writing_transaction(
    reader: psycopg.Connection[tuple[object, ...]], statement: str
) -> None:
    reader.execute("SET TRANSACTION READ WRITE")
    with pytest.raises(errors.InsufficientPrivilege):
        reader.execute(statement)


def test_the_reader_has_limits_from_its_login_on(reader: psycopg.Connection[tuple[object, ...]]) -> None:
    shown = {
        name: reader.execute(f"SHOW {name}").fetchone()
        for name in (
            "statement_timeout",
            "default_transaction_read_only",
            "idle_in_transaction_session_timeout",
        )
    }
    assert shown == {
        "statement_timeout": ("1min",),
        "default_transaction_read_only": ("on",),
        "idle_in_transaction_session_timeout": ("1min",),
    }


def test_an_administrator_gets_statements_that_make_all_roles() -> None:
    listed = creation_statements()
    assert sum(line.startswith("CREATE ROLE") for line in listed) == len(ROLES) == 4
    assert all("SUPERUSER" not in line.replace("NOSUPERUSER", "") for line in listed)


@contextmanager
def _asking_for_passwords(postgres: PostgresServer, database: str) -> Iterator[None]:
    """Who connects to a database is asked for a password, as over a network."""
    rules = postgres.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local {database} all scram-sha-256\n{before}")
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            rules.write_text(before)
            connection.execute("SELECT pg_reload_conf()")


def _is_refused(url: str, password: str) -> bool:
    try:
        psycopg.connect(url, password=password).close()
    except psycopg.OperationalError as error:
        return "password authentication failed" in str(error)
    return False


def test_a_role_logs_in_with_the_password_it_was_given_and_no_other(
    postgres: PostgresServer, database: Engine
) -> None:
    name = str(database.url.database)
    with database.begin() as connection:
        for _ in range(2):
            set_passwords(connection, {WORKER: SecretStr("hunter2 %s'")})
    with _asking_for_passwords(postgres, name):
        url = postgres.url(name, WORKER)
        assert any(_is_refused(url, "wrong") for _ in range(1000)), "the rules were not read again"
        psycopg.connect(url, password="hunter2 %s'").close()
        assert _is_refused(postgres.url(name, READER), "hunter2 %s'")


def test_the_server_is_told_a_verifier_and_not_the_password(transaction: Connection) -> None:
    sent: list[str] = []
    event.listen(transaction, "before_cursor_execute", lambda *about: sent.append(about[2]))
    set_passwords(transaction, {READER: SecretStr("hunter2")})
    assert len(sent) == 1
    assert "PASSWORD 'SCRAM-SHA-256$" in sent[0]
    assert "hunter2" not in sent[0]


def test_an_empty_password_is_refused(transaction: Connection) -> None:
    with pytest.raises(InputError, match="PHDL_DISPATCHER_PASSWORD is empty"):
        set_passwords(transaction, {DISPATCHER: SecretStr("")})
