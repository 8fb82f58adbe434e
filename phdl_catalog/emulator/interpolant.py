"""A Gaussian process through a small grid, from which a network may be taught.

A few hundred atmospheres in thirty dimensions are too few for a transformer: it fits them and errs between
them.  A Gaussian process with a linear part and one length scale a label knows better what lies between,
because weak labels get length scales that make them linear.  What one star tells of another differs from
line to line: kernels serve ranges of wavelength as well as principal components, and the mean of both errs
less than either.  Every differential spectrum enters as the spectrum that it was computed from, flux + step x
gradient.  The network then learns from the grid *and* from draws of this interpolant; with a large grid it is
not needed and can be switched off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.principal import project, training_rows
from phdl_catalog.emulator.transforms import LabelTransform

#: Variance of the linear part relative to unit weight; only its ratio to the learnt weights matters.
_LINEAR_VARIANCE = 0.3

#: Natural logarithm of the initial variance of the linear, square and cubic part in each abundance.
_ORDER_WEIGHTS = (-3.0, -5.0, -7.0)

#: Principal components of a range of wavelength from which its kernel is learnt.
_RANGE_COMPONENTS = 60


@dataclass(frozen=True)
class InterpolantConfig:
    """How the Gaussian process is fitted.

    Parameters
    ----------
    groups : tuple of int
        Components are split here; each group has its own length scales.
    ranges : tuple of int
        For each number a prediction of its own, in which so many ranges of wavelength, that vary alike in
        sum, have length scales of their own.  They and that of the groups are averaged.
    iterations : int
        Steps of the marginal-likelihood ascent, for each group.
    subset : int
        Spectra in each step's likelihood.
    largest : int
        Spectra that are interpolated at most, chosen at random: memory grows with their square.
    seed : int
    """

    groups: tuple[int, ...] = (8, 40)
    ranges: tuple[int, ...] = (8,)
    iterations: int = 60
    subset: int = 600
    largest: int = 12_000
    seed: int = 0


class _Kernel(nn.Module):
    """What spectra of two label vectors have in common; three parts.

    A linear kernel with a weight an input; a squared exponential with a length scale an input; and a cubic
    in each abundance alone, which fades as the atmospheres differ: the lines of most elements do not know of
    those of others, and that much need not be learnt.  An element that is seen by what it binds has no say in
    the first two but through the features of line formation.
    """

    def __init__(self, transform: LabelTransform) -> None:
        super().__init__()
        self._atmosphere = transform.atmosphere_columns
        self._abundances = transform.abundance_columns
        n_inputs, n_abundances = transform.n_inputs, len(self._abundances)
        self.own_say = torch.ones(n_inputs, dtype=torch.float64)
        self.own_say[transform.binding_columns] = 0.0

        def parameter(value: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value, dtype=torch.float64))

        self.log_length = parameter(1.6, n_inputs)
        self.log_weight = parameter(0.0, n_inputs)
        self.log_noise = parameter(-6.0)
        self.log_amplitude = parameter(1.0)
        self.log_atmosphere_length = parameter(1.5, len(self._atmosphere))
        self.log_abundance_weight = nn.Parameter(
            torch.tensor(_ORDER_WEIGHTS, dtype=torch.float64).repeat_interleave(n_abundances)
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(N, I), (M, I) -> (N, M)."""
        own_a, own_b = a * self.own_say, b * self.own_say
        smooth = torch.exp(self.log_amplitude) * _squared_exponential(own_a, own_b, self.log_length)
        linear = _LINEAR_VARIANCE * (own_a * torch.exp(self.log_weight)) @ own_b.T
        near = _squared_exponential(
            a[:, self._atmosphere], b[:, self._atmosphere], self.log_atmosphere_length
        )
        alike = (self._polynomials(a) * torch.exp(self.log_abundance_weight)) @ self._polynomials(b).T
        return smooth + linear + near * alike

    def _polynomials(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, 3 A): Hermite polynomials of order one to three of each abundance."""
        x = x[:, self._abundances]
        square = x.square()
        return torch.cat([x, (square - 1.0) / math.sqrt(2.0), x * (square - 3.0) / math.sqrt(6.0)], dim=1)

    def with_noise(self, x: Tensor) -> Tensor:
        """(N, N) covariance of noisy observations."""
        return self(x, x) + torch.exp(self.log_noise) * torch.eye(len(x), dtype=x.dtype)


def _squared_exponential(a: Tensor, b: Tensor, log_length: Tensor) -> Tensor:
    """(N, D), (M, D) -> (N, M)."""
    rate = torch.exp(-log_length)
    a, b = a * rate, b * rate
    distance = a.square().sum(1)[:, None] + b.square().sum(1) - 2.0 * a @ b.T
    return torch.exp(-0.5 * distance.clamp(min=0.0))


class GridInterpolant:
    """Gaussian-process interpolation of a grid's training split.

    Use `fit` to make one.  It gives coefficients in a basis of spectra, differentiable in the labels.
    """

    def __init__(
        self, transform: LabelTransform, kernels: list[_Kernel], weights: list[Tensor], inputs: Tensor
    ) -> None:
        self._transform = transform
        self._kernels = kernels
        self._weights = weights
        self.inputs = inputs

    @classmethod
    def fit(
        cls, grid: AbInitioGrid, transform: LabelTransform, basis: Tensor, config: InterpolantConfig
    ) -> GridInterpolant:
        """Fit kernels by marginal likelihood and condition on the training split.

        Parameters
        ----------
        grid : AbInitioGrid
        transform : LabelTransform
        basis : (K + 1, P) Tensor
            Mean spectrum and orthonormal directions.
        config : InterpolantConfig
        """
        generator = torch.Generator().manual_seed(config.seed)
        labels, flux = training_rows(grid)
        if len(labels) > config.largest:
            rows = torch.randperm(len(labels), generator=generator)[: config.largest].numpy()
            labels, flux = labels[rows], flux[rows]
        inputs = transform(torch.as_tensor(labels))
        kernels, weights = [], []
        for told, part in _parts(torch.as_tensor(flux), basis.double(), config):
            kernel = _fit_kernel(transform, inputs, told, config, generator)
            with torch.no_grad():
                weights.append(torch.linalg.solve(kernel.with_noise(inputs), part))
            kernels.append(kernel.requires_grad_(False))
        return cls(transform, kernels, weights, inputs)

    def coefficients(self, labels: Tensor) -> Tensor:
        """(N, L) -> (N, K), float64."""
        return self.of_inputs(self._transform(labels.double()))

    def of_inputs(self, x: Tensor) -> Tensor:
        """(N, I) transformed labels, float64 -> (N, K) coefficients, float64.

        Weights of near neighbours are large and of opposite sign: single precision would not do.
        """
        total = torch.zeros(len(x), self._weights[0].shape[1], dtype=x.dtype)
        for kernel, weight in zip(self._kernels, self._weights, strict=True):
            total = total + kernel(x, self.inputs) @ weight
        return total

    @property
    def rate(self) -> NDArray[np.float64]:
        """(I,) one over the length scales of the inputs, geometric means of the kernels'; 0 without a say."""
        with torch.no_grad():
            length = torch.stack([kernel.log_length for kernel in self._kernels]).mean(dim=0).exp()
            return np.asarray((self._kernels[0].own_say / length).numpy())

    def left_out(self, star: NDArray[np.int64]) -> Tensor:
        """(N, K) coefficients of the spectra it was made from, minus what all *other* stars say of them.

        Parameters
        ----------
        star : (N,) int64
            Spectra with one number are left out together.
        """
        groups = [torch.as_tensor(np.flatnonzero(star == number)) for number in np.unique(star)]
        missing = torch.zeros_like(self._weights[0])
        for kernel, weight in zip(self._kernels, self._weights, strict=True):
            inverse = torch.linalg.inv(kernel.with_noise(self.inputs))
            for rows in groups:
                missing[rows] += torch.linalg.solve(inverse[rows][:, rows], weight[rows])
        return missing


