"""Repeated observations say how right the quoted errors are, by S/N; too few say nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phdl_catalog.calibration import CalibrationSolution, calibrate
from phdl_catalog.calibration.matching import Observations, find_repeats
from phdl_catalog.calibration.repeats import ErrorScale, learn_error_scale, scaled_errors
from phdl_catalog.calibration.simulation import simulate_calibrators
from phdl_catalog.errors import InputError


def repeats(count: int, scale: float, slope: float, floor: float, wrong: float = 0.02, seed: int = 0):
    """Differences of two fits of one star whose true errors are not those quoted."""
    generator = np.random.default_rng(seed)
    snr = generator.lognormal(np.log(60), 0.7, (count, 2))
    quoted = 0.05 * 50 / snr
    true = np.hypot(quoted * scale * (snr / 50) ** slope, floor)
    difference = (generator.normal(size=(count, 2)) * true) @ [1.0, -1.0]
    bad = generator.random(count) < wrong
    difference[bad] += generator.normal(0, 1.0, bad.sum())
    return difference, quoted, snr, true


@pytest.mark.parametrize(("scale", "slope", "floor"), [(1.5, 0.2, 0.02), (1.0, 0.0, 0.0), (0.8, -0.2, 0.01)])
def test_errors_are_right_after_scaling_at_every_snr(scale: float, slope: float, floor: float) -> None:
    difference, quoted, snr, true = repeats(4000, scale, slope, floor)
    found = learn_error_scale("mg_fe", difference, quoted, snr)
    ratio = found.apply(quoted[:, 0], snr[:, 0]) / true[:, 0]
    assert np.all(np.abs(np.log(ratio[(snr[:, 0] > 15) & (snr[:, 0] < 120)])) < 0.12)
    assert found.count == 4000
    assert all(0.85 < entry.scaled < 1.2 for entry in found.bins if entry.count > 100)


def test_too_few_repeats_leave_the_errors_alone() -> None:
    difference, quoted, snr, _ = repeats(15, 2.0, 0.0, 0.0)
    found = learn_error_scale("mg_fe", difference, quoted, snr)
    assert found == ErrorScale("mg_fe")
    assert np.array_equal(found.apply(quoted[:, 0], snr[:, 0]), quoted[:, 0])


def test_missing_values_and_unknown_snr_do_no_harm() -> None:
    difference, quoted, snr, _ = repeats(300, 1.5, 0.0, 0.0)
    difference[:20], snr[20:40] = np.nan, np.nan
    found = learn_error_scale("mg_fe", difference, quoted, snr)
    assert found.count == 280
    assert 1.2 < np.hypot(found.scale, found.floor / 0.045) < 1.8
    unknown = scaled_errors((found,), np.array([[0.1]]), np.array([np.nan]))
    assert unknown[0, 0] == pytest.approx(found.apply(np.array([0.1]), np.array([50.0]))[0])


def test_a_scale_survives_json() -> None:
    found = learn_error_scale("mg_fe", *repeats(500, 1.3, 0.1, 0.01)[:3])
    assert ErrorScale.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_a_solution_with_repeats_scales_errors_before_it_solves() -> None:
    names = ("teff", "logg", "fe_h", "mg_fe")
    simulated = simulate_calibrators(names, pairs=120, references=150, targets=400, seed=8)
    generator = np.random.default_rng(0)
    # The last 400 are 200 stars observed twice; errors are quoted a third too small.
    again = simulated.labels.copy()
    again[-200:] = (simulated.truth + simulated.injected)[-400:-200]
    again[-200:] += generator.normal(size=(200, 4)) * simulated.errors[-200:]
    rows = np.stack([np.arange(200), np.arange(200, 400)], axis=1) + len(again) - 400
    options = {**simulated.inputs, "repeats": rows, "snr": np.full(len(again), 50.0)}
    solution = calibrate(names, again, simulated.errors / 1.5, **options)
    scales = [entry.error_scale.scale for entry in solution.corrections]
    assert all(1.25 < scale < 1.75 for scale in scales)
    scaled = solution.scaled_errors(simulated.errors[:5] / 1.5, np.full(5, 50.0))
    assert np.allclose(scaled, simulated.errors[:5], rtol=0.25)
    back = CalibrationSolution.from_dict(solution.to_dict())
    assert np.array_equal(
        back.scaled_errors(simulated.errors[:5]), solution.scaled_errors(simulated.errors[:5])
    )
    with pytest.raises(InputError, match="snr must have shape"):
        solution.scaled_errors(simulated.errors[:5], np.ones(4))
    with pytest.raises(InputError, match="repeats must be row numbers"):
        calibrate(names, again, simulated.errors, **{**options, "repeats": [[0, 10**6]]})


def test_repeats_are_of_one_star_and_not_one_observation_twice() -> None:
    gaia = np.array([5, 5, 5, 7, -1, -1, -1, -1])
    obsid = np.array([11, 12, 12, 13, 14, 15, 16, -1])
    ra = np.array([1.0, 1.0, 1.0, 2.0, 3.0, 3.0001, 4.0, np.nan])
    found = find_repeats(Observations(gaia, obsid, ra, np.zeros(8), np.full(8, 50.0)))
    assert {tuple(sorted(pair)) for pair in found.tolist()} == {(0, 1), (4, 5)}
