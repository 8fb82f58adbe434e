"""From fitted to published labels."""

from __future__ import annotations

import numpy as np
import pytest

from phdl_catalog.catalog.corrected import apply_calibration
from phdl_catalog.errors import CalibrationError

LABELS = ("teff", "logg", "fe_h", "mg_fe")
OUTSIDE, NOT_CALIBRATED = 1 << 24, 1 << 25


class Shift:
    """A correction of mg_fe and fe_h by constants, valid below 6000 K; teff and logg are not calibrated."""

    label_names = ("fe_h", "mg_fe", "teff", "logg")

    def correction(self, labels):
        shifts = np.broadcast_to([0.1, -0.2, 0.0, 0.0], labels.shape).copy()
        shifts[~np.isfinite(labels[:, [0, 2, 3]]).all(axis=1)] = np.nan
        return shifts

    def error(self, labels, errors=None):
        return np.broadcast_to([0.03, 0.04, np.nan, np.nan], labels.shape).copy()

    def valid(self, labels):
        return np.broadcast_to(labels[:, 2:3] < 6000, labels.shape) & [True, True, False, False]

    def scaled_errors(self, errors, snr=None):
        return np.array(errors)


def published(raw, errors=(30.0, 0.1, 0.04, 0.03), flags=(0, 0, 0, 0), solution=None):
    return apply_calibration(
        LABELS,
        np.array([raw], np.float32),
        np.array([errors], np.float32),
        np.array([flags]),
        solution or Shift(),
    )


def test_the_correction_is_subtracted_and_errors_add_in_quadrature():
    found = published((5500.0, 3.8, -0.3, 0.2))
    np.testing.assert_allclose(found.values[0], [5500, 3.8, -0.4, 0.4], rtol=1e-6)
    np.testing.assert_allclose(found.errors[0], [30, 0.1, 0.05, 0.05], rtol=1e-6)
    np.testing.assert_allclose(found.calibration_errors[0], [np.nan, np.nan, 0.03, 0.04], rtol=1e-6)
    assert found.flags[0].tolist() == [NOT_CALIBRATED, NOT_CALIBRATED, 0, 0]


def test_outside_the_validity_the_value_stands_and_is_flagged():
    found = published((6400.0, 3.8, -0.3, 0.2))
    assert found.values[0, 3] == np.float32(0.4)
    assert found.flags[0].tolist() == [NOT_CALIBRATED, NOT_CALIBRATED, OUTSIDE, OUTSIDE]


def test_an_unconstrained_label_is_missing_but_its_raw_value_is_kept():
    found = published((5500.0, 3.8, -0.3, 0.2), flags=(0, 0, 0, 4))
    assert found.raw[0, 3] == np.float32(0.2)
    assert np.isnan([found.values[0, 3], found.errors[0, 3], found.calibration_errors[0, 3]]).all()
    assert found.flags[0, 3] == 4


def test_a_label_at_a_bound_is_flagged_and_published():
    found = published((5500.0, 3.8, -0.3, 0.2), flags=(0, 0, 0, 1))
    assert found.values[0, 3] == np.float32(0.4)
    assert found.flags[0, 3] == 1


def test_without_the_labels_a_correction_depends_on_there_is_no_calibrated_value():
    found = published((np.nan, 3.8, -0.3, 0.2))
    assert np.isnan(found.values[0]).all()
    assert (found.flags[0] == NOT_CALIBRATED).all()
    assert found.raw[0, 3] == np.float32(0.2)


def test_an_uncalibrated_release_has_the_raw_values_and_says_so():
    raw = np.array([[5500.0, 3.8, -0.3, 0.2]], np.float32)
    found = apply_calibration(LABELS, raw, raw * 0 + 1, np.zeros((1, 4), np.int64), None)
    np.testing.assert_array_equal(found.values, raw)
    assert np.isnan(found.calibration_errors).all()
    assert (found.flags == NOT_CALIBRATED).all()


def test_what_is_too_large_for_a_column_is_missing_not_infinite():
    found = published((5500.0, 3.8, -0.3, 0.2), errors=(30.0, 0.1, 0.04, np.inf))
    assert np.isnan(found.errors[0, 3])


def test_the_labels_given_are_not_changed():
    flags = np.array([[0, 0, 0, 0]])
    apply_calibration(LABELS, np.ones((1, 4), np.float32), np.ones((1, 4), np.float32), flags, None)
    assert not flags.any()


def test_a_calibration_of_another_model_is_refused():
    raw = np.zeros((1, 2), np.float32)
    with pytest.raises(CalibrationError, match="fe_h, mg_fe, which the model does not have"):
        apply_calibration(("teff", "logg"), raw, raw, np.zeros((1, 2), np.int64), Shift())
