"""The compiled form: a trained transformer on one fixed pixel grid, as basis times a small network.

A fit asks for flux and every derivative thousands of times, always on the same pixels.  The transformer's
spectra lie close to a linear space of a few hundred dimensions; the coefficients in that space are smooth
functions of the labels, and a small network learns them from as many of the transformer's own spectra as one
likes.  Its error against the transformer is measured on fresh draws and stored with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from phdl_catalog.emulator.sampling import LabelSampler
from phdl_catalog.emulator.transforms import LabelTransform

_WARMUP_STEPS = 100
_RIDGE = 1e-3
_WATCH_EVERY = 50


@dataclass(frozen=True)
class CompileConfig:
    """How a transformer is compiled.

    Parameters
    ----------
    components : int
        Length K of the basis.
    hidden : int
        Width of the two hidden layers.
    spectra : int
        Draws of the transformer to learn from.
    steps, batch : int
        Optimiser steps, and spectra in each.
    learning_rate : float
        At the start; it falls to zero in a straight line.
    seed : int
    """

    components: int = 320
    hidden: int = 512
    spectra: int = 120_000
    steps: int = 4_000
    batch: int = 1_000
    learning_rate: float = 1.5e-2
    seed: int = 0


class CompiledNetwork(nn.Module):
    """Basis (K + 1, P) and the network for its K coefficients; the basis' first row is the mean spectrum."""

    basis: Tensor
    coefficient_scale: Tensor
    transform: LabelTransform

    def __init__(self, transform: LabelTransform, n_pixels: int, components: int, hidden: int) -> None:
        super().__init__()
        self.transform = transform
        self.register_buffer("basis", torch.zeros(components + 1, n_pixels))
        self.register_buffer("coefficient_scale", torch.ones(components))
        self.linear = nn.Linear(transform.n_inputs, components)
        self.first = nn.Linear(transform.n_inputs, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, components)

    def coefficients(self, labels: Tensor) -> Tensor:
        """(N, L) physical labels -> (N, K)."""
        return self._scaled(self.transform(labels.double()).float()) * self.coefficient_scale

    def _scaled(self, x: Tensor) -> Tensor:
        """(N, L) inputs -> (N, K) coefficients in units of their scale."""
        hidden = nn.functional.gelu(self.second(nn.functional.gelu(self.first(x))))
        result: Tensor = self.linear(x) + self.last(hidden)
        return result

    def forward(self, labels: Tensor) -> Tensor:
        """(N, L) -> (N, P)."""
        return torch.addmm(self.basis[0], self.coefficients(labels), self.basis[1:])

    def coefficients_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L) -> (N, K) and (N, K, L), the derivative per label unit.

        The chain rule by hand: a layer's derivatives are one matrix product over all stars and labels.
        """
        labels = labels.double()
        x = self.transform(labels).float()
        change = self.transform.jacobian(labels).float().transpose(1, 2)  # (N, L, I)
        pre = self.first(x)
        hidden, gain = _gelu(pre)
        moved = (change @ self.first.weight.T) * gain[:, None, :]  # (N, L, H)
        pre = self.second(hidden)
        hidden, gain = _gelu(pre)
        moved = (moved @ self.second.weight.T) * gain[:, None, :]
        coefficients = (self.linear(x) + self.last(hidden)) * self.coefficient_scale
        jacobian = (change @ self.linear.weight.T + moved @ self.last.weight.T) * self.coefficient_scale
        return coefficients, jacobian.transpose(1, 2)


def _gelu(x: Tensor) -> tuple[Tensor, Tensor]:
    """x times the normal distribution function of x, and the derivative."""
    below = torch.special.ndtr(x)
    density = torch.exp(-0.5 * x * x) * (2.0 * math.pi) ** -0.5
    return x * below, below + x * density


@dataclass(frozen=True)
class CompileError:
    """Compiled against transformer, flux difference on fresh draws.

    Parameters
    ----------
    rms, p99 : float
        Root mean square and 99th percentile of the absolute difference.
    rms_basis : float
        What the basis alone leaves out.
    n : int
        Spectra compared.
    """

    rms: float
    p99: float
    rms_basis: float
    n: int


#: Spectra from which the basis is made, and that are held in memory at once.
_BASIS_SPECTRA = 30_000


def _draw_flux(
    flux_of: Callable[[Tensor], Tensor], sampler: LabelSampler, n: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    labels = torch.as_tensor(sampler.draw(n, generator))
    with torch.no_grad():
        flux = torch.cat([flux_of(part) for part in labels.split(128)])
    return labels, flux


def _draw_coefficients(
    flux_of: Callable[[Tensor], Tensor],
    sampler: LabelSampler,
    config: CompileConfig,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean (P,) and basis (K, P) of the model's spectra; labels (n, L) and coefficients (n, K)."""
    labels, flux = _draw_flux(flux_of, sampler, min(config.spectra, _BASIS_SPECTRA), generator)
    mean = flux.mean(dim=0)
    centred = flux - mean
    # Eigenvectors of the (P, P) covariance: cheaper than the singular vectors of all spectra.
    _, vectors = torch.linalg.eigh((centred.T @ centred).double())
    basis = vectors.flip(1)[:, : config.components].T.float().contiguous()
    parts = [(labels, centred @ basis.T)]
    del flux, centred
    while (done := sum(len(part[0]) for part in parts)) < config.spectra:
        more = min(config.spectra - done, _BASIS_SPECTRA // 10)
        labels, flux = _draw_flux(flux_of, sampler, more, generator)
        parts.append((labels, (flux - mean) @ basis.T))
    return mean, basis, torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def compile_network(
    flux_of: Callable[[Tensor], Tensor],
    sampler: LabelSampler,
    transform: LabelTransform,
    config: CompileConfig,
    watch: Callable[[int, int], None] | None = None,
) -> tuple[CompiledNetwork, CompileError]:
    """Compile a model.

    Parameters
    ----------
    flux_of : callable
        Physical labels (N, L) -> flux (N, P).
    sampler : LabelSampler
        Draws labels where the model will be used.
    transform : LabelTransform
    config : CompileConfig
    watch : callable, optional
        Called with (step, steps) now and then.

    Returns
    -------
    CompiledNetwork, CompileError
    """
    torch.manual_seed(config.seed)
    generator = np.random.default_rng(config.seed)
    mean, basis, labels, target = _draw_coefficients(flux_of, sampler, config, generator)
    network = CompiledNetwork(transform, basis.shape[1], config.components, config.hidden)
    network.basis[0], network.basis[1:] = mean, basis
    spread = target.std(dim=0)
    # Components without any variation, in a grid of few lines, must not be divided by.
    network.coefficient_scale.copy_(spread.clamp(min=1e-6 * float(spread.max())))
    inputs = torch.cat([transform(part).float() for part in labels.split(_BASIS_SPECTRA // 10)])
    _train(network, inputs, target, config, generator, watch)
    fresh, truth = _draw_flux(flux_of, sampler, 2000, np.random.default_rng(config.seed + 1))
    with torch.no_grad():
        error = network(fresh) - truth
        off_basis = (truth - mean) - (truth - mean) @ basis.T @ basis
    return network, CompileError(
        rms=float(error.square().mean().sqrt()),
        p99=float(np.percentile(error.abs().numpy(), 99)),
        rms_basis=float(off_basis.square().mean().sqrt()),
        n=len(fresh),
    )


def _train(
    network: CompiledNetwork,
    inputs: Tensor,
    target: Tensor,
    config: CompileConfig,
    generator: np.random.Generator,
    watch: Callable[[int, int], None] | None,
) -> None:
    """Least squares on coefficients: with an orthonormal basis that is least squares on flux."""
    centre = inputs.mean(dim=0)
    # Inputs are nearly collinear: a ridge keeps the weights small, hence safe in half precision.
    x = (inputs - centre).double()
    ridge = _RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    slope = torch.linalg.solve(x.T @ x + ridge, x.T @ target.double()).float()  # (I, K)
    with torch.no_grad():
        network.linear.weight.copy_((slope / network.coefficient_scale).T)
        network.linear.bias.copy_(-(centre @ slope) / network.coefficient_scale)
        network.last.weight.mul_(0.1)
    # Steps along orthogonalised gradients reach an error that Adam needs many times the work for.
    matrices = [parameter for parameter in network.parameters() if parameter.ndim == 2]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim < 2]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=config.learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.Adam(vectors, lr=config.learning_rate),
    ]
    scale = network.coefficient_scale
    unit = float(scale.square().mean())
    for step in range(config.steps):
        warm = min(1.0, (step + 1) / _WARMUP_STEPS) * (1.0 - step / config.steps)
        rows = torch.as_tensor(generator.integers(len(inputs), size=min(config.batch, len(inputs))))
        difference = network._scaled(inputs[rows]) * scale - target[rows]
        loss = difference.square().mean() / unit
        loss.backward()
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * warm
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if watch is not None and (step + 1) % _WATCH_EVERY == 0:
            watch(step + 1, config.steps)
