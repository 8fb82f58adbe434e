"""Why a star is in, out or flagged."""

from __future__ import annotations

import dataclasses
import json

import pytest
from sqlalchemy import func, insert

from phdl_catalog.catalog.building import build_release
from phdl_catalog.catalog.explaining import explain
from phdl_catalog.catalog.explanation import Verdict
from phdl_catalog.catalog.publishing import publish_release
from phdl_catalog.catalog.selection import SubgiantSelection
from phdl_catalog.database.models import FitChunk, Spectrum
from phdl_catalog.errors import ConflictError, NotFoundError

from .conftest import Survey, add_calibration, candidate

ARCSEC = 1 / 3600


def told(survey: Survey, obsid: int, **options):
    with survey.engine.connect() as connection:
        return explain(connection, obsid, **options)


def publish(survey: Survey, name: str = "a") -> None:
    candidate(survey, name)
    publish_release(survey.engine, name)


def test_a_star_without_a_fault_is_in(survey):
    obsid = survey.add(gaia=2**62 + 1)
    publish(survey)
    found = told(survey, obsid)
    assert found.verdict is Verdict.IN
    assert (found.release, found.model, found.calibration_set) == ("a", "first", None)
    assert all(term.passed for term in found.terms)
    assert found.memberships[0].obsid == obsid
    assert json.loads(json.dumps(found.to_dict(), default=str))["spectra"][0]["gaia_source_id"] == str(
        2**62 + 1
    )


def test_a_dwarf_is_out_with_the_term_and_its_numbers(survey):
    obsid = survey.add(labels={"logg": 4.5})
    survey.add()
    publish(survey)
    found = told(survey, obsid)
    assert found.verdict is Verdict.OUT
    assert found.reasons == ("The rule's term 'turn_off' fails: logg 4.5 <= 4.1.",)
    assert found.memberships[0].obsid is None


def test_the_selection_explained_is_that_of_the_release(survey):
    obsid = survey.add(snr_g=60.0)
    survey.add(snr_g=90.0)
    candidate(survey, "strict", selection=dataclasses.replace(SubgiantSelection(), snr_g_min=70.0))
    candidate(survey, "loose")
    assert told(survey, obsid, release="strict").reasons == (
        "The rule's term 'snr_g' fails: snr_g 60 >= 70.",
    )
    assert told(survey, obsid, release="loose").verdict is Verdict.IN


def test_a_flagged_star_says_which_flags_on_which_labels(survey):
    obsid = survey.add(flags=32, label_flags={"eu_fe": 4, "mg_fe": 1})
    publish(survey)
    found = told(survey, obsid)
    assert found.verdict is Verdict.FLAGGED
    assert found.reasons == (
        "The fit is flagged: poor_fit.",
        "Labels flagged at_bound: mg_fe.",
        "Labels flagged unconstrained: eu_fe.",
    )
    labels = {entry.label: entry for entry in found.labels}
    assert labels["eu_fe"].value is None
    assert labels["eu_fe"].raw == pytest.approx(0.3)


def test_a_spectrum_that_is_not_the_best_points_to_the_one_that_is(survey):
    second = survey.add(ra=50.0, snr_g=40.0)
    best = survey.add(ra=50.0 + ARCSEC, snr_g=90.0)
    publish(survey)
    found = told(survey, second)
    assert found.verdict is Verdict.OUT
    assert f"obsid {best}, not from this one" in found.reasons[0]
    assert (found.star.best_obsid, found.star.n_obs, found.star.obsids) == (best, 2, (second, best))
    assert found.memberships[0].obsid == best


def test_a_rejected_flag_is_named(survey):
    obsid = survey.add(flags=16)
    survey.add()
    publish(survey)
    found = told(survey, obsid)
    assert found.verdict is Verdict.OUT
    assert found.reasons[0].startswith("The rule's term 'flags' fails: outside_grid of ")
    assert found.star is None


def test_a_failed_fit_says_why(survey):
    obsid = survey.add(fitted=False, flags=1)
    survey.add()
    publish(survey)
    found = told(survey, obsid)
    assert found.reasons == ("The fit has no labels: no_data.",)
    assert found.labels == ()


def test_a_rejected_file_says_why(survey):
    survey.add()
    with survey.engine.begin() as connection:
        connection.execute(
            insert(Spectrum).values(
                obsid=5, release_id=survey.releases["dr10"][0], state="rejected", uri="x.fits",
                reason="truncated", detail="the file ends after 2880 bytes",
            )
        )  # fmt: skip
    publish(survey)
    found = told(survey, 5)
    assert found.reasons == ("The file was rejected: truncated: the file ends after 2880 bytes.",)


def test_a_spectrum_without_a_fit_says_where_its_job_is(survey):
    survey.add()
    publish(survey)
    with survey.engine.begin() as connection:
        release_id, run = survey.releases["dr10"]
        spectrum = connection.execute(
            insert(Spectrum)
            .values(
                obsid=6, release_id=release_id, state="accepted", uri="y.fits", sha256="1" * 64, shard="s",
                shard_row=99, first_pixel=35682, n_pixels=3909, snr_g=50.0,
            )
            .returning(Spectrum.spectrum_id)
        ).scalar_one()  # fmt: skip
    assert "was never enqueued for model 'first'" in told(survey, 6).reasons[0]
    with survey.engine.begin() as connection:
        connection.execute(
            insert(FitChunk).values(
                fit_run_id=run, spectrum_ids=[spectrum], state="quarantined", attempt=3, worker="w",
                started_at=func.now(), finished_at=func.now(), error_kind="lost", error_text="killed",
            )
        )  # fmt: skip
    found = told(survey, 6)
    assert found.jobs[0].state == "quarantined"
    assert "is quarantined, lost: killed." in found.reasons[0]


def test_a_fit_written_after_the_build_is_said(survey):
    survey.add()
    publish(survey)
    obsid = survey.add()
    found = told(survey, obsid)
    assert found.verdict is Verdict.OUT
    assert "after the release was built: build again" in found.reasons[0]


def test_before_any_release_it_says_what_a_build_would_do(survey):
    good, bad = survey.add(), survey.add(labels={"logg": 2.5, "teff": 4800.0})
    assert told(survey, good).reasons == ("Nothing keeps it out of a release that is built now.",)
    assert told(survey, good).release is None
    assert told(survey, bad).verdict is Verdict.OUT


def test_corrections_are_those_of_the_releases_set(survey):
    solution = add_calibration(survey, "cal1")
    obsid = survey.add()
    build_release(survey.engine, "first", name="a")
    found = told(survey, obsid)
    assert found.calibration_set == "cal1"
    (mg_fe,) = [entry for entry in found.labels if entry.label == "mg_fe"]
    assert mg_fe.value == pytest.approx(mg_fe.raw - mg_fe.correction, abs=1e-6)
    assert mg_fe.error == pytest.approx((mg_fe.e_fit**2 + mg_fe.e_cal**2) ** 0.5, rel=1e-5)
    assert "mg_fe" in solution.label_names


def test_what_does_not_exist_is_said(survey):
    obsid = survey.add()
    candidate(survey, "a")
    with pytest.raises(NotFoundError, match="no spectrum with obsid 1 was ingested"):
        told(survey, 1)
    with pytest.raises(NotFoundError, match="there is no catalogue release 'z'; there are: a"):
        told(survey, obsid, release="z")
    survey.add_model("second")
    with pytest.raises(ConflictError, match="was made with model 'first', not 'second'"):
        told(survey, obsid, release="a", model="second")
