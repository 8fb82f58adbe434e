"""A solution survives storage exactly, is the same every time, and is fast to apply."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch
from simulated_corrections import LABELS, TARGETS, Solved

from phdl_catalog.calibration import CalibrationSolution, calibrate
from phdl_catalog.calibration.basis import SHORTEST_SCALE, SmoothBasis, Smoothness
from phdl_catalog.calibration.simulation import simulate_calibrators
from phdl_catalog.errors import InputError


def test_a_round_trip_through_json_is_exact(solved: Solved) -> None:
    document = json.loads(json.dumps(solved.solution.to_dict(), allow_nan=False))
    back = CalibrationSolution.from_dict(document)
    labels = solved.targets
    for face in ("correction", "error", "valid"):
        assert np.array_equal(getattr(back, face)(labels), getattr(solved.solution, face)(labels))
    assert back.to_dict() == solved.solution.to_dict()
    assert back.report() == solved.solution.report()
    assert str(back.report()) == str(solved.solution.report())


def test_another_format_is_refused() -> None:
    with pytest.raises(InputError, match="no calibration solution"):
        CalibrationSolution.from_dict({"format": "something else"})


def test_the_same_input_gives_the_same_solution(solved: Solved) -> None:
    simulated, stars = solved.simulated, slice(None, -TARGETS)
    again = calibrate(LABELS, simulated.labels[stars], simulated.errors[stars], **simulated.inputs)
    assert again.to_dict() == solved.solution.to_dict()


def test_another_seed_holds_out_other_calibrators(solved: Solved) -> None:
    simulated, stars = solved.simulated, slice(None, -TARGETS)
    other = calibrate(LABELS, simulated.labels[stars], simulated.errors[stars], seed=1, **simulated.inputs)
    assert other.pairs.held_out.sum() == solved.solution.pairs.held_out.sum() > 0
    assert not np.array_equal(other.pairs.held_out, solved.solution.pairs.held_out)


def test_order_of_the_stars_does_not_matter_without_held_out_ones() -> None:
    names = ("teff", "logg", "fe_h", "mg_fe")
    simulated = simulate_calibrators(names, pairs=60, references=80, targets=50, seed=2)
    first = calibrate(names, simulated.labels, simulated.errors, held_out_fraction=0, **simulated.inputs)
    order = np.random.default_rng(0).permutation(len(simulated.labels))
    place = np.argsort(order)
    moved = dict(simulated.inputs)
    moved["pairs"] = place[moved["pairs"]][:, ::-1]
    moved["reference_rows"] = place[moved["reference_rows"]]
    second = calibrate(names, simulated.labels[order], simulated.errors[order], held_out_fraction=0, **moved)
    targets = simulated.truth[-50:]
    # Coordinates are shaken at random, star by star: the same but for a small part of the error.
    difference = first.correction(targets) - second.correction(targets)
    assert np.all(np.abs(difference) < 0.25 * first.error(targets))


def test_tensors_are_taken_as_arrays(solved: Solved) -> None:
    labels = solved.targets[:20]
    tensor = torch.tensor(labels, requires_grad=True)
    assert np.array_equal(solved.solution.correction(tensor), solved.solution.correction(labels))


def test_members_tell_before_and_after(solved: Solved) -> None:
    column = LABELS.index("mg_fe")
    simulated, members = solved.simulated, solved.solution.pairs
    first, second = simulated.inputs["pairs"].T
    x = simulated.labels[:, column]
    known = np.isfinite(members.before[:, column])
    assert np.allclose(members.before[known, column], (x[first] - x[second])[known])
    held = members.held_out & known
    report = solved.solution.report()["mg_fe"]
    assert report.held_out_pairs.count == held.sum()
    noise = members.error[held, column] ** 2 + report.pair_scatter**2
    weight = members.weight[held, column] / noise
    after = np.sqrt(np.sum(weight * members.after[held, column] ** 2) / weight.sum())
    assert report.held_out_pairs.after == pytest.approx(after)
    assert report.held_out_pairs.expected == pytest.approx(np.sqrt(np.sum(weight * noise) / weight.sum()))


def test_a_survey_of_a_hundred_thousand_stars_is_calibrated_at_once(solved: Solved) -> None:
    stars = np.repeat(solved.targets, 1 + 116_611 // len(solved.targets), axis=0)[:116_611]
    start = time.perf_counter()
    correction = solved.solution.correction(stars)
    solved.solution.valid(stars)
    solved.solution.error(stars, np.ones_like(stars))
    assert time.perf_counter() - start < 3.0
    assert np.array_equal(correction[:: len(stars) - 1], solved.solution.correction(stars[:: len(stars) - 1]))


def test_prior_variance_of_the_surface_is_its_amplitude_in_the_middle() -> None:
    basis = SmoothBasis((5600.0, 4.2, -0.2), (1300.0, 0.8, 0.9))
    scale = 1.5 * SHORTEST_SCALE
    variance, _ = basis.prior(Smoothness(1e-3, 0.1, scale[0], scale[1], 1e-3, 1e-3))
    functions = basis.functions(np.array([[5600.0, 4.2, -0.2], [5000.0, 4.0, -0.2]]))
    part = basis.slices["surface"]
    sigma = np.sqrt(np.square(functions[:, part]) @ variance[part])
    assert np.allclose(sigma, 0.1, rtol=0.1)


def test_gradient_of_the_prior_is_its_derivative() -> None:
    basis = SmoothBasis((5600.0, 4.2, -0.2), (1300.0, 0.8, 0.9))
    center = np.log([0.1, 0.08, 1.2, 0.9, 0.03, 0.02])
    _, gradient = basis.prior(Smoothness(*np.exp(center)))
    for number in range(6):
        shift = 1e-5 * np.eye(6)[number]
        high, _ = basis.prior(Smoothness(*np.exp(center + shift)))
        low, _ = basis.prior(Smoothness(*np.exp(center - shift)))
        assert np.allclose(gradient[:, number], np.log(high / low) / 2e-5, atol=1e-4)
