"""Teaching a small network what a slow function of the labels knows.

The slow function (an interpolant of the grid, or a trained transformer) can be asked as often as one likes: a
hundred thousand draws leave a small network nothing to overfit.  It learns values and derivatives, because a
weak label's derivative is soon lost in an error that values hardly show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from phdl_catalog.emulator.coefficients import CoefficientNetwork
from phdl_catalog.emulator.losses import (
    derivative,
    flux_term,
    gradient_term,
    label_directions,
    label_sizes,
)
from phdl_catalog.emulator.orthogonal import OrthogonalSteps
from phdl_catalog.emulator.sampling import LabelSampler
from phdl_catalog.emulator.transforms import LabelTransform

Watch = Callable[[int, int], None]

_WARMUP_STEPS = 100
_WATCH_EVERY = 50
_ROWS_AT_ONCE = 250


@dataclass(frozen=True)
class DistilConfig:
    """How a small network is taught.

    Parameters
    ----------
    spectra, derivatives : int
        Draws to learn from, and how many more come with a derivative along a random label.
    steps, batch, derivative_batch : int
        Optimiser steps, and draws of both kinds in each.
    learning_rate : float
        At the start; it falls to zero in a straight line.
    gradient_weight : float
        Of the relative squared error of derivatives beside that of flux in its unit; 0: no derivatives.
    gradient_relative_to : {"derivative", "label"}
        What errors of a derivative are relative to: its own size, or its label's mean over stars.
    seed : int
    """

    spectra: int = 80_000
    derivatives: int = 40_000
    steps: int = 5_000
    batch: int = 700
    derivative_batch: int = 300
    learning_rate: float = 1.5e-2
    gradient_weight: float = 3.0
    gradient_relative_to: Literal["derivative", "label"] = "label"
    seed: int = 0


@dataclass(frozen=True)
class Draws:
    """Inputs with their coefficients, and others with the derivative along one direction as well.

    Parameters
    ----------
    inputs, coefficients : (N, I), (N, K) Tensor
    at, along, there, change : (M, I), (M, I), (M, K), (M, K) Tensor
        Inputs, direction, coefficients and their derivative along it.
    size : (M,) Tensor, optional
        Sum of squares that errors of the derivative are relative to; its own where there is none.
    """

    inputs: Tensor
    coefficients: Tensor
    at: Tensor
    along: Tensor
    there: Tensor
    change: Tensor
    size: Tensor | None = None


@torch.no_grad()
def draw(
    function: Callable[[Tensor], Tensor],
    sampler: LabelSampler,
    transform: LabelTransform,
    scale: Tensor,
    config: DistilConfig,
    watch: Watch | None = None,
) -> Draws:
    """Ask a function at random labels.

    Parameters
    ----------
    function : callable
        Inputs (N, I), float64 -> coefficients (N, K).
    sampler : LabelSampler
    transform : LabelTransform
        Labels to inputs.
    scale : (L,) Tensor
        Unit of each label in the derivatives.
    config : DistilConfig
    watch : callable, optional
        Called with (draws done, draws).
    """
    generator = np.random.default_rng((config.seed, 7))
    number = config.derivatives if config.gradient_weight else 0
    total = config.spectra + number
    plain: list[tuple[Tensor, ...]] = []
    steep: list[tuple[Tensor, ...]] = []
    along_label: list[Tensor] = []
    for start in range(0, total, _ROWS_AT_ONCE):
        size = min(_ROWS_AT_ONCE, (config.spectra if start < config.spectra else total) - start)
        labels = torch.as_tensor(sampler.draw(_ROWS_AT_ONCE, generator)[:size])
        if start < config.spectra:
            inputs = transform(labels)
            plain.append((inputs.float(), function(inputs).float()))
        else:
            rows = torch.as_tensor(generator.integers(len(scale), size=size))
            along_label.append(rows)
            inputs, along = derivative(transform, labels, label_directions(rows, scale.double()))
            steep.append(
                tuple(part.float() for part in (inputs, along, *derivative(function, inputs, along)))
            )
        if watch is not None:
            watch(min(start + size, total), total)
    inputs, coefficients = (torch.cat(parts) for parts in zip(*plain, strict=True))
    if not steep:
        empty = inputs[:0], inputs[:0], coefficients[:0], coefficients[:0]
        return Draws(inputs, coefficients, *empty)
    at, along, there, change = (torch.cat(parts) for parts in zip(*steep, strict=True))
    by_label = config.gradient_relative_to == "label"
    size_of = label_sizes(change, torch.cat(along_label)) if by_label else None
    return Draws(inputs, coefficients, at, along, there, change, size_of)


def distil(
    network: CoefficientNetwork,
    draws: Draws,
    n_pixels: int,
    config: DistilConfig,
    watch: Watch | None = None,
) -> None:
    """Train a network on draws, from the weights that it has.

    Coefficients belong to an orthonormal basis: errors of theirs are errors of the flux of `n_pixels`.
    """
    generator = np.random.default_rng((config.seed, 8))
    # Steps along orthogonalised gradients reach an error that Adam needs many times the work for.
    matrices = [parameter for parameter in network.parameters() if parameter.ndim == 2]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim < 2]
    optimisers: list[torch.optim.Optimizer] = [
        OrthogonalSteps(matrices, lr=config.learning_rate),
        torch.optim.Adam(vectors, lr=config.learning_rate),
    ]
    device = network.coefficient_scale.device

    def some(n: int, *columns: Tensor) -> list[Tensor]:
        rows = torch.as_tensor(generator.integers(len(columns[0]), size=n))
        return [column[rows].to(device) for column in columns]

    steep = [draws.at, draws.along, draws.there, draws.change]
    if draws.size is not None:
        steep.append(draws.size)
    for step in range(config.steps):
        warm = min(1.0, (step + 1) / _WARMUP_STEPS) * (1.0 - step / config.steps)
        inputs, known = some(config.batch, draws.inputs, draws.coefficients)
        loss = flux_term(network(inputs), known, n_pixels)
        if len(draws.at):
            at, along, known, slope, *size = some(config.derivative_batch, *steep)
            there, change = derivative(network, at, along)
            share = config.derivative_batch / (config.batch + config.derivative_batch)
            loss = (1.0 - share) * loss + share * flux_term(there, known, n_pixels)
            loss = loss + config.gradient_weight * gradient_term(change, slope, n_pixels, *size)
        loss.backward()
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * warm
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if watch is not None and (step + 1) % _WATCH_EVERY == 0:
            watch(step + 1, config.steps)
