"""Which spectra are of one star, and which is the best."""

from __future__ import annotations

import numpy as np
import pytest

from phdl_catalog.catalog.stars import MISSING, SpectrumIndex, find_stars, group_by_star, second_best

ARCSEC = 1 / 3600


def index(*rows):
    """Rows of (obsid, gaia, ra, dec, snr_g); the key is the row's number, the cell is not looked at."""
    return SpectrumIndex.of(
        [
            (number, obsid, gaia, number, ra, dec, snr, 1)
            for number, (obsid, gaia, ra, dec, snr) in enumerate(rows)
        ]
    )


def groups(*rows):
    star = group_by_star(index(*rows), 3.0)
    return [sorted(np.flatnonzero(star == number).tolist()) for number in dict.fromkeys(star.tolist())]


def test_spectra_of_one_gaia_source_are_one_star_wherever_they_were_pointed():
    assert groups((1, 7, 10.0, 0.0, 9), (2, 7, 10.0 + 60 * ARCSEC, 0.0, 9), (3, 8, 10.0, 0.0, 9)) == [
        [0, 1],
        [2],
    ]


def test_spectra_without_a_source_join_by_position():
    assert groups(
        (1, None, 10.0, 60.0, 9), (2, None, 10.0 + 5 * ARCSEC, 60.0, 9), (3, None, 10.01, 60.0, 9)
    ) == [
        [0, 1],
        [2],
    ], "five arcsec of right ascension are two and a half on the sky at 60 degrees"


def test_a_spectrum_without_a_source_joins_the_nearer_of_two_sources_and_does_not_bridge_them():
    assert groups(
        (1, 7, 10.0, 0.0, 9), (2, 8, 10.0 + 4 * ARCSEC, 0.0, 9), (3, None, 10.0 + 2.5 * ARCSEC, 0.0, 9)
    ) == [[0], [1, 2]]


def test_the_sky_has_no_edge_at_ra_zero():
    assert groups((1, None, 359.9999, 0.0, 9), (2, None, 0.0003, 0.0, 9)) == [[0, 1]]


def test_one_observation_in_two_releases_is_one_star_and_one_observation():
    found = find_stars(index((1, None, None, None, 9), (1, 7, 10.0, 0.0, 9), (2, 7, 10.0, 0.0, 9)), 3.0)
    assert len(found.best) == 1
    assert found.n_obs.tolist() == [2]


def test_spectra_without_a_position_are_stars_of_their_own():
    assert groups((1, None, None, None, 9), (2, None, None, None, 9)) == [[0], [1]]


def test_the_best_spectrum_has_the_highest_signal_to_noise():
    given = index(
        (5, 7, 10.0, 0.0, 20), (6, 7, 10.0, 0.0, 80), (7, 7, 10.0, 0.0, 50), (8, None, 200.0, 0.0, 30)
    )
    found = find_stars(given, 3.0)
    assert given.obsid[found.best].tolist() == [6, 8]
    assert found.n_obs.tolist() == [3, 1]
    second = second_best(given, found)
    assert given.obsid[second[0]] == 7
    assert second[1] == MISSING


def test_the_answer_does_not_depend_on_the_order_of_the_spectra():
    rng = np.random.default_rng(3)
    rows = [
        (obsid, int(rng.integers(1, 40)) if rng.random() < 0.5 else None, float(rng.uniform(10, 10.01)),
         float(rng.uniform(0, 0.01)), float(rng.integers(20, 30)))
        for obsid in range(200)
    ]  # fmt: skip
    expected = None
    for _ in range(5):
        given = index(*rows)
        found = find_stars(given, 3.0)
        answer = sorted(zip(given.obsid[found.best].tolist(), found.n_obs.tolist(), strict=True))
        assert expected in (None, answer)
        expected = answer
        rng.shuffle(rows)
    assert 40 < len(expected) < 200


def test_no_spectra_are_no_stars():
    found = find_stars(index(), 3.0)
    assert len(found.best) == 0
    assert len(second_best(index(), found)) == 0


@pytest.mark.parametrize("distance", [2.9, 3.1])
def test_the_radius_is_three_arcsec(distance):
    assert len(groups((1, None, 10.0, 45.0, 9), (2, None, 10.0, 45.0 + distance * ARCSEC, 9))) == (
        1 if distance < 3 else 2
    )