def _parts(flux: Tensor, basis: Tensor, config: InterpolantConfig) -> list[tuple[Tensor, Tensor]]:
    """What each kernel is learnt from, (N, k), and the part (N, K) of the coefficients that it interpolates.

    The parts add up to the coefficients: an equal share of them is cut into components, and one for each
    number of ranges into pixels.
    """
    coefficients = project(flux, basis)
    share = 1.0 / (1 + len(config.ranges))
    edges = [0, *(edge for edge in config.groups if edge < coefficients.shape[1]), coefficients.shape[1]]
    parts = []
    for start, stop in pairwise(edges):
        part = torch.zeros_like(coefficients)
        part[:, start:stop] = share * coefficients[:, start:stop]
        parts.append((coefficients[:, start:stop], part))
    flux = flux - basis[0]
    for number in config.ranges:
        for pixels in _ranges(flux, number):
            told = _leading(flux[:, pixels], _RANGE_COMPONENTS)
            parts.append((told, share * flux[:, pixels] @ basis[1:, pixels].T))
    return parts


def _ranges(flux: Tensor, number: int) -> list[slice]:
    """Cut the pixels of spectra (N, P) into ranges whose standard deviations add up to the same."""
    passed = flux.std(dim=0).cumsum(dim=0)
    steps = torch.arange(1, number, dtype=passed.dtype) / number
    edges = torch.searchsorted(passed, steps * passed[-1]).tolist()
    return [slice(start, stop) for start, stop in pairwise([0, *edges, len(passed)]) if start < stop]


def _leading(values: Tensor, number: int) -> Tensor:
    """(N, D) -> (N, k): the leading principal components, about zero."""
    spread, directions = torch.linalg.eigh(values.T @ values)  # rising
    kept = spread[-number:] > 1e-12 * spread[-1]
    return values @ directions[:, -number:][:, kept].flip(1)


def _fit_kernel(
    transform: LabelTransform,
    inputs: Tensor,
    target: Tensor,
    config: InterpolantConfig,
    generator: torch.Generator,
) -> _Kernel:
    """Ascend the marginal likelihood of scaled components, each weighted by its size, on random subsets."""
    kernel = _Kernel(transform)
    size = target.std(dim=0)
    scaled = target / size
    weight = size / size.mean()
    subset = min(config.subset, len(inputs))
    optimiser = torch.optim.Adam(kernel.parameters(), lr=0.08)
    for _ in range(config.iterations):
        rows = torch.randperm(len(inputs), generator=generator)[:subset]
        factor = torch.linalg.cholesky(kernel.with_noise(inputs[rows]))
        y = scaled[rows]
        misfit = (y * torch.cholesky_solve(y, factor)).sum(dim=0)
        # The amplitude of each component is profiled out.
        loss = (weight * (0.5 * subset * misfit.log() + factor.diagonal().log().sum())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return kernel
