"""A registered model has a partition and a view with its labels as named columns."""

from __future__ import annotations

import pytest
from database_rows import add_model, add_release, add_run, add_spectrum, fit_values
from sqlalchemy import Connection, insert, text

from phdl_catalog.database.models import Fit
from phdl_catalog.database.views import label_view, recreate_label_views
from phdl_catalog.errors import NotFoundError


@pytest.fixture
def fitted(transaction: Connection) -> Connection:
    """A model with one good and one failed fit."""
    release = add_release(transaction)
    model = add_model(transaction, "v2.1")
    run = add_run(transaction, release, model)
    good = add_spectrum(transaction, release, 1, gaia_source_id=4295806720)
    bad = add_spectrum(transaction, release, 2)
    failed = dict.fromkeys(("label_values", "label_errors", "label_flags", "label_covariance"))
    transaction.execute(insert(Fit).values(**fit_values(good, model, run)))
    transaction.execute(insert(Fit).values(**fit_values(bad, model, run, flags=2, **failed)))
    return transaction


def test_the_view_of_a_model_has_its_labels_as_columns(fitted: Connection) -> None:
    assert label_view(fitted, "v2.1") == "phdl.labels_v2_1"
    row = fitted.execute(text("SELECT * FROM phdl.labels_v2_1 WHERE obsid = 1")).mappings().one()
    assert (row["teff"], row["e_teff"], row["flag_logg"], row["fe_h"]) == (5000.0, 50.0, 1, -0.5)
    assert (row["release"], row["gaia_source_id"], row["flags"]) == ("dr10", 4295806720, 0)


def test_a_failed_fit_is_a_row_of_nulls_with_its_flags(fitted: Connection) -> None:
    row = fitted.execute(text("SELECT * FROM phdl.labels_v2_1 WHERE obsid = 2")).mappings().one()
    assert (row["teff"], row["flags"]) == (None, 2)


def test_the_long_view_has_one_row_a_label(fitted: Connection) -> None:
    rows = fitted.execute(
        text("SELECT model, label, value, error, flag FROM phdl.label_long WHERE obsid = 1 ORDER BY label")
    ).all()
    assert [tuple(row) for row in rows] == [
        ("v2.1", "fe_h", -0.5, pytest.approx(0.05), 0),
        ("v2.1", "logg", 4.0, pytest.approx(0.1), 1),
        ("v2.1", "teff", 5000.0, 50.0, 0),
    ]


def test_each_model_has_its_own_view_and_partition(fitted: Connection) -> None:
    add_model(fitted, "other", labels=("teff", "mg_fe"))
    assert fitted.scalar(text("SELECT count(*) FROM phdl.labels_other")) == 0
    fitted.execute(text("SELECT teff, e_mg_fe, flag_mg_fe FROM phdl.labels_other"))
    partitions = fitted.scalar(
        text("SELECT count(*) FROM pg_inherits WHERE inhparent = 'phdl.fit'::regclass")
    )
    assert partitions == 2


def test_views_can_be_made_again_and_every_column_is_documented(fitted: Connection) -> None:
    assert recreate_label_views(fitted) == 1
    undocumented = fitted.scalars(
        text(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'phdl.labels_v2_1'::regclass "
            "AND col_description(attrelid, attnum) IS NULL"
        )
    ).all()
    assert undocumented == []
    assert fitted.scalar(text("SELECT count(*) FROM phdl.labels_v2_1")) == 2


def test_a_model_that_is_not_registered_has_no_view(transaction: Connection) -> None:
    with pytest.raises(NotFoundError, match="phdl model list"):
        label_view(transaction, "absent")
