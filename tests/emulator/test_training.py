from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from phdl_catalog.emulator.building import build_model, measure_expected_error_again
from phdl_catalog.emulator.compiled import CompileConfig
from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.distilling import DistilConfig
from phdl_catalog.emulator.evaluation import evaluate
from phdl_catalog.emulator.figures import plot_residuals, plot_training
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.interpolant import GridInterpolant, InterpolantConfig
from phdl_catalog.emulator.losses import derivative, gradient_term
from phdl_catalog.emulator.model import Emulator
from phdl_catalog.emulator.network import NetworkConfig
from phdl_catalog.emulator.principal import spectrum_basis
from phdl_catalog.emulator.training import Training, TrainingProgress
from phdl_catalog.emulator.transforms import LabelTransform
from phdl_catalog.errors import InputError, ModelError

TINY = NetworkConfig(patch=32, width=16, depth=1, heads=2, label_features=16, components=30, direct_hidden=16)
QUICK = DistilConfig(spectra=400, derivatives=100, steps=60, batch=50, derivative_batch=20)


def config(**changes: object) -> TrainingConfig:
    options: dict[str, object] = {
        "network": TINY,
        "interpolant": InterpolantConfig(groups=(), iterations=30),
        "direct": QUICK,
        "interpolated_batch": 16,
        "steps": 60,
        "validate_every": 20,
        "warmup_steps": 10,
        "learning_rate": 3e-3,
        "averaging": 0.9,
    }
    return TrainingConfig(**{**options, **changes})


def weights(training: Training) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in training.average.state_dict().values()])


