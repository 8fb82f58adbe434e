"""All that is possible between bounds, and what the data say of one label alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from line_model import NAMES, RANGE, LineModel
from line_survey import simulate

from phdl_catalog.emulator import load_model
from phdl_catalog.fitting import FitOptions, Fitter, LabelFlag
from phdl_catalog.fitting.box import Box, moments_between
from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.optimiser import Solution
from phdl_catalog.fitting.sensitivity import Sensitivity
from phdl_catalog.fitting.solver import Solver
from phdl_catalog.fitting.starts import make_templates, template_labels
from phdl_catalog.fitting.step import bounded_step
from phdl_catalog.fitting.uncertainty import Estimate, LinearTheory


def _inside(fisher: torch.Tensor, mean: torch.Tensor, fixed: torch.Tensor | None = None) -> Estimate:
    """The estimate of Gaussians (N, D) between -1 and 1, from the minimum that a fit would find."""
    ones = torch.ones_like(mean)
    gradient = -torch.einsum("nij,nj->ni", fisher, mean)
    minimum, _ = bounded_step(gradient, fisher, -ones, ones)
    gradient = torch.einsum("nij,nj->ni", fisher, minimum - mean)
    fixed = torch.zeros(mean.shape[1], dtype=torch.bool) if fixed is None else fixed
    return LinearTheory.of(fisher, fisher, Box(-ones, ones), fixed).estimate(minimum, gradient)


def test_a_well_constrained_error_is_the_cramer_rao_bound() -> None:
    generator = np.random.default_rng(4)
    root = generator.normal(size=(7, 7)) * 300
    fisher = torch.as_tensor(root @ root.T)[None]
    mean = torch.as_tensor(generator.uniform(-0.3, 0.3, (1, 7)))
    result = _inside(fisher, mean)
    bound = torch.linalg.inv(fisher).diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(result.errors, bound, rtol=2e-2, atol=0.0)
    torch.testing.assert_close(result.values, mean, rtol=0.0, atol=0.05 * float(bound.min()))
    torch.testing.assert_close(result.bounds, result.errors)
    assert torch.all(result.information[:, :-2] > 0.95)


def test_a_label_without_any_information_does_not_spoil_the_others() -> None:
    fisher = torch.diag(torch.tensor([1e4, 0.0, 1e4, 1e4, 1e4, 1e4], dtype=torch.float64))[None]
    result = _inside(fisher, torch.zeros(1, 6, dtype=torch.float64))
    assert result.information[0, 1] < 1e-5
    assert result.alone.errors[0, 1] > 100.0
    # Anything between -1 and 1.
    torch.testing.assert_close(result.errors[0, 1].item(), 2.0 / 12.0**0.5, rtol=1e-3, atol=0)
    torch.testing.assert_close(result.values[0, 1].item(), 0.0, rtol=0, atol=1e-3)
    torch.testing.assert_close(result.errors[0, 0].item(), 0.01, rtol=1e-2, atol=0)


def test_a_parameter_that_is_not_fitted_stays_where_it_is() -> None:
    generator = np.random.default_rng(6)
    root = generator.normal(size=(5, 5)) * 30
    fisher = torch.as_tensor(root @ root.T)[None]
    fixed = torch.tensor([False, False, False, False, True])
    ones = torch.ones(1, 5, dtype=torch.float64)
    box = Box(torch.where(fixed, 0.0, -ones), torch.where(fixed, 0.0, ones))
    at, gradient = torch.zeros(1, 5, dtype=torch.float64), torch.full((1, 5), 3.0, dtype=torch.float64)
    result = LinearTheory.of(fisher, fisher, box, fixed).estimate(at, gradient)
    assert result.values[0, -1] == 0.0
    assert result.errors[0, -1] == 0.0
    free = torch.linalg.inv(fisher[:, :-1, :-1]).diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(result.errors[:, :-1], free, rtol=3e-2, atol=0.0)


@pytest.mark.parametrize("place", [-300.0, -30.0, -3.0, -0.4, 0.0, 0.7, 4.0, 50.0])
@pytest.mark.parametrize("sigma", [0.02, 0.5, 1.0, 8.0, 300.0])
def test_moments_of_a_gaussian_between_bounds(place: float, sigma: float) -> None:
    low, high = -1.0, 1.5
    mean = place * min(sigma, 1.0)
    numbers = (torch.tensor([x], dtype=torch.float64) for x in (mean, sigma, low, high))
    found, variance = moments_between(*numbers)
    # Sums over where the density is, relative to where it is highest.
    peak = np.clip(mean, low, high)
    fall = sigma**2 / max(abs(mean - peak), sigma)
    x = np.linspace(max(low, peak - 40.0 * fall), min(high, peak + 40.0 * fall), 400_001)
    density = np.exp(-0.5 * (x - peak) * (x + peak - 2.0 * mean) / sigma**2)
    centre = np.trapezoid(x * density) / np.trapezoid(density)
    spread = np.trapezoid((x - centre) ** 2 * density) / np.trapezoid(density)
    assert found.item() == pytest.approx(centre, abs=1e-3 * np.sqrt(spread))
    assert variance.item() == pytest.approx(spread, rel=2e-3)


def test_a_label_is_marginalised_over_the_others_between_their_bounds() -> None:
    # Three labels that depend on each other, against sums over a lattice.
    covariance = np.array([[0.3**2, 0.2, -0.05], [0.2, 0.9**2, 0.1], [-0.05, 0.1, 0.7**2]])
    mean = np.array([0.1, 0.9, -0.4])
    fisher = np.zeros((1, 5, 5))
    fisher[0, :3, :3] = np.linalg.inv(covariance)
    fisher[0, 3:, 3:] = 1e4 * np.eye(2)
    found = _inside(torch.as_tensor(fisher), torch.as_tensor(np.append(mean, [0.0, 0.0])[None]))
    everything, between = np.linspace(-6.0, 6.0, 481), np.linspace(-1.0, 1.0, 81)
    for label in range(3):
        for own, values, errors in (
            (between, found.values, found.errors),
            (everything, found.alone.values, found.alone.errors),
        ):
            axes = [own if axis == label else between for axis in range(3)]
            place = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - mean
            weight = np.exp(-0.5 * np.einsum("...i,ij,...j", place, fisher[0, :3, :3], place))
            # The ends of a box count half.
            weight[:, [0, -1]] /= 2.0
            weight[:, :, [0, -1]] /= 2.0
            weight[[0, -1]] /= 2.0
            density = weight.sum(axis=tuple(axis for axis in range(3) if axis != label))
            centre = (own * density).sum() / density.sum()
            sigma = np.sqrt(((own - centre) ** 2 * density).sum() / density.sum())
            assert values[0, label].item() == pytest.approx(np.clip(centre, -1, 1), abs=0.05 * sigma)
            assert errors[0, label].item() == pytest.approx(sigma, rel=0.05)


def test_errors_are_true_for_labels_that_bounds_cut_off() -> None:
    # Measured to a fifth of what bounds allow: one in three is nearer to a bound than its error.
    generator = np.random.default_rng(5)
    truth = generator.uniform(-1.0, 1.0, (4000, 6))
    fisher = torch.diag(torch.full((6,), 1.0 / 0.4**2, dtype=torch.float64)).expand(4000, 6, 6)
    found = _inside(fisher.contiguous(), torch.as_tensor(truth + generator.normal(0.0, 0.4, truth.shape)))
    for use in (found.values.abs() <= 1.0, found.alone.values.abs() < 1.0, found.alone.values.abs() == 1.0):
        pull = ((found.values - torch.as_tensor(truth)) / found.errors)[:, :-2][use[:, :-2]]
        assert 0.96 < pull.std() < 1.04
        assert abs(pull.mean()) < 0.05
    # What the data alone say, with those beyond a bound left out, is nearer to the truth than it claims.
    inside = found.alone.values.abs()[:, :-2] < 1.0
    off = ((found.alone.values - torch.as_tensor(truth)) / found.alone.errors)[:, :-2][inside]
    assert off.std() < 0.9


def test_a_label_that_follows_an_unknown_one_is_nearer_to_the_truth_than_the_minimum() -> None:
    # As carbon and oxygen in a cool star: lines of the first tell of a sum of both.
    generator = np.random.default_rng(7)
    design = np.zeros((4, 5))
    design[0, :2] = [12.0, 4.0]
    design[1, :3] = [1.2, -0.8, 0.5]
    design[2, 2], design[3, 3] = 20.0, 40.0
    fisher = torch.as_tensor(design.T @ design + np.diag([0.0, 0.0, 0.0, 0.0, 1e4]))
    truth = np.zeros((4000, 5))
    truth[:, :3] = generator.uniform([-0.4, -1, -1], [0.4, 1, 1], (4000, 3))
    seen = truth @ design.T + generator.normal(size=(4000, 4))
    slope = torch.as_tensor(seen @ design)
    mean = torch.linalg.solve(fisher, slope.T).T
    found = _inside(fisher.expand(4000, 5, 5).contiguous(), mean)
    off = (found.values.numpy() - truth)[:, 0]
    pull = off / found.errors.numpy()[:, 0]
    assert 0.95 < pull.std() < 1.05
    assert abs(pull.mean()) < 0.05
    ones = torch.ones_like(mean)
    minimum, _ = bounded_step(-slope, fisher.expand(4000, 5, 5).contiguous(), -ones, ones)
    minimum_off = (minimum.numpy() - truth)[:, 0]
    assert np.sqrt(np.mean(off**2)) < 0.9 * np.sqrt(np.mean(minimum_off**2))


def test_contrast_does_not_depend_on_where_the_fit_ended(model: LineModel, fitter: Fitter) -> None:
    column = NAMES.index("ca_fe")
    labels = np.tile(RANGE.mean(axis=1), (5, 1))
    labels[:, column] = np.linspace(-0.45, 0.55, 5)
    # Errors as they would be with the same noise: inversely proportional to how fast the spectrum changes.
    step = np.zeros(len(NAMES))
    step[column] = 0.02
    change = model.predict(labels + step).astype(float) - model.predict(labels - step)
    errors = np.ones_like(labels)
    errors[:, column] = 0.04 * 0.3 / np.linalg.norm(change, axis=1)
    assert errors[:, column].max() / errors[:, column].min() > 1.6
    curves = Sensitivity.of(fitter.forward, make_templates(model, fitter.forward))
    contrast = curves.contrast(labels, errors, np.broadcast_to(np.ptp(RANGE, axis=1), labels.shape))
    assert contrast[:, column].max() / contrast[:, column].min() < 1.15
    ends = np.tile(RANGE.mean(axis=1), (2, 1))
    ends[:, column] = RANGE[column]
    length = np.abs(np.diff(model.predict(np.linspace(*ends, 200)).astype(float), axis=0))
    expected = np.sqrt(np.square(length).sum(axis=1)).sum() / 0.3
    np.testing.assert_allclose(contrast[:, column], expected, rtol=0.15)


def test_what_passes_for_measured_is_not_too_high(model: LineModel, fitter: Fitter) -> None:
    # The few lines of europium at low S/N: noise that deepens them makes them look better measured.
    faint = simulate(model, 1000, snr=8.0, seed=14)
    result = fitter.fit(faint.wavelength, faint.flux, faint.ivar)
    column = NAMES.index("eu_fe")
    flags, alone = result.label_flags[:, column], result.bounds[:, column]
    pull = ((result.labels - faint.labels) / result.errors)[:, column]
    precise = ((flags & ~LabelFlag.UNCONSTRAINED) == 0) & (alone < np.ptp(RANGE[column]) / 5.0)
    assert np.mean(pull[precise]) > 0.25
    assert np.sum(flags == 0) > np.sum(precise)
    assert np.mean(pull[flags == 0]) < 0.2


def test_iron_does_not_make_up_for_labels_that_are_hardly_constrained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load_model("default")
    generator = np.random.default_rng(8)
    templates, (low, high) = template_labels(model), model.label_range.T
    labels = templates[generator.integers(len(templates), size=600)]
    abundances = [name.endswith("_fe") for name in model.label_names]
    labels = np.where(abundances, generator.uniform(low, high, labels.shape), labels)
    clean = model.predict(labels)
    noise = 1.0 / 30.0
    flux = clean + generator.normal(0.0, noise, clean.shape)
    ivar = np.full(clean.shape, noise**-2)
    exact = Fitter(model, FitOptions(correct_model=False, fit_error_floor=False))
    iron, calcium = (list(model.label_names).index(name) for name in ("fe_h", "ca_fe"))

    result = exact.fit(model.wavelength, flux, ivar)

    def straight(solver: Solver, solution: Solution) -> Estimate:
        """As if spectra changed evenly all the way to the means."""
        fixed = torch.zeros(len(model.label_names) + 2, dtype=torch.bool)
        theory = LinearTheory.of(solution.curvature, solution.noise, solution.box, fixed)
        return theory.estimate(solution.point.parameters, solution.point.gradient)

    monkeypatch.setattr(Solver, "estimate", straight)
    other = exact.fit(model.wavelength, flux, ivar)
    # The same stars, or those that only one of the two flags would be compared with nothing.
    good = (result.flags == 0) & (other.flags == 0)
    assert good.sum() > 500
    off, off_straight = ((fits.labels - labels)[good] for fits in (result, other))
    pull, pull_straight = off / result.errors[good], off_straight / other.errors[good]
    assert abs(pull[:, iron].mean()) < 0.12
    assert pull_straight[:, iron].mean() - pull[:, iron].mean() > 0.06
    assert pull[:, calcium].mean() - pull_straight[:, calcium].mean() > 0.06
    for column in (iron, calcium):
        assert off[:, column].std() < 0.99 * off_straight[:, column].std()


@pytest.mark.parametrize("c_fe", [-0.4, 0.0, 0.4])
def test_the_contrast_of_oxygen_knows_how_much_carbon_there_is_to_bind(c_fe: float) -> None:
    model = load_model("default")
    forward = ForwardModel(model)
    curves = Sensitivity.of(forward, make_templates(model, forward))
    giant = {"teff": 4640.0, "logg": 2.25, "v_micro": 1.5, "fe_h": -0.25, "c_fe": c_fe}
    labels = np.array([[giant.get(name, 0.0) for name in model.label_names]]).repeat(5, axis=0)
    column = model.label_names.index("o_fe")
    labels[:, column] = np.linspace(-0.25, 0.5, 5)
    step = np.zeros(labels.shape[1])
    step[column] = 0.02
    change = model.predict(labels + step).astype(float) - model.predict(labels - step)
    errors = np.ones_like(labels)
    errors[:, column] = 1.0 / np.linalg.norm(change, axis=1)
    contrast = curves.contrast(labels, errors, np.ones_like(labels))[:, column]
    # Errors of the same noise differ with where a fit ends; at least two thirds of that are taken out.
    spread = errors[:, column].max() / errors[:, column].min() - 1.0
    assert spread > 0.4
    assert contrast.max() / contrast.min() - 1.0 < spread / 3.0
