"""The pages about the catalogue say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from phdl_catalog.catalog.reference import catalog_reference
from phdl_catalog.catalog.schema import load_schema

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_reference_is_what_the_schema_gives():
    page = DOCS / "reference" / "catalog.md"
    assert page.read_text(encoding="utf-8") == catalog_reference(), (
        "stale: run `make docs`, or python -m phdl_catalog.catalog.reference docs/reference/catalog.md"
    )


@pytest.mark.parametrize("name", ["obsid", "e_cal_<label>", "flag_<label>", "catalog_release"])
def test_every_kind_of_column_is_in_the_reference(name):
    assert f"| `{name}` |" in catalog_reference()


def test_the_reference_lists_every_column_once():
    rows = [
        line for line in catalog_reference().splitlines() if line.startswith("| `") and line.count("|") == 6
    ]
    single = [column for column in load_schema().columns if hasattr(column, "name")]
    assert len(rows) == len(single) + 5
