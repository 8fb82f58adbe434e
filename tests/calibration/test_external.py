"""Checks against clusters and well-known stars see what a wrong correction does."""

from __future__ import annotations

import numpy as np
import pytest

from phdl_catalog.calibration.external import CheckedFits, check_clusters, check_stars

NAMES = ("teff", "logg", "fe_h", "mg_fe")


def cluster(count: int, trend: float, seed: int = 0) -> CheckedFits:
    """Stars of one composition whose raw mg_fe changes with teff; the correction takes it out."""
    generator = np.random.default_rng(seed)
    teff = generator.uniform(5000, 6300, count)
    corrected = np.stack([teff, np.full(count, 4.3), np.full(count, 0.1), np.full(count, 0.05)], axis=1)
    corrected[:, 2:] += generator.normal(0, 0.03, (count, 2))
    raw = corrected.copy()
    raw[:, 3] += trend * (teff - 5600) / 1000
    errors = np.tile([40.0, 0.05, 0.03, 0.03], (count, 1))
    return CheckedFits(NAMES, raw, corrected, errors, np.ones((count, 4), dtype=bool))


def test_a_trend_inside_a_cluster_is_found_before_and_gone_after() -> None:
    checks = {entry.label: entry for entry in check_clusters(cluster(60, -0.3), ["M 67"] * 60)}
    assert set(checks) == {"fe_h", "mg_fe"}
    found = checks["mg_fe"]
    assert found.raw.slope == pytest.approx(-0.3, abs=5 * found.raw.slope_error)
    assert abs(found.corrected.slope) < 4 * found.corrected.slope_error
    assert found.corrected.scatter < found.raw.scatter
    assert found.corrected.scatter == pytest.approx(found.expected, rel=0.4)


def test_small_clusters_and_strangers_are_left_out() -> None:
    fits = cluster(20, 0.0)
    fits.corrected[0, 3] = 1.0
    checks = check_clusters(fits, ["a"] * 17 + ["b"] * 3)
    assert {entry.cluster for entry in checks} == {"a"}
    assert next(entry for entry in checks if entry.label == "mg_fe").outliers == 1


def test_known_stars_show_what_a_correction_is_worth() -> None:
    fits = cluster(10, -0.5)
    known = np.full((10, 4), np.nan)
    known[:, 3] = 0.05
    (found,) = check_stars(fits, known, np.full((10, 4), np.nan))
    assert (found.label, found.stars) == ("mg_fe", 10)
    assert abs(found.corrected) < 0.03
    assert found.corrected_scatter < found.raw_scatter
    assert found.in_sigma < 2
