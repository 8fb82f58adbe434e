"""Building a release from fits in a real database."""

from __future__ import annotations

from sqlalchemy import text

from phdl_catalog.catalog.building import build_release


def _rows(survey, report, columns="*"):
    with survey.engine.connect() as connection:
        return (
            connection.execute(text(f"SELECT {columns} FROM {report.table} ORDER BY obsid")).mappings().all()
        )  # noqa: S608


def test_a_subgiant_becomes_a_row_with_its_labels(survey):
    survey.add(gaia=5853498713190525696)
    report = build_release(survey.engine, "first", calibration="none", name="a")
    (row,) = _rows(survey, report)
    assert row["gaia_source_id"] == 5853498713190525696
    assert row["mg_fe"] == row["raw_mg_fe"]
    print(dict(row))
