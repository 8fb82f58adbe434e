"""What loops on the processor do is what operations of torch do, which other devices use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from line_model import LineModel
from line_survey import simulate

from phdl_catalog.fitting import FitOptions, FitResult, Fitter
from phdl_catalog.fitting.matrix_loops import gram
from phdl_catalog.fitting.noise import FloorBands
from phdl_catalog.fitting.step import bounded_step, secant_update
from phdl_catalog.spectra import loops
from phdl_catalog.spectra.continuum import ContinuumBasis
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.splines import SplineTable

Both = Callable[[Callable[[], object]], tuple[object, object]]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Both:
    """Call something twice: by loops, and without any."""

    def call(function: Callable[[], object]) -> tuple[object, object]:
        one = function()
        with monkeypatch.context() as patch:
            patch.setattr(loops, "wanted", lambda device: False)
            return one, function()

    return call


def test_a_fit_is_the_same(model: LineModel, both: Both) -> None:
    sample = simulate(model, 24, snr=60.0, seed=11, largest_rv=200.0)
    sample.ivar[3, 900:1500] = 0.0
    sample.flux[5, 2000] *= 40.0

    def fit() -> FitResult:
        return Fitter(model, FitOptions()).fit(sample.wavelength, sample.flux, sample.ivar)

    by_loops, by_torch = both(fit)
    assert isinstance(by_loops, FitResult)
    assert isinstance(by_torch, FitResult)
    assert np.abs((by_loops.labels - by_torch.labels) / by_torch.errors).max() < 0.03
    assert np.abs((by_loops.rv - by_torch.rv) / by_torch.e_rv).max() < 0.03
    np.testing.assert_allclose(by_loops.errors, by_torch.errors, rtol=0.01)
    np.testing.assert_allclose(by_loops.chi2, by_torch.chi2, rtol=1e-3)
    np.testing.assert_array_equal(by_loops.flags, by_torch.flags)


def test_splines_know_their_pixels() -> None:
    design = ContinuumBasis.on(PixelGrid(35748, 3785)).design
    table = SplineTable.of(design.numpy())
    generator = torch.Generator().manual_seed(1)
    coefficients = torch.randn(3, len(design), generator=generator, dtype=torch.float64)
    values = torch.randn(3, design.shape[1], generator=generator)
    torch.testing.assert_close(table.curves(coefficients), coefficients.float() @ design)
    torch.testing.assert_close(table.sums(values), values.double() @ design.double().T, rtol=1e-4, atol=1e-4)


def test_a_continuum_is_the_same(both: Both) -> None:
    basis = ContinuumBasis.on(PixelGrid(35748, 3785))
    generator = torch.Generator().manual_seed(2)
    shape = 1.0 - 0.3 * torch.rand(4, 3785, generator=generator)
    target = shape * torch.linspace(0.5, 2.0, 3785) + 0.05 * torch.randn(4, 3785, generator=generator)
    weight = torch.rand(4, 3785, generator=generator)
    weight[1] = 0.0
    weight[2, 500:1500] = 0.0
    one, other = both(lambda: basis.curve(basis.solve(target, shape, weight)))
    assert isinstance(one, torch.Tensor)
    assert isinstance(other, torch.Tensor)
    torch.testing.assert_close(one[weight > 0], other[weight > 0], rtol=1e-4, atol=1e-5)
    assert torch.all(one[1] == 0)


@pytest.mark.parametrize(("size", "pixels"), [(1, 5), (5, 946), (34, 3785)])
def test_products_of_rows_are_right_to_single_precision(size: int, pixels: int) -> None:
    rows = torch.randn(3, size, pixels, generator=torch.Generator().manual_seed(size))
    exact = torch.bmm(rows.double(), rows.double().mT)
    scale = exact.diagonal(dim1=1, dim2=2).sqrt()
    assert ((gram(rows) - exact) / scale[:, :, None] / scale[:, None]).abs().max() < 3e-7


def test_steps_and_updates_are_the_same(both: Both) -> None:
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(50, 12, 9, generator=generator, dtype=torch.float64)
    curvature = root.mT @ root
    gradient, change = torch.randn(2, 50, 9, generator=generator, dtype=torch.float64) * 3.0
    low, high = (
        -torch.rand(50, 9, generator=generator).double(),
        torch.rand(50, 9, generator=generator).double(),
    )
    (step, length), (other, other_length) = both(lambda: bounded_step(gradient, curvature, low, high))
    torch.testing.assert_close(step, other)
    torch.testing.assert_close(length, other_length)
    one, other = both(lambda: secant_update(curvature, step, change))
    torch.testing.assert_close(one, other)


def test_error_floors_are_the_same(both: Both) -> None:
    bands = FloorBands.on(PixelGrid(35748, 3785))
    generator = torch.Generator().manual_seed(5)
    curve2 = torch.rand(6, 3785, generator=generator) + 0.5
    variance = 1e-4 * torch.rand(6, 3785, generator=generator) + 1e-4
    wrong = torch.linspace(0.0, 0.05, 6)[:, None].square() * curve2
    residual2 = (variance + wrong) * torch.randn(6, 3785, generator=generator).square()
    use = (torch.rand(6, 3785, generator=generator) > 0.1).float()
    use[2, :900] = 0.0
    residual2[4, 2000] = torch.inf
    one, other = both(lambda: bands.fit(residual2, variance, curve2, use, 4.0))
    assert isinstance(one, torch.Tensor)
    assert isinstance(other, torch.Tensor)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=0.0)
    assert torch.all(one[0] == 0)
    assert torch.all(one[5] > 0)


def test_a_direction_without_curvature_is_left_alone(both: Both) -> None:
    curvature = torch.diag(torch.tensor([4.0, 0.0, 1.0], dtype=torch.float64))[None]
    gradient = torch.tensor([[2.0, 0.0, -0.5]], dtype=torch.float64)
    far = torch.full_like(gradient, 9.0)
    step, _ = bounded_step(gradient, curvature, -far, far)
    torch.testing.assert_close(step, torch.tensor([[-0.5, 0.0, 0.5]], dtype=torch.float64))
    # Rounding may leave less than nothing of it, and of what it has in common with others.
    curvature[0, 1] = torch.tensor([1e-7, -1e-6, 2e-7])
    curvature[0, :, 1] = curvature[0, 1]
    gradient[0, 1] = 3.0
    one, other = both(lambda: bounded_step(gradient, curvature, -far, far)[0])
    for step in (one, other):
        torch.testing.assert_close(step, torch.tensor([[-0.5, 0.0, 0.5]], dtype=torch.float64))


def test_threads_share_the_stars() -> None:
    basis = ContinuumBasis.on(PixelGrid(35748, 3785))
    values = torch.randn(7, 3785, generator=torch.Generator().manual_seed(4))
    before, sums = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            sums.append(basis.pull(values))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(sums[0], sums[1])
    assert torch.equal(sums[0], sums[2])


def test_a_fit_in_threads_is_the_same(model: LineModel) -> None:
    sample = simulate(model, 9, snr=60.0, seed=12, largest_rv=200.0)
    fitter, before, fits = Fitter(model), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            fits.append(fitter.fit(sample.wavelength, sample.flux, sample.ivar, keep_pixels=True))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, three = fits
    assert np.abs((one.labels - three.labels) / one.errors).max() < 0.03
    np.testing.assert_array_equal(one.flags, three.flags)
    assert one.pixels is not None
    assert three.pixels is not None
    np.testing.assert_allclose(one.pixels.model, three.pixels.model, atol=1e-3, equal_nan=True)


def test_loops_work_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    monkeypatch.setattr(loops, "_folder", lambda: str(occupied))

    def double(x: float) -> float:
        return 2.0 * x

    assert loops.compiled(double)(1.5) == 3.0
