"""The commands about servers, schema and SQL, as typed."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from phdl_catalog.cli.main import app
from phdl_catalog.database.reading import QueryError
from phdl_catalog.errors import SchemaError


def phdl(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin)


def test_db_check_says_the_revision(database: Engine) -> None:
    assert json.loads(phdl("db", "check", "--deep", "--json").stdout)["matches"] is True


def test_db_check_of_an_empty_database_fails_until_upgraded(empty_database: Engine) -> None:
    failed = phdl("db", "check")
    assert failed.exit_code == 1
    assert isinstance(failed.exception, SchemaError)
    assert json.loads(phdl("db", "upgrade", "--json").stdout)["changed"] is True
    assert "already at revision" in phdl("db", "upgrade").stdout
    assert phdl("db", "check").exit_code == 0


QUERY = (
    "SELECT 1 AS n, 4295806720::bigint AS obsid, 9007199254740993 AS big, "
    "'é,\"' AS s, NULL AS x, 1.5::numeric AS d"
)


def test_sql_as_json_keeps_every_digit(database: Engine) -> None:
    document = json.loads(phdl("sql", QUERY, "--json").stdout)
    assert document["columns"] == ["n", "obsid", "big", "s", "x", "d"]
    assert document["rows"] == [
        {"n": 1, "obsid": "4295806720", "big": "9007199254740993", "s": 'é,"', "x": None, "d": 1.5}
    ]


def test_sql_as_csv_can_be_read_back(database: Engine) -> None:
    assert phdl("sql", QUERY, "--format", "csv").stdout == (
        'n,obsid,big,s,x,d\n1,4295806720,9007199254740993,"é,""",,1.5\n'
    )


def test_sql_reads_standard_input(database: Engine) -> None:
    assert phdl("sql", "-", "--format", "csv", stdin="SELECT 1 AS a").stdout == "a\n1\n"


def test_sql_shows_a_hundred_rows_and_says_that_there_are_more(database: Engine) -> None:
    query = "SELECT i FROM generate_series(1000, 1999) AS g (i)"
    shown = phdl("sql", query)
    assert "1099" in shown.stdout
    assert "1100" not in shown.stdout
    assert "the first 100 rows" in shown.stderr
    assert "the first" not in phdl("sql", query, "--limit", "1000").stderr
    assert len(json.loads(phdl("sql", query, "--json").stdout)["rows"]) == 1000


def test_sql_runs_as_the_reader(database: Engine) -> None:
    assert phdl("sql", "SELECT current_user", "-f", "csv").stdout.splitlines()[1] == "phdl_reader"
    refused = phdl("sql", "TABLE fit")
    assert refused.exit_code == 1
    assert isinstance(refused.exception, QueryError)


@pytest.mark.usefixtures("broker")
def test_up_upgrades_a_given_database(empty_database: Engine) -> None:
    found = json.loads(phdl("up", "--json").stdout)["services"]
    assert [service["running"] for service in found] == [True, True]
    with empty_database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM phdl.spectrum")) == 0
    assert "running" in phdl("status").stdout
    assert json.loads(phdl("down", "--json").stdout) == {"stopped": []}