def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    small_grid: AbInitioGrid, tmp_path: Path
) -> None:
    whole = Training(small_grid, config(), tmp_path / "whole")
    whole.run()

    class Killed(Exception):
        pass

    def kill(progress: TrainingProgress) -> None:
        if progress.step == 40:
            raise Killed

    first = Training(small_grid, config(), tmp_path / "halves")
    with pytest.raises(Killed):
        first.run(kill)
    second = Training(small_grid, config(), tmp_path / "halves")
    second.run()
    assert torch.equal(weights(whole), weights(second))
    lines = [json.loads(line) for line in (tmp_path / "halves/training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]


def test_a_checkpoint_of_another_configuration_is_not_continued(
    small_grid: AbInitioGrid, tmp_path: Path
) -> None:
    Training(small_grid, config(steps=20), tmp_path).run()
    with pytest.raises(ModelError, match="another configuration or grid"):
        Training(small_grid, config(steps=40), tmp_path).run()


def test_a_warm_start_begins_where_the_earlier_model_ended(small_grid: AbInitioGrid, tmp_path: Path) -> None:
    earlier = Training(small_grid, config(), tmp_path / "earlier")
    reached = earlier.run().rms
    still = config(steps=1, learning_rate=1e-6, interpolant=None)
    cold, warm = (
        Training(small_grid, still, tmp_path / name, start=start)
        for name, start in (("cold", None), ("warm", earlier.average))
    )
    cold.run()
    assert warm.run().rms == pytest.approx(reached, rel=0.01)
    before, *after = (
        training.average(torch.as_tensor(small_grid.labels)) for training in (earlier, cold, warm)
    )
    moved = [float((flux - before).square().mean().sqrt()) for flux in after]
    assert moved[1] < 0.1 * moved[0]
    other = NetworkConfig(**{**TINY.as_dict(), "width": 32})
    with pytest.raises(ModelError, match="give it the same"):
        Training(small_grid, config(network=other), tmp_path / "other", start=earlier.average)


def test_a_warm_start_carries_an_earlier_model_to_the_basis_of_another_grid(
    small_grid: AbInitioGrid, tmp_path: Path
) -> None:
    """The first half of the stars, then all: spectra are those of the earlier model until training begins."""
    half = small_grid.select((small_grid.star % 2 == 0) | small_grid.is_validation)
    earlier = Training(half, config(), tmp_path / "half")
    earlier.run()
    whole = Training(small_grid, config(), tmp_path / "whole", start=earlier.average)
    labels = torch.as_tensor(small_grid.labels)
    with torch.no_grad():
        difference = whole.model(labels) - earlier.average(labels)
    assert not torch.equal(whole.model.network.basis, earlier.average.network.basis)
    assert float(difference.square().mean().sqrt()) < 2e-4
    assert whole.run().rms < 1.1 * evaluate(earlier.average.forward, small_grid).rms


def test_figures_of_a_run_are_written(small_grid: AbInitioGrid, tmp_path: Path) -> None:
    training = Training(small_grid, config(steps=40), tmp_path)
    training.run()
    plot_training(tmp_path / "training.jsonl", tmp_path / "loss.png")
    plot_residuals(training.average, small_grid, tmp_path / "residuals.png")
    for name in ("loss.png", "residuals.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def linear_floor(grid: AbInitioGrid, transform: LabelTransform) -> float:
    """Validation rms of linear regression on the transformed labels."""
    rows = grid.is_validation
    design = np.column_stack([transform(torch.as_tensor(grid.labels)).numpy(), np.ones(len(grid))])
    slope, *_ = np.linalg.lstsq(design[~rows], grid.flux[~rows], rcond=1e-6)
    return float(np.sqrt(np.mean((design[rows] @ slope - grid.flux[rows]) ** 2)))


@pytest.mark.parametrize("interpolant", [InterpolantConfig(groups=(), iterations=30), None])
def test_training_improves_on_linear_regression(
    small_grid: AbInitioGrid, tmp_path: Path, interpolant: InterpolantConfig | None
) -> None:
    changes = config(steps=120, validate_every=60, interpolant=interpolant)
    training = Training(small_grid, changes, tmp_path)
    floor = linear_floor(small_grid, training.model.transform)
    assert training.run().rms < 0.8 * floor


def test_the_basis_is_orthonormal_and_spans_the_training_spectra(small_grid: AbInitioGrid) -> None:
    basis = spectrum_basis(small_grid, 30).double()
    identity = torch.eye(len(basis) - 1, dtype=basis.dtype)
    torch.testing.assert_close(basis[1:] @ basis[1:].T, identity, atol=1e-5, rtol=0)
    flux = torch.as_tensor(small_grid.flux[~small_grid.is_validation]).double() - basis[0]
    left = flux - flux @ basis[1:].T @ basis[1:]
    assert left.square().mean().sqrt() < 0.01 * flux.square().mean().sqrt()


def interpolated(grid: AbInitioGrid) -> tuple[GridInterpolant, torch.Tensor]:
    """The interpolant of a grid, and the basis of its coefficients."""
    transform = LabelTransform.fitted(grid.label_names, grid.labels[~grid.is_validation])
    basis = spectrum_basis(grid, 30)
    return GridInterpolant.fit(grid, transform, basis, InterpolantConfig(groups=())), basis


def test_the_interpolant_predicts_stars_it_never_saw(small_grid: AbInitioGrid) -> None:
    rows = small_grid.is_validation
    interpolant, basis = interpolated(small_grid)
    coefficients = interpolant.coefficients(torch.as_tensor(small_grid.labels[rows])).float()
    error = (basis[0] + coefficients @ basis[1:]).numpy() - small_grid.flux[rows]
    assert np.sqrt(np.mean(error**2)) < 0.1 * small_grid.flux[rows].std()


def test_an_interpolant_of_too_large_a_grid_takes_a_part_of_it(small_grid: AbInitioGrid) -> None:
    transform = LabelTransform.fitted(small_grid.label_names, small_grid.labels[~small_grid.is_validation])
    basis = spectrum_basis(small_grid, 30)
    some = InterpolantConfig(groups=(), iterations=2, largest=50)
    interpolant = GridInterpolant.fit(small_grid, transform, basis, some)
    assert len(interpolant.inputs) == 50


def test_the_derivative_along_a_label_is_that_of_finite_differences(small_grid: AbInitioGrid) -> None:
    interpolant, _ = interpolated(small_grid)
    labels = torch.tensor([[5500.0, 4.0, -0.3, 0.1]], dtype=torch.float64)
    direction = torch.tensor([[100.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    _, exact = derivative(interpolant.coefficients, labels, direction)
    difference = (
        interpolant.coefficients(labels + 0.1 * direction)
        - interpolant.coefficients(labels - 0.1 * direction)
    ) / 0.2
    torch.testing.assert_close(exact, difference, atol=2e-3, rtol=0.02)


def test_the_gradient_term_counts_weak_and_strong_labels_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = torch.randn((1, 500), generator=generator)
    wrong = torch.randn((1, 500), generator=generator)
    weak = gradient_term(0.02 * (shape + 0.1 * wrong), 0.02 * shape, 500)
    strong = gradient_term(0.2 * (shape + 0.1 * wrong), 0.2 * shape, 500)
    torch.testing.assert_close(weak, strong, rtol=0.02, atol=0.0)


def test_a_perfect_model_has_no_error_and_correlation_one(small_grid: AbInitioGrid) -> None:
    """A function that knows the truth scores perfectly: the evaluation itself adds nothing."""
    rows = small_grid.is_validation
    table = {tuple(labels): flux for labels, flux in zip(small_grid.labels, small_grid.flux, strict=True)}

    def truth(labels: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(np.stack([table[tuple(row)] for row in labels.tolist()]))

    without = AbInitioGrid(**{**small_grid.__dict__, "gradients": None})
    result = evaluate(truth, without)
    assert (result.n, result.rms, result.p99) == (int(rows.sum()), 0.0, 0.0)
    assert result.gradients == {}


def test_evaluation_counts_an_error_of_known_size(small_grid: AbInitioGrid) -> None:
    table = {tuple(labels): flux for labels, flux in zip(small_grid.labels, small_grid.flux, strict=True)}

    def shifted(labels: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(np.stack([table[tuple(row)] for row in labels.tolist()])) + 0.01

    without = AbInitioGrid(**{**small_grid.__dict__, "gradients": None})
    result = evaluate(shifted, without, whole=True)
    assert result.n == len(small_grid)
    np.testing.assert_allclose([result.rms, result.mae, result.p99, result.rms_core], 0.01, rtol=1e-4)


def test_the_same_seed_gives_the_same_file(small_grid: AbInitioGrid, tmp_path: Path) -> None:
    compiling = CompileConfig(distil=QUICK, hidden=16)
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        training = Training(small_grid, config(steps=20), folder)
        training.run()
        build_model(
            folder / "m.safetensors", "m", training.average, small_grid, config(steps=20), 20, compiling
        )
        contents.append((folder / "m.safetensors").read_bytes())
    assert contents[0] == contents[1]
    model = Emulator.from_file(tmp_path / "a/m.safetensors")
    assert model.metadata["metrics"]["n"] == int(small_grid.is_validation.sum())
    again = tmp_path / "again.safetensors"
    measure_expected_error_again(tmp_path / "a/m.safetensors", again, small_grid)
    assert again.read_bytes() == contents[0]


def test_an_unknown_training_option_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"learning_rat": 0.1}')
    with pytest.raises(InputError, match="learning_rat"):
        TrainingConfig.from_file(path)
