"""A calibrator star finds its best spectrum."""

from __future__ import annotations

import numpy as np
import pytest

from phdl_catalog.calibration.matching import Observations, Stars, match_stars, what_was_tried
from phdl_catalog.errors import InputError

ARCSEC = 1 / 3600


def stars(**columns: list[float]) -> Stars:
    count = len(next(iter(columns.values())))
    integers = {
        name: np.array(columns.get(name, [-1] * count), dtype=np.int64)
        for name in ("gaia_source_id", "obsid")
    }
    floats = {name: np.array(columns.get(name, [np.nan] * count)) for name in ("ra", "dec", "pmra", "pmdec")}
    return Stars(**integers, **floats)


OBSERVED = Observations(
    gaia_source_id=np.array([7, 7, -1, -1, 9]),
    obsid=np.array([100, 101, 102, 103, 104]),
    ra=np.array([10.0, 10.0, 20.0, np.nan, 30.0]),
    dec=np.array([60.0, 60.0, -5.0, np.nan, 0.0]),
    snr=np.array([30.0, 80.0, 50.0, np.nan, 60.0]),
)


def test_the_best_spectrum_of_a_source_is_taken() -> None:
    assert match_stars(stars(gaia_source_id=[7, 8]), OBSERVED).tolist() == [1, -1]


def test_an_observation_is_found_where_no_source_is_known() -> None:
    assert match_stars(stars(obsid=[103, 999]), OBSERVED).tolist() == [3, -1]


def test_a_source_counts_more_than_an_observation() -> None:
    assert match_stars(stars(gaia_source_id=[9], obsid=[100]), OBSERVED).tolist() == [4]


def test_unknown_identifiers_do_not_match_each_other() -> None:
    assert match_stars(stars(gaia_source_id=[-1], obsid=[-1]), OBSERVED).tolist() == [-1]


def test_a_position_matches_within_the_radius_only() -> None:
    # At declination 60 two arcsec of right ascension are one on the sky.
    wanted = stars(ra=[10.0 + 5 * ARCSEC, 10.0 + 7 * ARCSEC, 20.0], dec=[60.0, 60.0, -5.0 + 2.9 * ARCSEC])
    assert match_stars(wanted, OBSERVED).tolist() == [1, -1, 2]
    assert match_stars(wanted, OBSERVED, radius=4.0).tolist() == [1, 1, 2]


def test_a_position_across_the_zero_of_right_ascension_matches() -> None:
    edge = Observations(
        np.array([-1]), np.array([1]), np.array([359.9999]), np.array([0.0]), np.array([50.0])
    )
    assert match_stars(stars(ra=[0.0001], dec=[0.0]), edge).tolist() == [0]


def test_a_fast_star_is_found_where_it_was() -> None:
    # 1 arcsec a year: sixteen arcsec between the target position of 2000 and Gaia's of 2016.
    wanted = stars(ra=[20.0 + 16 * ARCSEC / np.cos(np.deg2rad(5))], dec=[-5.0], pmra=[1000.0], pmdec=[0.0])
    assert match_stars(wanted, OBSERVED).tolist() == [2]
    still = stars(ra=[20.0 + 16 * ARCSEC], dec=[-5.0])
    assert match_stars(still, OBSERVED).tolist() == [-1]


def test_two_sources_at_one_position_are_two_stars() -> None:
    assert match_stars(stars(gaia_source_id=[8], ra=[30.0], dec=[0.0]), OBSERVED).tolist() == [-1]
    assert match_stars(stars(gaia_source_id=[8], ra=[20.0], dec=[-5.0]), OBSERVED).tolist() == [2]


def test_nothing_to_match_is_no_error() -> None:
    nothing = stars(ra=[])
    assert match_stars(nothing, OBSERVED).size == 0
    empty = Observations(*(np.empty(0, dtype=np.int64),) * 2, *(np.empty(0),) * 3)
    assert match_stars(stars(ra=[1.0], dec=[1.0]), empty).tolist() == [-1]


def test_a_radius_must_be_positive() -> None:
    with pytest.raises(InputError, match="positive"):
        match_stars(stars(ra=[1.0], dec=[1.0]), OBSERVED, radius=0)


def test_where_nothing_matched_it_says_by_which_keys_and_how_near_the_nearest_was() -> None:
    wanted = stars(
        gaia_source_id=[8, -1], ra=[20.0 + 7 * ARCSEC / np.cos(np.deg2rad(5)), 30.5], dec=[-5.0, 0.0]
    )
    assert match_stars(wanted, OBSERVED).tolist() == [-1, -1]
    told = what_was_tried(wanted, OBSERVED, 3.0)
    assert "by Gaia source (1 stars and 3 fits have one)" in told
    assert "by obsid (0 stars and 5 fits have one)" in told
    assert (
        "by position (2 stars and 4 fits have one; the nearest two are 7.0 arcsec apart, 3 arcsec are" in told
    )
    far = what_was_tried(stars(ra=[30.5], dec=[0.0]), OBSERVED, 3.0)
    assert "0.50 degrees apart" in far
    assert what_was_tried(wanted, OBSERVED.taken(np.empty(0, dtype=np.int64)), 3.0).startswith(
        "there is no usable"
    )
