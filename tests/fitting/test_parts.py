"""The parts of the fit, each against an independent way to the same number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from line_model import RANGE, LineModel
from line_survey import simulate
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import lsq_linear

from phdl_catalog.errors import InputError
from phdl_catalog.fitting import Fitter
from phdl_catalog.fitting.avoid import avoided
from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.kernel import LARGEST_SHIFT, REACH, FilterBank
from phdl_catalog.fitting.microturbulence import MicroturbulenceRange
from phdl_catalog.fitting.noise import outlier
from phdl_catalog.fitting.prior import Prior
from phdl_catalog.fitting.step import bounded_step, secant_update
from phdl_catalog.spectra.banded import BANDWIDTH, BandedLayout
from phdl_catalog.spectra.continuum import ContinuumBasis
from phdl_catalog.spectra.grid import PixelGrid


@pytest.mark.parametrize("shift", [-LARGEST_SHIFT, -0.5, 0.25, 1.0])
@pytest.mark.parametrize("blur", [0.0, 0.7])
def test_a_filter_moves_and_blurs_a_gaussian_exactly(shift: float, blur: float) -> None:
    pixel = np.arange(200.0)
    variance = 1.05  # of a line at R = 1800

    def line(place: float, extra: float) -> np.ndarray:
        total = variance + extra
        return 1 - 0.5 * np.sqrt(variance / total) * np.exp(-0.5 * (pixel - place) ** 2 / total)

    filters = FilterBank(1800.0).filters(torch.tensor([shift]), torch.tensor([blur]))
    moved = filters.apply(torch.tensor(line(100.3, 0.0), dtype=torch.float32)[None])[0][0].numpy()
    assert np.abs(moved - line(100.3 + shift, blur)[REACH:-REACH]).max() < 2e-3


def test_a_filter_and_its_transpose_belong_together() -> None:
    generator = torch.Generator().manual_seed(1)
    spectra = torch.randn(3, 100 + 2 * REACH, generator=generator)
    values = torch.randn(3, 100, generator=generator)
    filters = FilterBank(1800.0).filters(torch.tensor([0.3, -1.0, 0.0]), torch.tensor([0.0, 0.4, 1.0]))
    there = (filters.apply(spectra)[0] * values).sum(dim=1)
    back = (spectra * filters.transpose(values)).sum(dim=1)
    torch.testing.assert_close(there, back, rtol=1e-4, atol=1e-4)
    lines = torch.as_tensor(gaussian_filter1d(spectra.numpy(), 1.05, axis=1))
    rows = filters.apply_rows(lines[:, None].expand(-1, 2, -1))
    torch.testing.assert_close(rows[:, 1], filters.apply(lines)[0], rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_the_cost(model: LineModel, fitter: Fitter) -> None:
    sample = simulate(model, 2, snr=50.0, seed=40, largest_rv=10.0)
    objective, forward = fitter.objective, fitter.forward
    start = forward.parameters(torch.as_tensor(sample.labels + 0.02 * np.ptp(RANGE, axis=1)))
    start[:, -2], start[:, -1] = 0.2, 0.1
    first = forward.grid.first - 35700
    window = slice(first, first + forward.grid.size)
    flux = torch.as_tensor(sample.flux[:, window] / 1000, dtype=torch.float32)
    ivar = torch.as_tensor(sample.ivar[:, window] * 1e6, dtype=torch.float32)
    from phdl_catalog.fitting.objective import Observation, Weights

    prior = Prior(start + 0.1, torch.linspace(0.0, 300.0, start.shape[1]).double().expand_as(start))
    observation = Observation(
        flux, 1 / ivar.clamp_min(1e-9), (ivar > 0).float(), torch.zeros_like(flux), torch.zeros(2), prior
    )
    weights = Weights(torch.zeros(2, 7), observation.variance, ivar)
    gradient = objective.evaluate(observation, start, weights).gradient
    for column in range(start.shape[1]):
        step = torch.zeros_like(start)
        step[:, column] = 2e-3
        up = objective.evaluate(observation, start + step, weights).cost
        down = objective.evaluate(observation, start - step, weights).cost
        numeric = (up - down) / 4e-3 / 2
        scale = gradient.abs().max(dim=1).values
        assert torch.all((numeric - gradient[:, column]).abs() < 2e-3 * scale + 2e-2 * numeric.abs())


def test_a_bounded_step_is_nearly_the_minimum_in_the_box() -> None:
    generator = np.random.default_rng(2)
    size = 12
    for _ in range(20):
        root = generator.normal(size=(size + 3, size)) * 10.0 ** generator.uniform(-1, 1, size)
        matrix, slope = root.T @ root, root.T @ generator.normal(size=size + 3) * 3
        low, high = -generator.uniform(0, 1, size), generator.uniform(0, 1, size)
        step, _ = bounded_step(*(torch.as_tensor(item)[None] for item in (slope, matrix, low, high)))
        target = np.linalg.solve(root @ root.T + 1e-12 * np.eye(size + 3), root @ slope)
        best = lsq_linear(root, -target, bounds=(low, high), tol=1e-12).x

        def value(x: np.ndarray, matrix: np.ndarray = matrix, slope: np.ndarray = slope) -> float:
            return float(0.5 * x @ matrix @ x + slope @ x)

        found = step[0].numpy()
        assert np.all(found >= low - 1e-12)
        assert np.all(found <= high + 1e-12)
        # Both are negative: the step gains at least 90 % of what there is.
        assert value(found) <= 0.9 * value(best)


def test_a_bounded_step_is_never_lost_among_the_faces_of_the_box() -> None:
    # Parameters that compensate each other, most of them at a bound: passes of the active-set method go in
    # circles in most of these.
    generator = np.random.default_rng(4)
    size = 30
    for _ in range(60):
        root = generator.normal(size=(size + 5, size)) * 10.0 ** generator.uniform(-1, 1, size)
        root += generator.normal(size=(size + 5, 1)) * 10.0 ** generator.uniform(-1, 1, size)
        wanted = 10.0 * generator.normal(size=size + 5)
        low, high = -generator.uniform(0, 1, size), generator.uniform(0, 1, size)
        given = (-root.T @ wanted, root.T @ root, low, high)
        step, length = bounded_step(*(torch.as_tensor(item)[None] for item in given))
        found, best = step[0].numpy(), lsq_linear(root, wanted, bounds=(low, high), tol=1e-12).x

        def gain(x: np.ndarray, root: np.ndarray = root, wanted: np.ndarray = wanted) -> float:
            return float(np.sum(wanted**2) - np.sum((root @ x - wanted) ** 2))

        assert np.all((found >= low - 1e-12) & (found <= high + 1e-12))
        assert gain(found) > 0.9 * gain(best)
        assert length.item() == pytest.approx(np.linalg.norm(root @ found), rel=1e-6)


def test_a_secant_update_makes_the_curvature_agree_with_the_step() -> None:
    generator = np.random.default_rng(3)
    root = generator.normal(size=(6, 6))
    curvature = torch.as_tensor(root @ root.T + np.eye(6))[None]
    step = torch.as_tensor(generator.normal(size=(1, 6)))
    change = torch.einsum("nij,nj->ni", curvature, step) * 1.7
    updated = secant_update(curvature, step, change)
    torch.testing.assert_close(torch.einsum("nij,nj->ni", updated, step), change)
    assert torch.linalg.eigvalsh(updated).min() > 0
    backwards = secant_update(curvature, step, -change)
    assert torch.linalg.eigvalsh(backwards).min() > 0


def test_the_factor_of_an_outlier_is_the_derivative_of_its_cost() -> None:
    deviation2 = torch.linspace(0.1, 100.0, 200, dtype=torch.float64).requires_grad_()
    cost, factor = outlier(deviation2, 4.0)
    (slope,) = torch.autograd.grad(cost.sum(), deviation2)
    torch.testing.assert_close(slope, factor.detach())


def test_a_continuum_is_found_exactly_and_bridges_a_gap() -> None:
    grid = PixelGrid(35748, 3785)
    basis = ContinuumBasis.on(grid)
    x = torch.linspace(-1, 1, grid.size)[None]
    curve = 2.0 + 0.5 * x - 0.3 * x**2
    weight = torch.ones_like(curve)
    weight[:, 1000:1400] = 0.0
    shape = 1.0 - 0.3 * torch.sin(40 * x).square()
    found = basis.curve(basis.solve(curve * shape, shape, weight))
    assert (found - curve).abs().max() < 2e-2
    assert (found - curve)[weight > 0].abs().max() < 1e-3


def test_an_improved_continuum_is_soon_the_best_one() -> None:
    """With the system of a model whose lines are 5 % deeper, on either side of a gap."""
    generator = torch.Generator().manual_seed(3)
    grid = PixelGrid(35748, 3785)
    basis = ContinuumBasis.on(grid)
    x = torch.linspace(-1, 1, grid.size)[None]
    shape = 1.0 - 0.3 * torch.sin(40 * x).square()
    target = (2.0 + 0.5 * x) * shape + 0.02 * torch.randn(2, grid.size, generator=generator)
    weight = torch.rand(2, grid.size, generator=generator) + 0.5
    weight[:, 1000:1300] = 0.0
    best, _ = basis.solve_with_system(target, shape, weight)
    deeper = 1.0 - 1.05 * (1.0 - shape)
    found, system = basis.solve_with_system(target, deeper, weight)
    used = weight > 0
    away = [float(basis.curve(found - best)[used].abs().max())]
    for _ in range(2):
        residual = target - basis.curve(found) * shape
        found = basis.improve(found, weight * shape * residual, system)
        away.append(float(basis.curve(found - best)[used].abs().max()))
    assert away[1] < 0.1 * away[0]
    assert away[2] < 0.1 * away[1]


def test_the_factors_of_the_normal_equations_are_theirs() -> None:
    grid = PixelGrid(35748, 3785)
    basis = ContinuumBasis.on(grid)
    weight = torch.rand(2, grid.size, generator=torch.Generator().manual_seed(4))
    system = basis.system(weight)
    design = basis.design.double()
    matrix = (design * weight[:, None]) @ design.T + system.level[:, None, None] * basis.stiffness
    right = torch.randn(2, basis.size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    half = system.factor.half(right)
    torch.testing.assert_close(matrix @ system.factor.rest(half, basis.size), right, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        half.mT @ half, right.mT @ torch.linalg.solve(matrix, right), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("size", [4, 9, 12, 13, 25, 92])
def test_banded_systems_of_any_size_are_solved(size: int) -> None:
    layout = BandedLayout(size)
    generator = np.random.default_rng(size)
    lower = np.tril(np.triu(generator.normal(size=(2, size, size)), -BANDWIDTH)) + 4.0 * np.eye(size)
    matrices = np.tril(np.triu(lower @ lower.swapaxes(1, 2), -BANDWIDTH), BANDWIDTH) + np.eye(size)
    rows = torch.as_tensor(np.stack([layout.flat(matrix) for matrix in matrices]) + layout.filling)
    factor = layout.factorise(rows).rows(torch.tensor([1, 0]))
    right = torch.as_tensor(generator.normal(size=(2, size, 3)))
    expected = torch.linalg.solve(torch.as_tensor(matrices[::-1].copy()), right)
    half = factor.half(right)
    torch.testing.assert_close(factor.rest(half, size), expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(half.mT @ half, right.mT @ expected, rtol=1e-8, atol=1e-8)


def test_a_continuum_without_data_is_finite() -> None:
    grid = PixelGrid(35748, 500)
    basis = ContinuumBasis.on(grid)
    zero = torch.zeros(1, grid.size)
    assert torch.isfinite(basis.solve(zero, zero, zero)).all()
    with pytest.raises(InputError, match="positive"):
        ContinuumBasis.on(grid, spacing=0.0)


def test_pixels_that_are_not_the_stars_are_left_out_if_asked() -> None:
    wavelength = np.array([5500.0, 5800.0, 5893.0, 6300.0, 6900.0, 7650.0])
    assert avoided(wavelength, True, True, True).tolist() == [False, True, True, True, True, True]
    assert avoided(wavelength, False, True, False).tolist() == [False, False, True, False, False, False]
    assert not avoided(wavelength, False, False, False).any()


def test_the_microturbulence_is_bounded_to_the_relation_of_the_grid(model: LineModel) -> None:
    class WithAtmospheres(LineModel):
        @property
        def training_atmospheres(self) -> np.ndarray:
            generator = np.random.default_rng(5)
            values = RANGE[:4, 0] + generator.random((300, 4)) * np.ptp(RANGE[:4], axis=1)
            values[:, 2] = 0.8 + (values[:, 0] - 4000) / 4000 + generator.uniform(-0.2, 0.2, 300)
            return values

    related = WithAtmospheres()
    limits = MicroturbulenceRange.of(related, torch.device("cpu"))
    assert limits is not None
    labels = torch.as_tensor(RANGE.mean(axis=1))[None]
    low, high = limits.limits(labels)
    assert float(low) == pytest.approx(0.8 + 1500 / 4000 - 0.2, abs=0.03)
    assert float(high) == pytest.approx(0.8 + 1500 / 4000 + 0.2, abs=0.03)
    lower, upper = ForwardModel(related).bounds_at(torch.zeros(1, 14, dtype=torch.float64))
    assert float(upper[0, 2] - lower[0, 2]) == pytest.approx(0.4 / 0.75, rel=0.1)
    assert MicroturbulenceRange.of(model, torch.device("cpu")) is None
