"""The comparison with known labels finds the offsets, trends and error scales that were put in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phdl_catalog.catalog.recovery import compare_with_truth, draw_recovery
from phdl_catalog.errors import InputError

NAMES = ("teff", "mg_fe")


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = np.column_stack([rng.uniform(5000, 6400, 400), rng.normal(0.1, 0.1, 400)])
    errors = np.tile([30.0, 0.05], (400, 1))
    calibrated = truth + errors * rng.standard_normal(truth.shape)
    raw = calibrated.copy()
    raw[:, 1] += 0.08 + 0.10 * (truth[:, 0] - 5700.0) / 1000.0
    return truth, raw, calibrated, errors


def test_an_offset_and_a_trend_are_found_before_and_gone_after(arrays: tuple[np.ndarray, ...]) -> None:
    teff, mg = compare_with_truth(NAMES, *arrays)
    assert mg.raw.bias == pytest.approx(0.08, abs=0.015)
    assert mg.raw.trend == pytest.approx(0.10, abs=0.02)
    assert mg.calibrated.bias == pytest.approx(0.0, abs=0.01)
    assert mg.calibrated.trend == pytest.approx(0.0, abs=0.02)
    assert mg.calibrated.scatter == pytest.approx(0.05, rel=0.15)
    assert teff.raw == teff.calibrated


def test_the_pull_is_one_if_errors_are_right_and_a_half_if_they_are_twice_too_large(
    arrays: tuple[np.ndarray, ...],
) -> None:
    truth, raw, calibrated, errors = arrays
    assert compare_with_truth(NAMES, *arrays)[1].pull == pytest.approx(1.0, abs=0.12)
    doubled = compare_with_truth(NAMES, truth, raw, calibrated, 2 * errors)
    assert doubled[1].pull == pytest.approx(0.5, abs=0.06)


def test_missing_labels_are_left_out_and_counted(arrays: tuple[np.ndarray, ...]) -> None:
    truth, raw, calibrated, errors = (array.copy() for array in arrays)
    calibrated[:100, 1] = np.nan
    assert [found.n for found in compare_with_truth(NAMES, truth, raw, calibrated, errors)] == [400, 300]
    calibrated[:, 1] = np.nan
    assert [found.name for found in compare_with_truth(NAMES, truth, raw, calibrated, errors)] == ["teff"]


def test_arrays_of_different_shapes_are_an_error_that_quotes_them(arrays: tuple[np.ndarray, ...]) -> None:
    truth, raw, calibrated, errors = arrays
    with pytest.raises(InputError, match=r"\(N, 2\), not .*\(399, 2\)"):
        compare_with_truth(NAMES, truth, raw[:-1], calibrated, errors)


def test_the_picture_is_written(arrays: tuple[np.ndarray, ...], tmp_path: Path) -> None:
    truth, raw, calibrated, _ = arrays
    path = tmp_path / "new" / "recovery.png"
    draw_recovery(path, NAMES, truth, raw, calibrated, ("mg_fe", "not_a_label_here"))
    assert path.read_bytes().startswith(b"\x89PNG")
