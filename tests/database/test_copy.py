"""Binary COPY brings every type across unchanged, and a merge can run twice."""

from __future__ import annotations

import pytest
from database_rows import add_model, add_release, add_run, add_spectrum
from sqlalchemy import Engine, insert, select, text

from phdl_catalog.database.copy import copy_rows, merge_rows
from phdl_catalog.database.models import Event, Fit
from phdl_catalog.errors import InputError

COLUMNS = (
    "spectrum_id", "model_version_id", "fit_run_id", "flags", "n_pixels", "chi2",
    "label_values", "label_errors", "label_flags", "label_covariance",
)  # fmt: skip
TYPES = ("int8", "int4", "int4", "int8", "int4", "float4", "float4[]", "float4[]", "int4[]", "bytea")


@pytest.fixture
def fits(database: Engine) -> tuple[Engine, list[tuple[object, ...]]]:
    """An engine, and rows for `fit`: the first has labels, the second none."""
    with database.begin() as connection:
        release = add_release(connection)
        first, second = (add_spectrum(connection, release, obsid) for obsid in (1, 2))
        model = add_model(connection)
        run = add_run(connection, release, model)
    labels = ([5000.0, None, -0.5], [50.0, None, 0.0625], [0, 4, 0], bytes(range(6)))
    return database, [
        (first, model, run, 2**40, 3000, 1.25, *labels),
        (second, model, run, 1, 0, None, None, None, None, None),
    ]


def test_copied_rows_come_back_as_they_were(fits: tuple[Engine, list[tuple[object, ...]]]) -> None:
    engine, rows = fits
    with engine.begin() as connection:
        assert copy_rows(connection, "phdl.fit", COLUMNS, TYPES, iter(rows)) == 2
    with engine.connect() as connection:
        found = connection.execute(
            select(*(getattr(Fit, name) for name in COLUMNS)).order_by(Fit.spectrum_id)
        )
        assert [tuple(row) for row in found] == rows


def test_identifiers_keep_all_their_digits(database: Engine) -> None:
    key = 2**63 - 25
    with database.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE t (id int8)"))
        copy_rows(connection, "t", ["id"], ["int8"], [(key,), (-key,)])
        assert list(connection.scalars(text("SELECT id FROM t ORDER BY id"))) == [-key, key]


def test_a_merge_run_twice_leaves_one_row_a_key(fits: tuple[Engine, list[tuple[object, ...]]]) -> None:
    engine, rows = fits
    key = ("model_version_id", "spectrum_id")
    with engine.begin() as connection:
        assert merge_rows(connection, "phdl.fit", COLUMNS, TYPES, rows, key=key) == 2
    changed = [(*row[:4], 17, *row[5:]) for row in rows]
    with engine.begin() as connection:
        assert merge_rows(connection, "phdl.fit", COLUMNS, TYPES, reversed(changed), key=key) == 2
        assert list(connection.scalars(select(Fit.n_pixels))) == [17, 17]


def test_a_merge_without_replacing_leaves_what_is_there(
    fits: tuple[Engine, list[tuple[object, ...]]],
) -> None:
    engine, rows = fits
    key = ("model_version_id", "spectrum_id")
    with engine.begin() as connection:
        merge_rows(connection, "phdl.fit", COLUMNS, TYPES, rows[:1], key=key)
        changed = [(*row[:4], 17, *row[5:]) for row in rows]
        assert merge_rows(connection, "phdl.fit", COLUMNS, TYPES, changed, key=key, replace=False) == 1
        assert sorted(connection.scalars(select(Fit.n_pixels))) == [17, 3000]


def test_a_merge_through_a_partial_index_replaces(database: Engine) -> None:
    columns = ("release_id", "obsid", "uri", "state", "reason", "detail")
    types = ("int4", "int8", "text", "text", "text", "text")
    with database.begin() as connection:
        row = [add_release(connection), None, "a.fits", "rejected", "not_fits", "text"]
        for reason in ("not_fits", "truncated"):
            row[4] = reason
            merge_rows(
                connection, "phdl.spectrum", columns, types, [row], key=("release_id", "uri"), where=None
            )
        assert connection.scalars(text("SELECT reason FROM phdl.spectrum")).all() == ["truncated"]


def test_copied_rows_are_rolled_back_with_the_transaction(database: Engine) -> None:
    with database.connect() as connection:
        copy_rows(connection, "phdl.event", ["subject", "action"], ["text", "text"], [("a:1", "made")])
        connection.rollback()
        connection.execute(insert(Event).values(subject="b:1", action="made"))
        assert list(connection.scalars(select(Event.subject))) == ["b:1"]


def test_a_row_or_a_list_of_types_of_the_wrong_length_is_an_error(database: Engine) -> None:
    with database.connect() as connection:
        with pytest.raises(InputError, match="2 columns but 1 types"):
            copy_rows(connection, "phdl.event", ["subject", "action"], ["text"], [])
        with pytest.raises(InputError, match=r"row 0 .* has 1 values, not 2"):
            copy_rows(connection, "phdl.event", ["subject", "action"], ["text", "text"], [("a",)])
