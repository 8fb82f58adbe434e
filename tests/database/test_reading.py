"""A person's query: streamed, read-only, limited, and wrong in one clear line."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from phdl_catalog.database.reading import QueryError, open_query


@pytest.mark.usefixtures("database")
def test_an_empty_result_has_its_columns() -> None:
    with open_query("SELECT model, value FROM label_long") as result:
        assert result.columns == ("model", "value")
        assert list(result.rows) == []


@pytest.mark.usefixtures("database")
def test_a_query_may_be_left_before_its_end() -> None:
    with open_query("SELECT generate_series(1, 100000000)") as result:
        assert next(result.rows) == (1,)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELEC 1", r'syntax error at or near "SELEC" \(at \'SELEC 1\'\)'),
        ("SELECT nope FROM label_long", r'column "nope" does not exist'),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT 1 / 0", "division by zero"),
        ("TABLE phdl.fit", "permission denied for table fit"),
        ("CREATE TABLE x (a int)", "no result to show"),
        ("SELECT lo_create(0)", "read-only transaction"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "read-write mode"),
        ("", "no result to show"),
    ],
)
def test_a_wrong_query_is_one_line(query: str, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught, open_query(query) as result:
        list(result.rows)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("database")
def test_a_slow_query_is_stopped() -> None:
    with (
        pytest.raises(QueryError, match="statement timeout"),
        open_query("SELECT pg_sleep(9)", timeout=0.1) as q,
    ):
        list(q.rows)


def test_percent_signs_are_taken_literally(database: Engine) -> None:
    with open_query("SELECT 'a%' LIKE '%s' || '%%', 7 % 4") as result:
        assert list(result.rows) == [(False, 3)]
