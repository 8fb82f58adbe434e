"""Steps along orthogonalised gradients."""

from __future__ import annotations

import pytest
import torch

from phdl_catalog.emulator.orthogonal import OrthogonalSteps, orthogonalised


@pytest.mark.parametrize("shape", [(40, 40), (20, 60), (60, 20)])
def test_all_directions_of_a_step_are_alike(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator)
    assert orthogonalised(matrix).shape == shape
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert 0.6 < float(values.min()) < float(values.max()) < 1.3
    assert torch.equal(orthogonalised(torch.zeros(shape)), torch.zeros(shape))


def test_steps_are_those_of_the_optimiser_in_torch_but_for_its_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn((30, 50), generator=generator)
    parameters = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    optimisers = (
        OrthogonalSteps(parameters[:1], lr=0.01, weight_decay=0.1),
        torch.optim.Muon(parameters[1:], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(5):
        gradient = torch.randn(start.shape, generator=generator)
        for parameter, optimiser in zip(parameters, optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    ours, theirs = (parameter.detach() for parameter in parameters)
    assert float((ours - theirs).abs().max()) < 0.03 * float((ours - start).abs().max())
