from __future__ import annotations

import pytest
import torch

from phdl_catalog.emulator.coefficients import CoefficientNetwork
from phdl_catalog.emulator.compiled import CompileConfig, compile_network, measure_compile_error
from phdl_catalog.emulator.distilling import DistilConfig, Draws, distil
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.losses import derivative, label_scale
from phdl_catalog.emulator.network import NetworkConfig, SpectrumTransformer
from phdl_catalog.emulator.principal import spectrum_basis
from phdl_catalog.emulator.sampling import LabelSampler
from phdl_catalog.emulator.transforms import LabelTransform


@pytest.fixture
def network() -> CoefficientNetwork:
    torch.manual_seed(3)
    made = CoefficientNetwork(6, [3, 4, 5], components=7, hidden=16)
    made.coefficient_scale.copy_(torch.rand(7) + 0.5)
    return made.requires_grad_(False)


def test_derivatives_by_hand_are_those_of_automatic_differentiation(network: CoefficientNetwork) -> None:
    x, change = torch.randn(5, 6), torch.randn(5, 4, 6)
    coefficients, along = network.with_derivatives(x, change)
    torch.testing.assert_close(coefficients, network(x), rtol=1e-5, atol=1e-6)
    for direction in range(4):
        _, expected = derivative(network, x, change[:, direction])
        torch.testing.assert_close(along[:, direction], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden", [16, 20])
def test_a_network_taken_over_in_another_basis_gives_the_same_spectra(
    network: CoefficientNetwork, hidden: int
) -> None:
    turn, offset = torch.randn(7, 9), torch.randn(9)
    other = CoefficientNetwork(6, [3, 4, 5], components=9, hidden=hidden)
    other.start_from(network, turn, offset)
    x = torch.randn(20, 6)
    torch.testing.assert_close(other(x), network(x) @ turn + offset, rtol=1e-4, atol=1e-4)


def test_linear_regression_is_where_a_network_starts() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(500, 6, generator=generator)
    target = x @ torch.randn(6, 7, generator=generator) + 3.0
    network = CoefficientNetwork(6, [3, 4, 5], components=7, hidden=16)
    network.start_from_linear(x, target)
    with torch.no_grad():
        assert float((network(x) - target).std()) < 0.1 * float(target.std())


def test_derivatives_among_the_draws_make_derivatives_better() -> None:
    """Of a function with a weak input, which values alone hardly teach."""

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.sin(2.0 * x[:, 0]) + x[:, 1], 0.02 * torch.sin(x[:, 2])], dim=1)

    generator = torch.Generator().manual_seed(5)
    x, at = (torch.randn(n, 3, generator=generator) for n in (300, 300))
    along = torch.nn.functional.one_hot(torch.arange(300) % 3, 3).float()
    there, change = derivative(function, at, along)
    draws = Draws(x, function(x), at, along, there, change)
    fresh = torch.randn(200, 3, generator=generator)
    weak = torch.tensor([[0.0, 0.0, 1.0]]).expand(200, 3)
    expected = derivative(function, fresh, weak)[1]
    errors = []
    for weight in (0.0, 3.0):
        torch.manual_seed(2)
        network = CoefficientNetwork(3, [2], components=2, hidden=24)
        network.start_from_linear(x, draws.coefficients)
        chosen = DistilConfig(steps=400, batch=100, derivative_batch=60, gradient_weight=weight)
        distil(network, draws, 4, chosen)
        with torch.no_grad():
            errors.append(float((derivative(network, fresh, weak)[1] - expected).square().mean().sqrt()))
    assert errors[1] < 0.6 * errors[0]


def test_a_transformer_whose_encoder_says_nothing_is_compiled_without_error(small_grid: AbInitioGrid) -> None:
    transform = LabelTransform.fitted(small_grid.label_names, small_grid.labels)
    basis = spectrum_basis(small_grid, 20)
    shape = NetworkConfig(
        patch=32,
        width=16,
        depth=1,
        heads=2,
        label_features=16,
        components=len(basis) - 1,
        direct_hidden=16,
    )
    torch.manual_seed(0)
    transformer = SpectrumTransformer(
        transform.n_inputs, small_grid.pixels.size, transform.abundance_columns, shape
    ).requires_grad_(False)
    transformer.basis.copy_(basis)
    transformer.head.weight.zero_()
    sampler = LabelSampler.from_grid(small_grid)
    quick = DistilConfig(
        spectra=100, derivatives=20, steps=1, batch=20, derivative_batch=5, learning_rate=0.0
    )
    errors = []
    for hidden in (24, 8):
        compiled = compile_network(
            transformer,
            sampler,
            transform,
            label_scale(small_grid.label_names),
            CompileConfig(None, hidden, quick),
        ).requires_grad_(False)
        errors.append(measure_compile_error(compiled, transformer, sampler))
    assert errors[0].rms < 1e-5
    assert errors[0].rms_basis < 1e-6
    assert errors[1].rms > 1e-3
