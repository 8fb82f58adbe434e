"""The published columns: one source, every one described."""

from __future__ import annotations

import pytest

from phdl_catalog.catalog.flags import CalibrationFlag, label_flag_names, published_bits
from phdl_catalog.catalog.schema import Column, load_schema
from phdl_catalog.catalog.table import release_table, table_name
from phdl_catalog.errors import InputError
from phdl_catalog.fitting.flags import FitFlag, LabelFlag

LABELS = ("teff", "logg", "fe_h", "mg_fe")


def test_label_columns_come_in_the_models_order_with_the_labels_own_unit():
    columns = {column.name: column for column in load_schema().expand(LABELS)}
    names = list(columns)
    assert names.index("raw_teff") < names.index("logg") < names.index("flag_fe_h") < names.index("mg_fe")
    assert columns["e_teff"].unit == "K"
    assert columns["e_cal_mg_fe"].unit == "dex"
    assert columns["flag_mg_fe"].unit is None
    assert "magnesium" in columns["raw_mg_fe"].description.lower()


def test_every_column_has_a_description_a_ucd_and_every_float_but_pure_numbers_a_unit():
    for column in load_schema().expand(LABELS):
        assert column.description, column.name
        assert column.ucd, column.name
        assert "{" not in column.comment, column.name
        assert column.unit or not column.is_float or column.name in {"snr_g", "chi2"}, column.name


def test_a_label_that_clashes_with_a_column_is_refused():
    with pytest.raises(InputError, match=r"two published columns are called .*mg_fe"):
        load_schema().expand((*LABELS, "mg_fe"))


def test_an_unknown_label_is_refused_by_name():
    with pytest.raises(InputError, match="use 'fe_h' instead"):
        load_schema().expand(("teff", "m_h"))


def test_every_float_is_guarded_against_nan_and_infinity():
    table = release_table(load_schema(), load_schema().expand(LABELS), "a")
    conditions = " ".join(
        str(constraint.sqltext) for constraint in table.constraints if hasattr(constraint, "sqltext")
    )
    for column in load_schema().expand(LABELS):
        if column.is_float:
            assert f"{column.name} < 'Infinity'" in conditions, column.name


@pytest.mark.parametrize("name", ["", "a b", "x" * 31, "a;drop", '"', "-a"])
def test_a_release_name_that_is_no_part_of_a_table_name_is_refused(name):
    with pytest.raises(InputError, match="cannot name a catalogue release"):
        table_name(load_schema(), name)


def test_dots_and_dashes_of_a_release_name_become_underscores():
    assert table_name(load_schema(), "2026.1-Beta") == "subgiant__2026_1_beta"


def test_bits_of_the_calibration_never_meet_those_of_the_fit():
    assert not any(bit & other for bit in CalibrationFlag for other in LabelFlag)
    assert max(CalibrationFlag) < 2**31, "the column is an integer of 32 bits"


def test_every_bit_has_a_meaning_and_its_name_in_the_columns_comment():
    assert {bit.name for bit in published_bits("fit")} == {str(flag.name).lower() for flag in FitFlag}
    assert all(
        bit.meaning and 1 << bit.number == bit.value
        for kind in ("fit", "label")
        for bit in published_bits(kind)
    )
    column = next(column for column in load_schema().expand(LABELS) if column.name == "flag_mg_fe")
    assert "4 unconstrained" in column.comment
    assert f"{1 << 24} outside_calibration" in column.comment


def test_flag_names_are_those_of_fit_and_calibration():
    assert label_flag_names(4 | 1 << 25) == ["unconstrained", "not_calibrated"]


def test_a_comment_begins_with_the_unit():
    assert (
        Column(name="a", type="real", unit="K", ucd="x", description="What it is").comment == "[K] What it is"
    )
