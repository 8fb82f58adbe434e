"""The model that a training run begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.distilling import Draws, distil, draw
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.interpolant import GridInterpolant
from phdl_catalog.emulator.losses import label_scale
from phdl_catalog.emulator.model import TransformerModel
from phdl_catalog.emulator.network import SpectrumTransformer
from phdl_catalog.emulator.principal import project, spectrum_basis
from phdl_catalog.emulator.sampling import LabelSampler
from phdl_catalog.emulator.transforms import LabelTransform
from phdl_catalog.errors import ModelError

#: Draws from which the scale of the encoder's output is found.
_SCALE_DRAWS = 2_000


def new_model(grid: AbInitioGrid, config: TrainingConfig) -> TransformerModel:
    """A model whose direct path is linear regression on the training split."""
    labels = grid.labels[~grid.is_validation]
    transform = LabelTransform.fitted(grid.label_names, labels)
    basis = spectrum_basis(grid, config.network.components)
    shape = replace(config.network, components=len(basis) - 1)
    network = SpectrumTransformer(transform.n_inputs, grid.pixels.size, transform.abundance_columns, shape)
    network.basis.copy_(basis)
    inputs = transform(torch.as_tensor(labels)).float()
    coefficients = project(torch.as_tensor(grid.flux[~grid.is_validation]), basis)
    network.direct.start_from_linear(inputs, coefficients)
    network.scale_encoder(inputs, coefficients)
    return TransformerModel(transform, network)


def continued_model(start: TransformerModel, grid: AbInitioGrid, config: TrainingConfig) -> TransformerModel:
    """An earlier model in the basis of `grid`; its label transform is kept.

    Raises
    ------
    ModelError
        If `start` has other labels, pixels or layers.
    """
    ours = (len(grid.label_names), grid.pixels.size)
    theirs = (start.transform.n_labels, start.network.n_pixels)
    if ours != theirs:
        raise ModelError(f"the model to start from has (labels, pixels) {theirs}, the grid {ours}")
    basis = spectrum_basis(grid, config.network.components)
    before = start.network
    shape = replace(config.network, components=len(basis) - 1)
    if replace(before.config, components=shape.components) != shape:
        raise ModelError(
            f"the model to start from has the network {before.config}, the configuration asks for {shape}: "
            "give it the same"
        )
    transform = start.transform
    network = SpectrumTransformer(transform.n_inputs, grid.pixels.size, transform.abundance_columns, shape)
    kept = {
        key: value
        for key, value in before.state_dict().items()
        if key != "basis" and not key.startswith("direct.")
    }
    network.load_state_dict(kept, strict=False)
    network.basis.copy_(basis)
    turn = before.basis[1:] @ basis[1:].T
    network.direct.start_from(before.direct, turn, project(before.basis[:1], basis)[0])
    return TransformerModel(transform, network)


def teach_direct_path(
    model: TransformerModel,
    interpolant: GridInterpolant,
    grid: AbInitioGrid,
    config: TrainingConfig,
    continued: bool,
    device: torch.device,
    watch: Callable[[str, int, int], None] | None = None,
) -> None:
    """Distil an interpolant of the grid into the direct path; the encoder is left with what remains.

    The direct path of an earlier model learns what its encoder does not add already.

    Parameters
    ----------
    model : TransformerModel
        Changed in place.
    interpolant : GridInterpolant
    grid : AbInitioGrid
    config : TrainingConfig
    continued : bool
        Whether the direct path knows something already; it begins with linear regression otherwise.
    device : torch.device
        Where the direct path learns; the interpolant, in double precision, is on the processor.
    watch : callable, optional
        Called with what is being done, and how much of it is done.
    """
    chosen = config.direct if config.gradient_weight else replace(config.direct, gradient_weight=0.0)

    def asking(done: int, total: int) -> None:
        if watch is not None:
            watch("asking the interpolant", done, total)

    def learning(done: int, total: int) -> None:
        if watch is not None:
            watch("teaching the direct path", done, total)

    network = model.network

    def missing(inputs: Tensor) -> Tensor:
        known = interpolant.of_inputs(inputs)
        return known - network.added(inputs.float()) if continued else known

    draws = draw(
        missing, LabelSampler.from_grid(grid), model.transform, label_scale(grid.label_names), chosen, asking
    )
    if not continued:
        network.direct.start_from_linear(draws.inputs, draws.coefficients)
    distil(network.direct.to(device), draws, network.n_pixels, chosen, learning)
    network.direct.cpu()
    if not continued:
        network.scale_encoder(draws.inputs[:_SCALE_DRAWS], draws.coefficients[:_SCALE_DRAWS])


def teach_direct_path_the_grid(
    model: TransformerModel,
    known: Draws,
    config: TrainingConfig,
    device: torch.device,
    watch: Callable[[str, int, int], None] | None = None,
) -> None:
    """Teach the direct path a grid's own spectra and differential spectra; it is a linear map before.

    A step of it costs a fifth of one of the encoder, which then begins near the end.

    Parameters
    ----------
    model : TransformerModel
        Changed in place.
    known : Draws
    config : TrainingConfig
    device : torch.device
    watch : callable, optional
        Called with what is being done, and how much of it is done.
    """

    def learning(done: int, total: int) -> None:
        if watch is not None:
            watch("teaching the direct path", done, total)

    network = model.network
    distil(network.direct.to(device), known, network.n_pixels, config.direct, learning)
    network.direct.cpu()
    network.scale_encoder(known.inputs, known.coefficients)
