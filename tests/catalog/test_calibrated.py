"""A calibrated release: the set that was asked for is the one that was applied, and it can be shown."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select, text

from phdl_catalog.catalog.building import build_release
from phdl_catalog.catalog.checking import check_release
from phdl_catalog.catalog.flags import CalibrationFlag
from phdl_catalog.catalog.releases import get_catalog_release
from phdl_catalog.database.models import CatalogRelease
from phdl_catalog.errors import ConflictError

from .conftest import ERRORS, LABELS, SUBGIANT, Survey, add_calibration, published_rows


@pytest.fixture
def calibrated(survey: Survey):
    """A survey with stars inside and outside the calibrators' range, and its certified set ``cal1``."""
    solution = add_calibration(survey, "cal1")
    for teff in (5500.0, 5600.0, 5700.0):
        survey.add(labels={"teff": teff})
    survey.add(labels={"fe_h": -2.3, "teff": 6200.0})
    return survey, solution


def test_the_certified_set_is_applied_to_every_label_it_has(calibrated):
    survey, solution = calibrated
    report = build_release(survey.engine, "first", name="a")
    assert report.calibration_set == "cal1"
    raw = np.array([[SUBGIANT[name] for name in LABELS]])
    errors = np.array([[ERRORS[name] for name in LABELS]])
    correction, sigma = solution.correction(raw)[0], solution.error(raw, errors)[0]
    (row,) = [row for row in published_rows(survey.engine, "a") if row["raw_teff"] == 5600.0]
    assert row["calibration_set"] == "cal1"
    for column, name in enumerate(LABELS):
        if name == "eu_fe":
            continue
        assert row[name] == pytest.approx(raw[0, column] - correction[column], rel=1e-6), name
        assert row[f"e_cal_{name}"] == pytest.approx(sigma[column], rel=1e-5), name
        assert row[f"e_{name}"] == pytest.approx(np.hypot(errors[0, column], sigma[column]), rel=1e-5), name
    assert abs(row["mg_fe"] - row["raw_mg_fe"]) > 1e-3, "the simulated correction is not nothing"


def test_a_label_the_set_does_not_have_is_raw_and_flagged(calibrated):
    survey, _ = calibrated
    build_release(survey.engine, "first", name="a")
    for row in published_rows(survey.engine, "a"):
        assert row["eu_fe"] == row["raw_eu_fe"]
        assert row["e_cal_eu_fe"] is None
        assert row["flag_eu_fe"] == CalibrationFlag.NOT_CALIBRATED
        assert not row["flag_mg_fe"] & CalibrationFlag.NOT_CALIBRATED


def test_outside_the_calibrators_range_values_are_flagged(calibrated):
    survey, solution = calibrated
    build_release(survey.engine, "first", name="a")
    rows = published_rows(survey.engine, "a")
    raw = np.array([[row[f"raw_{name}"] for name in LABELS] for row in rows])
    valid = solution.valid(raw)[:, LABELS.index("mg_fe")]
    assert valid.any()
    assert not valid.all()
    assert [bool(row["flag_mg_fe"] & CalibrationFlag.OUTSIDE_CALIBRATION) for row in rows] == (
        ~valid
    ).tolist()


def test_selection_looks_at_calibrated_labels(calibrated):
    survey, solution = calibrated
    column = LABELS.index("logg")
    raw = np.array([[SUBGIANT[name] for name in LABELS]])
    # Raw logg just below the floor, calibrated logg just above it, or the other way round.
    shift = solution.correction(raw)[0, column]
    assert abs(shift) > 0.005
    edge = 3.3 + (shift / 2)
    obsid = survey.add(labels={"logg": edge})
    build_release(survey.engine, "first", name="a")
    build_release(survey.engine, "first", calibration="none", name="b")
    inside = [obsid in [row["obsid"] for row in published_rows(survey.engine, name)] for name in "ab"]
    assert inside == [shift < 0, shift > 0]


def test_a_calibrated_release_passes_its_check_and_a_wrong_correction_does_not(calibrated):
    survey, _ = calibrated
    build_release(survey.engine, "first", name="a")
    report = check_release(survey.engine, "a")
    assert report.passed, report.findings
    with survey.engine.connect() as connection:
        stored = connection.execute(select(CatalogRelease.calibration_set_id, CatalogRelease.state)).one()
        assert get_catalog_release(connection, "a").calibration_set == "cal1"
        assert stored.calibration_set_id is not None
        assert stored.state == "candidate"
    with survey.engine.begin() as connection:
        connection.execute(text("UPDATE catalog.subgiant__a SET mg_fe = raw_mg_fe WHERE raw_teff = 5600"))
    failed = {f.name: f.text for f in check_release(survey.engine, "a").findings if f.status == "failed"}
    assert failed.keys() == {"checksum", "calibration"}
    assert failed["calibration"].startswith("1 of ")


def test_a_draft_set_is_used_if_it_is_named(survey):
    add_calibration(survey, "trial", certify=False)
    survey.add()
    assert build_release(survey.engine, "first", calibration="trial", name="a").calibration_set == "trial"


def test_a_set_of_another_model_is_refused(survey):
    add_calibration(survey, "cal1")
    survey.add_model("second")
    with pytest.raises(ConflictError, match="was made for model 'first', not for 'second'"):
        build_release(survey.engine, "second", calibration="cal1", name="a")
