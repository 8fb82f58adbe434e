"""Checking a draft: each fault that can be made by hand is found, by name."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, text

from phdl_catalog.catalog.building import build_release
from phdl_catalog.catalog.checking import check_release, report_dict
from phdl_catalog.catalog.releases import get_catalog_release
from phdl_catalog.database.calibration_sets import certify_set
from phdl_catalog.database.models import ReferenceLabel, ReleaseState
from phdl_catalog.errors import NotFoundError

from .conftest import Survey, add_calibration

ARCSEC = 1 / 3600


def draft(survey: Survey) -> None:
    build_release(survey.engine, "first", calibration="none", name="a")


def findings(survey: Survey) -> dict[str, str]:
    return {finding.name: finding.status for finding in check_release(survey.engine, "a").findings}


def tamper(survey: Survey, *statements: str) -> None:
    with survey.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_good_draft_becomes_a_candidate_with_its_checksum(survey):
    survey.add()
    survey.add()
    draft(survey)
    report = check_release(survey.engine, "a")
    assert report.passed
    assert report.state is ReleaseState.CANDIDATE
    with survey.engine.connect() as connection:
        release = get_catalog_release(connection, "a")
    assert (release.state, release.n_rows, release.checksum) == (ReleaseState.CANDIDATE, 2, report.checksum)
    assert release.built_at is not None


def test_a_candidate_can_be_checked_again(survey):
    survey.add()
    draft(survey)
    check_release(survey.engine, "a")
    again = check_release(survey.engine, "a")
    assert again.passed
    assert again.state is ReleaseState.CANDIDATE


def test_a_release_calibrated_by_a_draft_waits_until_the_set_is_certified(survey):
    add_calibration(survey, "cal", certify=False)
    survey.add()
    build_release(survey.engine, "first", calibration="cal", name="a")
    report = check_release(survey.engine, "a")
    assert report.state is ReleaseState.DRAFT
    (fault,) = (finding for finding in report.findings if finding.status == "failed")
    assert fault.text == "calibration set 'cal' is draft: `phdl calibration certify cal`"
    with survey.engine.begin() as connection:
        certify_set(connection, "cal")
    assert check_release(survey.engine, "a").state is ReleaseState.CANDIDATE


def test_an_empty_release_stays_a_draft(survey):
    draft(survey)
    report = check_release(survey.engine, "a")
    assert [finding.name for finding in report.findings if finding.status == "failed"] == ["rows"]
    assert report.state is ReleaseState.DRAFT


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("UPDATE catalog.subgiant__a SET mg_fe = mg_fe + 0.001", {"checksum", "calibration"}),
        ("UPDATE catalog.subgiant__a SET raw_mg_fe = raw_mg_fe + 0.001", {"checksum", "raw values"}),
        ("UPDATE catalog.subgiant__a SET raw_mg_fe = NULL", {"checksum", "raw values"}),
        ("UPDATE catalog.subgiant__a SET flag_mg_fe = 0", {"checksum", "calibration"}),
        ("UPDATE catalog.subgiant__a SET obsid = obsid + 1000", {"checksum", "traceable"}),
        ("UPDATE catalog.subgiant__a SET e_eu_fe = NULL", {"checksum", "calibration", "errors"}),
        ("UPDATE catalog.subgiant__a SET logg = 4.6", {"checksum", "calibration", "selection"}),
        (
            "UPDATE catalog.subgiant__a SET logg = NULL",
            {"checksum", "calibration", "selection", "logg missing"},
        ),
        ("UPDATE catalog.subgiant__a SET snr_g = 3", {"checksum", "raw values", "snr_g"}),
        ("COMMENT ON COLUMN catalog.subgiant__a.ra IS 'somewhere'", {"columns"}),
        ("ALTER TABLE catalog.subgiant__a ADD COLUMN note text", {"columns"}),
    ],
)
def test_a_fault_is_found_and_the_release_stays_a_draft(survey, fault, found):
    survey.add()
    draft(survey)
    tamper(survey, fault)
    report = check_release(survey.engine, "a")
    assert {finding.name for finding in report.findings if finding.status == "failed"} == found
    assert report.state is ReleaseState.DRAFT


def test_a_star_with_two_rows_is_found(survey):
    survey.add(ra=10.0)
    survey.add(ra=30.0)
    draft(survey)
    tamper(survey, "UPDATE catalog.subgiant__a SET ra = 10.0003")
    assert findings(survey)["duplicates"] == "failed"


def test_fits_written_after_the_build_are_a_warning(survey):
    survey.add(gaia=1)
    draft(survey)
    survey.add(gaia=1)
    report = check_release(survey.engine, "a")
    assert [(f.name, f.status) for f in report.findings if f.status != "passed"] == [
        ("up to date", "warning")
    ]
    assert report.passed


def test_labels_that_are_mostly_missing_or_not_physical_are_warnings(survey):
    for _ in range(3):
        survey.add(label_flags={"eu_fe": 4}, labels={"mg_fe": 3.5})
    draft(survey)
    report = check_release(survey.engine, "a")
    warnings = {finding.name: finding.text for finding in report.findings if finding.status == "warning"}
    assert warnings == {
        "missing values": "over 50%: eu_fe",
        "ranges": "outside physical bounds: mg_fe (3)",
    }


def test_statistics_of_a_label_count_what_they_say(survey):
    for value in (0.1, 0.2, 0.4):
        survey.add(labels={"mg_fe": value})
    survey.add(labels={"mg_fe": None})
    draft(survey)
    (mg_fe,) = [entry for entry in check_release(survey.engine, "a").labels if entry.label == "mg_fe"]
    assert (mg_fe.n_rows, mg_fe.n_null, mg_fe.n_not_calibrated) == (4, 1, 4)
    assert mg_fe.null_fraction == 0.25
    assert (mg_fe.minimum, mg_fe.median, mg_fe.maximum) == pytest.approx((0.1, 0.2, 0.4))


def test_pulls_of_repeats_measure_the_errors(survey):
    # Two spectra of each star whose mg_fe differ by two times their common error, up and down in turn.
    for star in range(24):
        sign = 1 if star % 2 else -1
        survey.add(gaia=star + 1, snr_g=50.0, labels={"mg_fe": 0.1}, errors={"mg_fe": 0.03})
        survey.add(gaia=star + 1, snr_g=90.0, labels={"mg_fe": 0.1 + sign * 0.15}, errors={"mg_fe": 0.04})
    draft(survey)
    report = check_release(survey.engine, "a")
    pulls = {entry.label: entry for entry in report.repeats}
    assert pulls["mg_fe"].n == 24
    assert pulls["mg_fe"].scatter == pytest.approx(3 * 1.4826, rel=1e-5)
    (warning,) = [finding for finding in report.findings if finding.name == "pulls of repeats"]
    assert warning.status == "warning"
    assert "mg_fe 4.45" in warning.text


def test_pulls_of_references_compare_by_gaia_source_or_obsid(survey):
    survey.add(gaia=11, labels={"mg_fe": 0.2}, errors={"mg_fe": 0.03})
    survey.add(obsid=77, labels={"mg_fe": 0.3}, errors={"mg_fe": 0.03})
    value = {"survey": "x", "label": "mg_fe", "error": 0.04}
    with survey.engine.begin() as connection:
        for star in (
            {"star_name": "s", "gaia_source_id": 11, "value": 0.15},
            {"star_name": "t", "obsid": 77, "value": 0.25},
        ):
            connection.execute(insert(ReferenceLabel).values(**value, **star))
    draft(survey)
    (pull,) = check_release(survey.engine, "a").references
    assert (pull.label, pull.n) == ("mg_fe", 2)
    assert pull.median_difference == pytest.approx(0.05, abs=1e-6)
    assert pull.median == pytest.approx(1.0, abs=1e-4)


def test_the_report_is_plain_json(survey):
    import json

    survey.add()
    draft(survey)
    document = json.loads(json.dumps(report_dict(check_release(survey.engine, "a"))))
    assert document["passed"] is True
    assert document["state"] == "candidate"
    assert document["labels"]["mg_fe"]["n_rows"] == 1


def test_a_release_whose_table_is_gone_is_said(survey):
    draft(survey)
    tamper(survey, "DROP TABLE catalog.subgiant__a")
    with pytest.raises(NotFoundError, match=r"the table catalog.subgiant__a of release 'a' is gone"):
        check_release(survey.engine, "a")
    with pytest.raises(NotFoundError, match="there is no catalogue release 'b'; there are: a"):
        check_release(survey.engine, "b")
