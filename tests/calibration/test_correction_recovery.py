"""Injected corrections come back, with honest errors, whatever is wrong with some calibrators."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_corrections import LABELS, TARGETS, Solved, solve_simulated


def test_errors_are_honest(solved: Solved) -> None:
    pulls = solved.pulls()
    assert np.isfinite(pulls).mean() > 0.9
    assert 0.8 < np.nanstd(pulls) < 1.2


def test_most_of_the_injected_correction_is_found(solved: Solved) -> None:
    valid = solved.solution.valid(solved.targets)
    injected = np.where(valid, solved.simulated.injected[-TARGETS:], np.nan)
    left = injected - solved.solution.correction(solved.targets)
    ratio = np.sqrt(np.nanmean(left**2, axis=0)) / np.nanstd(injected, axis=0)
    assert np.all(ratio < 0.35), dict(zip(LABELS, ratio.round(2), strict=True))


def test_errors_with_noisy_coordinates_cover_noisy_coordinates(solved: Solved) -> None:
    raw, errors = solved.simulated.labels[-TARGETS:], solved.simulated.errors[-TARGETS:]
    difference = solved.solution.correction(raw) - solved.simulated.injected[-TARGETS:]
    pulls = difference / solved.solution.error(raw, errors)
    assert 0.8 < np.std(pulls[solved.solution.valid(raw)]) < 1.2
    assert np.all(solved.solution.error(raw, errors) >= solved.solution.error(raw))


def test_held_out_pairs_scatter_as_noise_and_intrinsic_scatter_say(solved: Solved) -> None:
    held = [entry.held_out_pairs for entry in solved.solution.report().labels if entry.held_out_pairs.count]
    ratios = [entry.after / entry.expected for entry in held if entry.after and entry.expected]
    assert len(ratios) == 4
    assert abs(np.mean(ratios) - 1) < 0.1


def test_no_label_is_made_worse(solved: Solved) -> None:
    for entry in solved.solution.report().labels:
        for scatter in (entry.pairs, entry.references, entry.held_out_pairs, entry.held_out_references):
            if scatter.before is not None and scatter.after is not None:
                assert scatter.after <= scatter.before, entry.label


def test_chance_pairs_lose_their_weight(solved: Solved) -> None:
    weight = solved.solution.pairs.weight[:, LABELS.index("fe_h")]
    seen = np.isfinite(weight)
    chance = solved.simulated.bad_pairs
    assert np.mean(weight[seen & ~chance]) > 0.9
    # The others look like pairs: two strangers of one metallicity.
    assert np.mean(weight[seen & chance]) < 0.6


def test_zero_points_of_surveys_are_found_relative_to_their_mean(solved: Solved) -> None:
    report = solved.solution.report()
    for name in ("fe_h", "mg_fe"):
        zero_points = report[name].zero_points
        assert set(zero_points) == {"survey_0", "survey_1"}
        total = sum(value for value, _ in zero_points.values())
        assert abs(total) < 0.01
        # Two surveys were drawn with zero-points that sum to zero.
        reference = solved.simulated.inputs["reference_labels"][:, LABELS.index(name)]
        rows = solved.simulated.inputs["reference_rows"]
        offset = reference - solved.simulated.truth[rows, LABELS.index(name)]
        surveys = np.array(solved.simulated.inputs["surveys"])
        for survey, (value, error) in zero_points.items():
            assert abs(np.median(offset[surveys == survey]) - value) < 5 * error + 0.005


def test_intrinsic_scatter_is_found(solved: Solved) -> None:
    report = solved.solution.report()
    for name in ("fe_h", "mg_fe"):
        assert 0.008 < report[name].pair_scatter < 0.04
        assert 0.015 < report[name].reference_scatter < 0.06


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fifth_of_bad_calibrators_does_little_harm(seed: int) -> None:
    good = solve_simulated(seed=seed, bad_fraction=0.0)
    bad = solve_simulated(seed=seed, bad_fraction=0.2, bad_references=0.2)

    def scatter(case: Solved) -> float:
        pulls = case.pulls() * case.solution.error(case.targets)
        unit = np.where(np.array(LABELS) == "teff", 1000.0, 1.0)
        return float(np.sqrt(np.nanmean((pulls / unit) ** 2)))

    assert scatter(bad) < 1.5 * scatter(good)
    assert 0.7 < np.nanstd(bad.pulls()) < 1.5


def test_a_known_chance_probability_removes_a_pair(solved: Solved) -> None:
    from phdl_catalog.calibration import calibrate

    simulated, stars = solved.simulated, slice(None, -TARGETS)
    chance = np.where(simulated.bad_pairs, 0.99, 0.01)
    informed = calibrate(
        LABELS, simulated.labels[stars], simulated.errors[stars], pair_chance=chance, **simulated.inputs
    )
    weight = informed.pairs.weight[informed.pairs.use == "used"]
    assert np.nanmean(weight[simulated.bad_pairs[informed.pairs.use == "used"]]) < 0.2


def test_the_survey_that_sets_the_scale_has_no_zero_point(solved: Solved) -> None:
    from phdl_catalog.calibration import calibrate

    simulated, stars = solved.simulated, slice(None, -TARGETS)
    scaled = calibrate(
        LABELS, simulated.labels[stars], simulated.errors[stars], scale_survey="survey_1", **simulated.inputs
    )
    for name in ("teff", "mg_fe"):
        value, _ = scaled.report()[name].zero_points["survey_1"]
        unit = 1000.0 if name == "teff" else 1.0
        assert abs(value) < 1e-3 * unit
        # The whole scale moves by that survey's former zero-point.
        column = LABELS.index(name)
        shift = (scaled.correction(solved.targets) - solved.solution.correction(solved.targets))[:, column]
        before, _ = solved.solution.report()[name].zero_points["survey_1"]
        assert np.median(shift) == pytest.approx(-before, abs=0.006 * unit)


@pytest.mark.parametrize("shape", ["step", "bump", "wave"])
def test_errors_are_honest_for_other_curves_too(shape: str) -> None:
    case = solve_simulated(seed=21, shape=shape)
    assert 0.75 < np.nanstd(case.pulls()) < 1.3
    held = [entry.held_out_pairs for entry in case.solution.report().labels if entry.held_out_pairs.count]
    assert np.mean([entry.after / entry.expected for entry in held]) < 1.1


def test_a_correction_that_depends_on_raw_labels_comes_back_at_raw_labels() -> None:
    case = solve_simulated(seed=22, at_raw=True)
    raw, solution = case.simulated.labels[-TARGETS:], case.solution
    left = solution.correction(raw) - case.simulated.injected[-TARGETS:]
    # teff and logg themselves are biased where they truly are.
    left[:, :2] = np.nan
    pulls = np.where(solution.valid(raw), left / solution.error(raw), np.nan)
    assert 0.75 < np.nanstd(pulls) < 1.25


def test_the_scale_of_a_survey_is_found_and_taken_out() -> None:
    case = solve_simulated(seed=4, survey_scale=0.05)
    for name in ("teff", "fe_h"):
        scales = case.solution.report()[name].survey_scales
        value, error = scales["survey_0"]
        assert abs(value - 0.05) < 4 * error
        assert value > 3 * error
        assert scales["survey_1"][0] == pytest.approx(-value, abs=0.01)
    assert 0.75 < np.nanstd(case.pulls()) < 1.3


def test_what_pairs_cannot_see_is_named(solved: Solved) -> None:
    report = solved.solution.report()
    # Siblings have one fe_h, and a constant is the same for both.
    assert {"constant", "fe_h"} <= set(report["mg_fe"].unseen_by_pairs)
    assert "teff of dwarfs" not in report["mg_fe"].unseen_by_pairs
    assert "teff of dwarfs" in report["teff"].unseen_by_pairs
    assert report["mg_fe"].unseen == ()
    (words,) = report["mg_fe"].blind_spots
    assert words.startswith("pairs do not see its zero-point")
    assert "how it changes with fe_h" in words
    assert words.endswith("it rests on the reference stars")
    assert "reference stars alone" in report["teff"].blind_spots[0]
    (zero_point,) = [entry for entry in report.blind_directions() if entry.words == "its zero-point"]
    assert {"fe_h", "mg_fe"} <= set(zero_point.by_pairs)
    assert zero_point.by_all == ()
    assert f"pairs do not see its zero-point: {', '.join(zero_point.by_pairs)}" in str(report)


def test_calibrators_drawn_again_scatter_as_the_errors_say(solved: Solved) -> None:
    ratios = [entry.bootstrap for entry in solved.solution.report().labels]
    assert 0.75 < np.mean(ratios) < 1.25
