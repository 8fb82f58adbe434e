from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from phdl_catalog.emulator.batches import TrainingBatches
from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.distilling import DistilConfig
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.interpolant import InterpolantConfig
from phdl_catalog.emulator.losses import gradient_term, label_scale, label_sizes
from phdl_catalog.emulator.principal import spectrum_basis
from phdl_catalog.emulator.transforms import LabelTransform

QUICK = InterpolantConfig(groups=(), iterations=5)


def batches(grid: AbInitioGrid, **changes: object) -> TrainingBatches:
    transform = LabelTransform.fitted(grid.label_names, grid.labels[~grid.is_validation])
    options: dict[str, object] = {"interpolant": None, **changes}
    return TrainingBatches(grid, transform, spectrum_basis(grid, 30), TrainingConfig(**options))


def test_derivatives_come_at_every_nth_step(small_grid: AbInitioGrid) -> None:
    some = batches(small_grid, gradient_every=3, gradient_batch=5)
    found = [some.derivatives(step) for step in range(7)]
    assert [known is not None for known in found] == [True, False, False, True, False, False, True]
    assert found[0] is not None
    assert len(found[0].inputs) == 5
    assert batches(small_grid, gradient_weight=0.0).derivatives(0) is None


@pytest.mark.parametrize("interpolant", [QUICK, None])
def test_ab_initio_derivatives_are_those_of_the_training_stars(
    small_grid: AbInitioGrid, interpolant: InterpolantConfig | None
) -> None:
    """Each is one of the grid's differential spectra, where the interpolant's come first."""
    some = batches(
        small_grid,
        interpolant=interpolant,
        interpolated_gradients=3,
        gradient_batch=8,
        gradient_every=1,
        gradient_relative_to="label",
    )
    gradients = small_grid.gradients
    assert gradients is not None
    basis = spectrum_basis(small_grid, 30)
    truth = torch.as_tensor(gradients.gradient[~gradients.is_validation]) @ basis[1:].T
    known = truth * label_scale(small_grid.label_names).float()[:, None]  # (G, L, K)
    mean_square = known.square().sum(dim=2).mean(dim=0)  # (L,)
    derivatives = some.derivatives(0)
    assert derivatives is not None
    assert derivatives.size is not None
    own = derivatives.change[3:] if interpolant else derivatives.change
    assert len(own) == 8
    for change, size in zip(own, derivatives.size[-8:], strict=True):
        distance = (known - change).square().sum(dim=2)
        assert distance.min() < 1e-10
        label = int(distance.argmin()) % len(mean_square)
        torch.testing.assert_close(size, mean_square[label])


def test_the_direct_path_is_shown_all_spectra_and_all_derivatives_of_the_training_split(
    small_grid: AbInitioGrid,
) -> None:
    draws = batches(small_grid).draws()
    assert len(draws.inputs) == int((~small_grid.is_validation).sum())
    assert len(draws.at) == 3 * len(small_grid.label_names)
    assert draws.size is not None
    for none in (
        batches(small_grid, gradient_weight=0.0),
        batches(replace(small_grid, gradients=None)),
        batches(small_grid, direct=DistilConfig(gradient_weight=0.0)),
    ):
        assert len(none.draws().at) == 0


def test_a_star_where_a_label_does_nothing_counts_no_more_than_others() -> None:
    """Nitrogen in a hot star: an error is enormous beside the derivative there, not beside the label's."""
    strong = torch.full((1, 4), 0.5)
    target = torch.cat([strong, 0.0 * strong, 2.0 * strong])
    label = torch.tensor([0, 0, 1])
    sizes = label_sizes(target, label)
    torch.testing.assert_close(sizes, torch.tensor([0.5, 0.5, 4.0]))
    predicted = target + torch.tensor([[0.0], [0.05], [0.0]])
    own = gradient_term(predicted, target, 10)
    relative = gradient_term(predicted, target, 10, sizes)
    assert own > 100.0 * relative
    torch.testing.assert_close(float(relative), 4 * 0.05**2 / 0.5 / 3, rtol=1e-3, atol=0.0)


def test_without_an_interpolant_other_defaults_hold_but_not_against_what_is_given() -> None:
    plain = TrainingConfig.model_validate({"interpolant": None, "learning_rate": 0.02})
    assert plain.learning_rate == 0.02
    assert plain.gradient_every > 1
    assert plain.gradient_relative_to == plain.direct.gradient_relative_to == "label"
    assert TrainingConfig.model_validate(plain.as_dict()) == plain
    packaged = TrainingConfig()
    assert (packaged.gradient_every, packaged.gradient_relative_to) == (1, "label")
    assert packaged.steps < plain.steps
    assert packaged.direct == DistilConfig()


def test_batches_of_one_step_are_always_the_same(small_grid: AbInitioGrid) -> None:
    first, again = (batches(small_grid, gradient_every=1).derivatives(4) for _ in range(2))
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.inputs, again.inputs)
    np.testing.assert_array_equal(first.change, again.change)
