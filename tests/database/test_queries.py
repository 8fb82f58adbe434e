"""Named statements are found by name, and a wrong name says what there is."""

from __future__ import annotations

from importlib.resources import files

import pytest
from sqlalchemy import Connection

from phdl_catalog.database import queries
from phdl_catalog.errors import NotFoundError

FILES = sorted(
    path.name.removesuffix(".sql") for path in files(queries).iterdir() if path.name.endswith(".sql")
)


def test_a_file_is_cut_at_its_headings() -> None:
    content = "-- a file\n\n-- name: first\n-- why\nSELECT 1;\n\n-- name: second\nSELECT 2\n"
    assert queries.split(content) == {"first": "-- why\nSELECT 1", "second": "SELECT 2"}


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        queries.split("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n")


def test_a_wrong_name_says_which_there_are() -> None:
    with pytest.raises(NotFoundError, match=r"events.sql has no statement 'x'; it has record"):
        queries.statement("events", "x")
    with pytest.raises(NotFoundError, match=r"no file absent.sql"):
        queries.statement("absent", "x")


@pytest.mark.parametrize("file", FILES)
def test_every_file_has_statements(file: str) -> None:
    assert queries.load(file)


def test_a_script_runs_as_a_whole_and_takes_percent_signs(transaction: Connection) -> None:
    queries.run_script(transaction, "CREATE TEMPORARY TABLE t (a text); INSERT INTO t VALUES ('100 %s');")
    assert transaction.exec_driver_sql("SELECT a FROM t").scalar() == "100 %s"
