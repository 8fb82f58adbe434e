"""With too little to go by there is a clear statement and no nonsense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from phdl_catalog.calibration import CalibrationSolution, Constraint, calibrate
from phdl_catalog.calibration.simulation import simulate_calibrators
from phdl_catalog.errors import CalibrationError, InputError

NAMES = ("teff", "logg", "fe_h", "mg_fe")
SIMULATED = simulate_calibrators(NAMES, pairs=120, references=150, targets=300, seed=5)
STARS = slice(0, 390)
TARGETS = (SIMULATED.truth + SIMULATED.injected)[390:]


def solve(labels: Any = None, **changes: Any) -> CalibrationSolution:
    raw = SIMULATED.labels[STARS] if labels is None else labels
    return calibrate(NAMES, raw, SIMULATED.errors[STARS], **{**SIMULATED.inputs, **changes})


WITHOUT_REFERENCES = {
    "reference_rows": None,
    "reference_labels": None,
    "reference_errors": None,
    "surveys": None,
}


def test_nothing_at_all_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(CalibrationError, match="phdl pairs import"):
        solve(pairs=None, **WITHOUT_REFERENCES)


def test_without_pairs_the_references_carry_shape_and_zero_point() -> None:
    solution = solve(pairs=None)
    report = solution.report()
    assert {entry.constraint for entry in report.labels} == {Constraint.REFERENCES_ONLY}
    assert any("no usable wide binary" in note for note in report.notes)
    pulls = (solution.correction(TARGETS) - SIMULATED.injected[390:]) / solution.error(TARGETS)
    assert 0.7 < np.std(pulls[solution.valid(TARGETS)]) < 1.4


def test_without_references_a_zero_point_is_not_claimed() -> None:
    solution = solve(**WITHOUT_REFERENCES)
    report = solution.report()
    assert report["teff"].constraint is Constraint.NOTHING
    assert report["fe_h"].constraint is Constraint.PAIRS_ONLY
    assert any("no zero-point" in note for note in report["fe_h"].notes)
    assert "no calibrator sees its zero-point" in str(report["fe_h"].blind_spots)
    assert any("no usable reference star" in note for note in report.notes)
    assert not solution.valid(TARGETS).any()
    # teff and logg differ between siblings: without references there is no correction at all.
    assert np.all(solution.correction(TARGETS)[:, :2] == 0)
    assert np.all(np.isnan(solution.error(TARGETS)[:, :2]))
    # The error says how little is known of the constant.
    assert np.all(solution.error(TARGETS)[:, 2:] > 0.2)


def test_without_references_the_shape_is_still_found() -> None:
    solution = solve(**WITHOUT_REFERENCES)
    shape = solution.valid(TARGETS, zero_point=False)
    assert shape[:, 2:].mean() > 0.3
    for column in (2, 3):
        chosen = shape[:, column]
        left = (SIMULATED.injected[390:] - solution.correction(TARGETS))[chosen, column]
        assert np.std(left) < 0.6 * np.std(SIMULATED.injected[390:][chosen, column])


def test_two_pairs_alone_calibrate_nothing() -> None:
    solution = solve(pairs=SIMULATED.inputs["pairs"][:2], **WITHOUT_REFERENCES)
    assert {entry.constraint for entry in solution.report().labels} == {Constraint.NOTHING}
    assert "fewer than three" in solution.report()["fe_h"].notes[0]
    assert np.all(solution.correction(TARGETS) == 0)
    assert not solution.valid(TARGETS, zero_point=False).any()


def test_pairs_of_twins_say_nothing_on_the_shape() -> None:
    labels = SIMULATED.labels[STARS].copy()
    first, second = SIMULATED.inputs["pairs"].T
    for column, noise in ((0, 10.0), (1, 0.01)):
        labels[second, column] = labels[first, column] + np.random.default_rng(1).normal(0, noise, len(first))
    solution = solve(labels, **WITHOUT_REFERENCES)
    assert any("alike" in note for note in solution.report()["mg_fe"].notes)
    assert not solution.valid(TARGETS).any()
    # With references beside them there is a solution, and it says the same about the pairs.
    both = solve(labels)
    assert any("alike" in note for note in both.report()["mg_fe"].notes)
    assert both.valid(TARGETS)[:, 3].mean() > 0.5


def test_a_label_without_any_value_is_left_alone() -> None:
    labels = SIMULATED.labels[STARS].copy()
    labels[:, 3] = np.nan
    solution = solve(labels)
    assert solution.report()["mg_fe"].constraint is Constraint.NOTHING
    assert "no calibrator star has a fitted value" in solution.report()["mg_fe"].notes[0]
    assert np.all(solution.correction(TARGETS)[:, 3] == 0)
    assert not solution.valid(TARGETS)[:, 3].any()
    assert np.array_equal(solution.valid(TARGETS)[:, 0], solve().valid(TARGETS)[:, 0])


def test_failed_fits_are_counted_and_left_out() -> None:
    labels = SIMULATED.labels[STARS].copy()
    failed = np.flatnonzero(np.isnan(labels[:, 0])).size
    pair = next(row for row in SIMULATED.inputs["pairs"] if np.isfinite(labels[row]).all())
    labels[pair[0]] = np.nan
    before, after = solve().report(), solve(labels).report()
    assert before.failed_stars == failed
    assert after.failed_stars == failed + 1
    assert after.pair_use["no_usable_fit"] == before.pair_use.get("no_usable_fit", 0) + 1
    assert sum(after.pair_use.values()) == 120
    assert sum(after.reference_use.values()) == 150


def test_outside_the_calibrators_nothing_is_valid() -> None:
    far = np.array([[9000.0, 4.2, 0.0, 0.0], [5500.0, 1.0, 0.0, 0.0], [5500.0, 4.4, -4.0, 0.0]])
    solution = solve()
    assert not solution.valid(far).any()
    assert np.isfinite(solution.correction(far)).all()
    assert solution.valid(np.array([[5600.0, 4.4, -0.2, 0.0]])).all()


def test_a_star_without_coordinates_has_no_correction() -> None:
    solution = solve()
    star = np.array([[np.nan, 4.4, 0.0, 0.0]])
    assert np.isnan(solution.correction(star)).all()
    assert np.isnan(solution.error(star)).all()
    assert not solution.valid(star).any()


def test_a_pair_given_twice_or_with_itself_counts_once() -> None:
    pairs = SIMULATED.inputs["pairs"]
    report = solve(pairs=np.vstack([pairs, pairs[:3, ::-1], [[7, 7]]])).report()
    assert report.pair_use["duplicate"] == 3
    assert report.pair_use["same_star_twice"] == 1


@pytest.mark.parametrize(
    ("changes", "quoted"),
    [
        ({"labels": np.zeros((390, 3))}, r"\(N, 4\).*\(390, 3\)"),
        ({"pairs": np.zeros((5, 3), dtype=int)}, r"\(M, 2\).*\(5, 3\)"),
        ({"pairs": np.array([[0, 390]])}, "between 0 and 389"),
        ({"pairs": [[0, 1], [2]]}, r"pairs must have shape \(M, 2\)"),
        ({"reference_labels": 1j * np.ones((150, 4))}, "not of complex ones"),
        ({"pairs": np.array([[0.0, 1.0]])}, "integers"),
        ({"pair_chance": np.zeros(3)}, r"\(120,\).*\(3,\)"),
        ({"reference_labels": np.zeros((4, 4))}, r"\(150, 4\).*\(4, 4\)"),
        ({"reference_errors": np.zeros((150, 2))}, r"\(150, 4\).*\(150, 2\)"),
        ({"surveys": ["a"] * 3}, r"\(150,\).*\(3,\)"),
        ({"scale_survey": "nobody"}, "survey_0"),
        ({"held_out_fraction": 0.9}, "between 0 and 0.5"),
    ],
)
def test_wrong_arguments_are_named_with_both_shapes(changes: dict[str, Any], quoted: str) -> None:
    with pytest.raises(InputError, match=quoted):
        solve(**changes)


def test_labels_without_coordinates_are_refused() -> None:
    with pytest.raises(InputError, match="logg is not among them"):
        calibrate(("teff", "fe_h"), np.zeros((3, 2)), np.ones((3, 2)), pairs=[[0, 1]])


def test_applying_to_the_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(N, 4\).*\(3, 5\)"):
        solve().correction(np.zeros((3, 5)))


def test_calibrators_without_a_usable_fit_are_counted_in_the_error() -> None:
    with pytest.raises(CalibrationError, match="120 pairs: 120 no usable fit; 150 references: 150 no usable"):
        calibrate(NAMES, SIMULATED.labels[STARS], np.zeros((390, 4)), **SIMULATED.inputs)


def test_codes_for_missing_values_are_missing_values() -> None:
    rows = np.arange(0, 150, 5)
    coded, missing = SIMULATED.inputs["reference_labels"].copy(), SIMULATED.inputs["reference_labels"].copy()
    coded[rows], missing[rows] = -9999.0, np.nan
    raw = SIMULATED.labels[STARS].copy()
    raw[3, 3] = 99.99
    blank = raw.copy()
    blank[3, 3] = np.nan
    one, other = solve(raw, reference_labels=coded), solve(blank, reference_labels=missing)
    assert one.to_dict() == other.to_dict()
    assert one.report().reference_use["no_common_label"] >= 25


def test_tables_come_in_many_types() -> None:
    inputs = SIMULATED.inputs
    plain = solve(pairs=inputs["pairs"][:0])
    strange = calibrate(
        NAMES,
        np.ma.masked_invalid(SIMULATED.labels[STARS]),
        SIMULATED.errors[STARS].tolist(),
        pairs=[],
        reference_rows=inputs["reference_rows"].astype(object),
        reference_labels=inputs["reference_labels"].tolist(),
        reference_errors=inputs["reference_errors"].astype(object),
        surveys=np.array(inputs["surveys"], dtype=bytes),
    )
    assert strange.to_dict() == plain.to_dict()
    with pytest.raises(InputError, match="array of numbers"):
        solve(np.full((390, 4), "x"))
