"""Two releases side by side."""

from __future__ import annotations

import dataclasses
import json

import pytest

from phdl_catalog.catalog.building import build_release
from phdl_catalog.catalog.comparing import compare_releases, match_stars
from phdl_catalog.catalog.selection import SubgiantSelection
from phdl_catalog.database.models import FitRun
from phdl_catalog.errors import NotFoundError

from .conftest import ERRORS, LABELS, SUBGIANT
from .test_stars import ARCSEC, index


def test_stars_are_matched_by_source_then_by_obsid_then_by_position():
    one = index((1, 7, 10.0, 0.0, 9), (2, None, 20.0, 0.0, 9), (3, None, 30.0, 0.0, 9), (4, 9, 40.0, 0.0, 9))
    two = index(
        (3, 7, 10.1, 0.0, 9), (2, None, 25.0, 0.0, 9), (8, None, 30.0 + ARCSEC, 0.0, 9), (9, 10, 40.0, 0.0, 9)
    )
    assert sorted(map(tuple, match_stars(one, two, 3.0).tolist())) == [(0, 0), (1, 1), (2, 2)]


def test_only_mutual_nearest_positions_match():
    one = index((1, None, 10.0, 0.0, 9), (2, None, 10.0 + 2 * ARCSEC, 0.0, 9))
    two = index((8, None, 10.0 + 1.5 * ARCSEC, 0.0, 9))
    assert match_stars(one, two, 3.0).tolist() == [[1, 0]]


@pytest.fixture
def two_models(survey):
    """Release ``a`` of model ``first``, release ``b`` of model ``second``, whose mg_fe is larger by 0.1."""
    values = [-0.02, -0.01, 0.0, 0.01, 0.02]
    for number, value in enumerate(values):
        survey.add(gaia=number + 1, labels={"mg_fe": value})
    lost = survey.add(gaia=50)
    second = survey.add_model("second")
    with survey.engine.begin() as connection:
        release_id, _ = survey.releases["dr10"]
        run = connection.execute(
            FitRun.__table__.insert()
            .values(
                release_id=release_id, model_version_id=second, configuration_hash="0" * 64, code_version="0"
            )
            .returning(FitRun.fit_run_id)
        ).scalar_one()
        for number, value in enumerate([*values, 0.0], start=1):
            labels = SUBGIANT | {"mg_fe": value + 0.1, "logg": 3.8 if number < 6 else 4.6}
            survey.add_fit(
                connection, number, run, second, [labels[name] for name in LABELS],
                [ERRORS[name] for name in LABELS], 0, [0] * len(LABELS),
            )  # fmt: skip
    build_release(survey.engine, "first", calibration="none", name="a")
    build_release(survey.engine, "second", calibration="none", name="b")
    return survey, lost


def test_differences_of_labels_are_measured_over_the_common_stars(two_models):
    survey, lost = two_models
    with survey.engine.connect() as connection:
        found = compare_releases(connection, "a", "b")
    assert (found.n_first, found.n_second, found.n_common) == (6, 5, 5)
    assert found.only_first == (lost,)
    assert found.only_second == ()
    labels = {entry.label: entry for entry in found.labels}
    assert labels["mg_fe"].n == 5
    assert labels["mg_fe"].median == pytest.approx(0.1, abs=1e-6)
    assert labels["mg_fe"].scatter == pytest.approx(0.0, abs=1e-6)
    assert labels["teff"].median == 0.0


def test_the_difference_turns_round_with_the_releases(two_models):
    survey, _ = two_models
    with survey.engine.connect() as connection:
        found = compare_releases(connection, "b", "a")
    assert {entry.label: entry for entry in found.labels}["mg_fe"].median == pytest.approx(-0.1, abs=1e-6)
    assert len(found.only_second) == 1


def test_a_star_whose_best_spectrum_changed_is_common_and_counted(survey):
    survey.add(gaia=1, snr_g=50.0, labels={"mg_fe": 0.1})
    rule = dataclasses.replace(SubgiantSelection(), snr_g_min=40.0)
    build_release(survey.engine, "first", calibration="none", name="a", selection=rule)
    survey.add(gaia=1, snr_g=70.0, labels={"mg_fe": None}, label_flags={"eu_fe": 1})
    build_release(survey.engine, "first", calibration="none", name="b", selection=rule)
    with survey.engine.connect() as connection:
        found = compare_releases(connection, "a", "b")
    assert (found.n_common, found.n_other_spectrum) == (1, 1)
    labels = {entry.label: entry for entry in found.labels}
    assert (labels["mg_fe"].n, labels["mg_fe"].n_lost, labels["mg_fe"].n_gained) == (0, 1, 0)
    assert labels["mg_fe"].median is None
    assert labels["eu_fe"].n_flags == 1


def test_an_empty_release_has_nothing_in_common(survey):
    build_release(survey.engine, "first", calibration="none", name="a")
    survey.add()
    build_release(survey.engine, "first", calibration="none", name="b")
    with survey.engine.connect() as connection:
        found = compare_releases(connection, "a", "b")
    assert (found.n_common, len(found.only_second)) == (0, 1)
    assert json.loads(json.dumps(found.to_dict()))["only_second"] == [str(found.only_second[0])]


def test_a_release_that_does_not_exist_is_said(survey):
    with (
        survey.engine.connect() as connection,
        pytest.raises(NotFoundError, match="`phdl catalog build` makes one"),
    ):
        compare_releases(connection, "a", "b")
