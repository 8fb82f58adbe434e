"""Building a release from fits in a real database."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import inspect, select, text

from phdl_catalog.catalog.building import build_release
from phdl_catalog.catalog.content import table_content
from phdl_catalog.catalog.releases import get_catalog_release, list_catalog_releases
from phdl_catalog.catalog.schema import load_schema
from phdl_catalog.catalog.selection import SubgiantSelection
from phdl_catalog.database.models import FlagDefinition
from phdl_catalog.errors import ConflictError, InputError, ModelError, NotFoundError, SchemaError, StateError

from .conftest import LABELS, Survey, published_rows

ARCSEC = 1 / 3600
NOT_CALIBRATED = 1 << 25


def build(survey: Survey, name: str = "a", **options):
    return build_release(survey.engine, "first", calibration="none", name=name, **options)


def test_a_subgiant_becomes_a_row_with_all_that_is_known_of_it(survey):
    obsid = survey.add(gaia=5853498713190525696, ra=33.25, dec=-5.5, snr_g=87.5, labels={"mg_fe": 0.125})
    report = build(survey)
    (row,) = published_rows(survey.engine, "a")
    expected = {
        "obsid": obsid,
        "gaia_source_id": 5853498713190525696,
        "ra": 33.25,
        "dec": -5.5,
        "data_release": "dr10",
        "snr_g": 87.5,
        "n_obs": 1,
        "rv": 12.5,
        "mg_fe": 0.125,
        "raw_mg_fe": 0.125,
        "e_mg_fe": pytest.approx(0.04),
        "e_cal_mg_fe": None,
        "flag_mg_fe": NOT_CALIBRATED,
        "flag": 0,
        "model_version": "first",
        "calibration_set": None,
        "catalog_release": "a",
    }
    assert {name: row[name] for name in expected} == expected
    assert (report.n_spectra, report.n_stars, report.n_rows) == (1, 1, 1)


def test_identifiers_of_64_bits_survive_to_the_last_digit(survey):
    ids = [2**63 - 1, 2**53 + 1, 4295806720000000001]
    for number, gaia in enumerate(ids):
        survey.add(gaia=gaia, obsid=2**62 + number)
    build(survey)
    rows = published_rows(survey.engine, "a")
    assert [row["gaia_source_id"] for row in rows] == ids
    assert [row["obsid"] for row in rows] == [2**62 + number for number in range(3)]


def test_a_star_observed_thrice_is_one_row_with_the_values_of_its_best_spectrum(survey):
    survey.add(ra=50.0, snr_g=40.0, labels={"mg_fe": 0.1})
    best = survey.add(ra=50.0 + ARCSEC, snr_g=90.0, labels={"mg_fe": 0.2})
    survey.add(ra=50.0 - ARCSEC, snr_g=60.0, labels={"mg_fe": 0.3})
    report = build(survey)
    (row,) = published_rows(survey.engine, "a")
    assert (row["obsid"], row["n_obs"], row["mg_fe"]) == (best, 3, pytest.approx(0.2))
    assert (report.n_spectra, report.n_stars, report.n_rows) == (3, 1, 1)


def test_one_observation_in_two_data_releases_counts_once(survey):
    with survey.engine.begin() as connection:
        survey.add_release(connection, "dr11")
    survey.add(obsid=7, gaia=1, ra=10.0, release="dr10")
    survey.add(obsid=7, gaia=1, ra=10.0, release="dr11")
    build(survey)
    (row,) = published_rows(survey.engine, "a")
    assert (row["n_obs"], row["data_release"]) == (1, "dr11")


def test_spectra_that_are_not_good_enough_are_not_used(survey):
    good = survey.add(gaia=1, snr_g=30.0)
    survey.add(gaia=1, snr_g=300.0, flags=8)
    survey.add(gaia=1, snr_g=19.9)
    survey.add(gaia=1, snr_g=None)
    survey.add(gaia=1, fitted=False)
    build(survey)
    (row,) = published_rows(survey.engine, "a")
    assert (row["obsid"], row["n_obs"]) == (good, 1)


def test_a_warning_flag_of_the_fit_is_published_with_the_star(survey):
    survey.add(flags=32 | 64)
    build(survey)
    assert published_rows(survey.engine, "a")[0]["flag"] == 32 | 64


def test_stars_that_are_no_subgiants_are_left_out(survey):
    survey.add(labels={"logg": 4.5})
    survey.add(labels={"teff": 4700.0, "logg": 2.5})
    survey.add(labels={"teff": None})
    report = build(survey)
    assert (report.n_stars, report.n_rows) == (3, 0)


def test_what_is_missing_is_null_and_an_unconstrained_label_keeps_its_raw_value_only(survey):
    survey.add(labels={"mg_fe": None}, errors={"mg_fe": None}, label_flags={"eu_fe": 4})
    build(survey)
    (row,) = published_rows(survey.engine, "a")
    assert row["mg_fe"] is row["raw_mg_fe"] is row["e_mg_fe"] is None
    assert row["eu_fe"] is row["e_eu_fe"] is None
    assert row["raw_eu_fe"] == pytest.approx(0.3)
    assert row["flag_eu_fe"] == 4 | NOT_CALIBRATED


def test_every_column_of_the_table_has_its_comment_type_and_unit(survey):
    build(survey)
    found = {
        column["name"]: column for column in inspect(survey.engine).get_columns("subgiant__a", "catalog")
    }
    wanted = load_schema().expand(LABELS)
    assert list(found) == [column.name for column in wanted]
    for column in wanted:
        assert found[column.name]["comment"] == column.comment
        assert str(found[column.name]["type"]).lower() == column.type
        assert found[column.name]["nullable"] == column.nullable
    comment = inspect(survey.engine).get_table_comment("subgiant__a", "catalog")["text"]
    assert "one row a star" in comment
    assert "model first, not calibrated" in comment


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("column", ["mg_fe", "e_mg_fe", "raw_teff", "rv", "ra"])
def test_nan_and_infinity_cannot_be_written(survey, column, value):
    survey.add()
    build(survey)
    with survey.engine.connect() as connection, pytest.raises(Exception, match=f"ck_{column}"):
        connection.execute(text(f"UPDATE catalog.subgiant__a SET {column} = '{value}'"))  # noqa: S608


def test_the_meaning_of_every_bit_is_stored_with_the_release(survey):
    build(survey)
    with survey.engine.connect() as connection:
        rows = connection.execute(
            select(FlagDefinition.bit, FlagDefinition.name).where(FlagDefinition.column_name == "flag_mg_fe")
        ).all()
    assert (2, "unconstrained") in [tuple(row) for row in rows]
    assert (25, "not_calibrated") in [tuple(row) for row in rows]


def test_the_selection_is_stored_and_read_back(survey):
    rule = dataclasses.replace(SubgiantSelection(), snr_g_min=55.0, logg_min=3.4)
    survey.add(snr_g=50.0)
    kept = survey.add(snr_g=60.0)
    build(survey, selection=rule, data_releases=("dr10",))
    with survey.engine.connect() as connection:
        stored = get_catalog_release(connection, "a").selection
    assert stored.subgiant == rule
    assert stored.data_releases == ("dr10",)
    assert [row["obsid"] for row in published_rows(survey.engine, "a")] == [kept]


def test_only_the_data_releases_asked_for_are_used(survey):
    with survey.engine.begin() as connection:
        survey.add_release(connection, "dr11")
    survey.add(release="dr10")
    kept = survey.add(release="dr11")
    build(survey, data_releases=("dr11",))
    assert [row["obsid"] for row in published_rows(survey.engine, "a")] == [kept]
    with pytest.raises(InputError, match="no data release dr12; there are: dr10, dr11"):
        build(survey, name="b", data_releases=("dr12",))


def test_the_same_input_gives_the_same_checksum_under_another_name(survey):
    for number in range(30):
        survey.add(labels={"mg_fe": 0.01 * number}, dec=10.0 + number)
    first, second = build(survey, "a"), build(survey, "b")
    assert first.checksum == second.checksum
    survey.add(labels={"mg_fe": 0.5})
    assert build(survey, "c").checksum != first.checksum


def test_the_checksum_does_not_depend_on_the_order_on_disk(survey):
    for number in range(20):
        survey.add(dec=10.0 + number)
    checksum = build(survey).checksum
    with survey.engine.begin() as connection:
        table = get_catalog_release(connection, "a").table
        connection.execute(
            text("CREATE TABLE shuffled AS SELECT * FROM catalog.subgiant__a ORDER BY random()")
        )
        connection.execute(text("TRUNCATE catalog.subgiant__a"))
        connection.execute(text("INSERT INTO catalog.subgiant__a SELECT * FROM shuffled"))
        connection.execute(text("SET LOCAL extra_float_digits = -5"))
        assert table_content(connection, table).checksum == checksum


def test_rows_lie_on_disk_in_order_of_the_sky(survey):
    for number in range(20):
        survey.add(ra=float((number * 137) % 360), dec=float((number * 53) % 120 - 60))
    build(survey)
    with survey.engine.connect() as connection:
        cells = connection.scalars(text("SELECT healpix_29 FROM catalog.subgiant__a ORDER BY ctid")).all()
    assert cells == sorted(cells)


def test_a_name_is_taken_once_and_a_draft_can_be_replaced(survey):
    survey.add()
    build(survey)
    with pytest.raises(ConflictError, match=r"already .draft.: build under another name, or replace it"):
        build(survey)
    survey.add()
    assert build(survey, replace=True).n_rows == 2
    with survey.engine.connect() as connection:
        assert len(list_catalog_releases(connection)) == 1


def test_two_names_that_would_share_a_table_are_refused(survey):
    build(survey, "v1.0")
    with pytest.raises(ConflictError, match="similar name"):
        build(survey, "v1-0")


def test_without_a_name_the_release_is_called_after_the_day(survey):
    survey.add()
    first = build_release(survey.engine, "first", calibration="none").name
    second = build_release(survey.engine, "first", calibration="none").name
    assert second == f"{first}-2"


def test_a_build_that_fails_leaves_nothing(survey):
    survey.add()
    with survey.engine.begin() as connection:
        # A model whose labels are fewer than those its fits have.
        connection.execute(text("ALTER TABLE phdl.model_version DISABLE TRIGGER immutable"))
        connection.execute(text("UPDATE phdl.model_version SET label_names = label_names[1:5]"))
    with pytest.raises(SchemaError, match="a fit has 6 labels, the model 5"):
        build(survey)
    with survey.engine.connect() as connection:
        assert list_catalog_releases(connection) == []
    assert not inspect(survey.engine).has_table("subgiant__a", "catalog")


def test_what_cannot_be_built_is_said(survey):
    with pytest.raises(NotFoundError, match="no model 'second'"):
        build_release(survey.engine, "second")
    with pytest.raises(StateError, match="no certified calibration set"):
        build_release(survey.engine, "first")
    with pytest.raises(NotFoundError, match="no calibration set 'c1'"):
        build_release(survey.engine, "first", calibration="c1")


def test_a_model_that_cannot_tell_subgiants_is_refused(survey):
    with survey.engine.begin() as connection:
        connection.execute(text("ALTER TABLE phdl.model_version DISABLE TRIGGER immutable"))
        connection.execute(text("UPDATE phdl.model_version SET label_names = label_names[1:3]"))
    with pytest.raises(ModelError, match="has no fe_h"):
        build(survey)


def test_progress_reaches_the_number_of_stars(survey):
    for _ in range(3):
        survey.add()
    told = []
    build(survey, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)
