"""What each step of a training run sees: spectra, and derivatives of spectra."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.distilling import Draws
from phdl_catalog.emulator.grid import AbInitioGrid, GradientSet
from phdl_catalog.emulator.interpolant import GridInterpolant
from phdl_catalog.emulator.losses import derivative, label_directions, label_scale, label_sizes
from phdl_catalog.emulator.principal import project
from phdl_catalog.emulator.sampling import LabelSampler
from phdl_catalog.emulator.transforms import LabelTransform

#: Draws of the interpolant for the mean size of each label's derivative.
_SIZE_DRAWS = 20


@dataclass(frozen=True)
class Derivatives:
    """Coefficients of spectra and their change along one label direction each.

    Parameters
    ----------
    inputs, direction : (N, I) Tensor
        Transformed labels, and their change, float64.
    coefficients, change : (N, K) Tensor
    size : (N,) Tensor, optional
        Sum of squares that errors of the change are relative to; its own where there is none.
    """

    inputs: Tensor
    direction: Tensor
    coefficients: Tensor
    change: Tensor
    size: Tensor | None = None

    def rows(self, chosen: Tensor) -> Derivatives:
        """Those of some rows (M,)."""
        return Derivatives(
            self.inputs[chosen], self.direction[chosen], self.coefficients[chosen], self.change[chosen]
        )

    @classmethod
    def joined(cls, parts: list[Derivatives]) -> Derivatives:
        """One after the other."""
        columns = zip(*((p.inputs, p.direction, p.coefficients, p.change) for p in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))


class TrainingBatches:
    """Batches by step number: the same step gives the same batch, so that a resumed run is the same run.

    Labels come transformed and spectra as coefficients, because interpolant and network share the transform
    and the basis (K + 1, P).
    """

    def __init__(
        self, grid: AbInitioGrid, transform: LabelTransform, basis: Tensor, config: TrainingConfig
    ) -> None:
        self._config = config
        self._transform = transform
        training = ~grid.is_validation
        self._labels = torch.as_tensor(grid.labels[training])
        self._coefficients = project(torch.as_tensor(grid.flux[training]), basis)
        self._scale = label_scale(grid.label_names)
        self._sampler = LabelSampler.from_grid(grid)
        self.interpolant = (
            GridInterpolant.fit(grid, transform, basis, config.interpolant)
            if config.interpolant is not None
            else None
        )
        gradients = grid.gradients
        if gradients is not None:
            gradients = gradients.select(~gradients.is_validation)
        self._known = (
            _ab_initio(gradients, transform, basis, self._scale)
            if gradients is not None and len(gradients)
            else None
        )
        self._label_size = self._sizes() if config.gradient_relative_to == "label" else None

    @torch.no_grad()
    def spectra(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, I) and coefficients (N, K): spectra of the grid and draws of the interpolant."""
        generator = np.random.default_rng((self._config.seed, step, 0))
        rows = generator.integers(len(self._labels), size=self._config.grid_batch)
        labels, coefficients = self._labels[rows], self._coefficients[rows]
        if self.interpolant is None or not self._config.interpolated_batch:
            return self._transform(labels), coefficients
        drawn = torch.as_tensor(self._sampler.draw(self._config.interpolated_batch, generator))
        inputs = self._transform(torch.cat([labels, drawn]))
        return inputs, torch.cat([coefficients, self.interpolant.of_inputs(inputs[len(labels) :]).float()])

    @torch.no_grad()
    def derivatives(self, step: int) -> Derivatives | None:
        """Derivatives along random labels, of the interpolant and ab initio; None where the step has none."""
        config = self._config
        if not config.gradient_weight or step % config.gradient_every:
            return None
        generator = np.random.default_rng((config.seed, step, 1))
        drawn = config.interpolated_gradients if self.interpolant is not None else 0
        known = config.gradient_batch if self._known is not None else 0
        if not drawn + known:
            return None
        label = generator.integers(len(self._scale), size=drawn + known)
        parts = []
        if drawn:
            labels = torch.as_tensor(self._sampler.draw(drawn, generator))
            parts.append(self._interpolated(labels, torch.as_tensor(label[:drawn])))
        if self._known is not None and known:
            stars = len(self._known.inputs) // len(self._scale)
            star = generator.integers(stars, size=known)
            parts.append(self._known.rows(torch.as_tensor(star * len(self._scale) + label[drawn:])))
        found = Derivatives.joined(parts)
        if self._label_size is None:
            return found
        return replace(found, size=self._label_size[torch.as_tensor(label)])

    def draws(self) -> Draws:
        """All that the grid knows, for the direct path: its spectra and its differential spectra."""
        inputs = self._transform(self._labels).float()
        if self._known is None or not self._config.gradient_weight * self._config.direct.gradient_weight:
            empty = inputs[:0], inputs[:0], self._coefficients[:0], self._coefficients[:0]
            return Draws(inputs, self._coefficients, *empty)
        known = self._known
        label = torch.arange(len(known.inputs)) % len(self._scale)
        by_label = self._config.direct.gradient_relative_to == "label"
        return Draws(
            inputs,
            self._coefficients,
            known.inputs.float(),
            known.direction.float(),
            known.coefficients,
            known.change,
            label_sizes(known.change, label) if by_label else None,
        )

    def _interpolated(self, labels: Tensor, label: Tensor) -> Derivatives:
        """Derivatives of the interpolant at labels (N, L), each along one label (N,)."""
        assert self.interpolant is not None
        inputs, along = derivative(self._transform, labels, label_directions(label, self._scale))
        return Derivatives(inputs, along, *derivative(self.interpolant.of_inputs, inputs, along))

    @torch.no_grad()
    def _sizes(self) -> Tensor | None:
        """(L,) sum of squares of each label's derivative: ab initio, else of draws of the interpolant."""
        known, count = self._known, len(self._scale)
        if known is None:
            if self.interpolant is None:
                return None
            label = torch.arange(_SIZE_DRAWS * count) % count
            labels = self._sampler.draw(len(label), np.random.default_rng((self._config.seed, 2)))
            known = self._interpolated(torch.as_tensor(labels), label)
        return label_sizes(known.change, torch.arange(len(known.change)) % count)[:count]


def _ab_initio(
    gradients: GradientSet, transform: LabelTransform, basis: Tensor, scale: Tensor
) -> Derivatives:
    """All differential spectra, the L of one reference star after the other."""
    stars, count = gradients.labels.shape
    label = np.tile(np.arange(count), stars)
    # A forward difference is the derivative half a step on.
    half_step = 0.5 * gradients.step[label]  # (G L,)
    labels = np.repeat(gradients.labels, count, axis=0)
    labels[np.arange(len(label)), label] += half_step
    slope = (torch.as_tensor(gradients.gradient) @ basis[1:].T).flatten(0, 1)  # (G L, K)
    reference = project(torch.as_tensor(gradients.flux), basis).repeat_interleave(count, dim=0)
    directions = label_directions(torch.as_tensor(label), scale)
    inputs, along = derivative(transform, torch.as_tensor(labels), directions)
    return Derivatives(
        inputs,
        along,
        reference + torch.as_tensor(half_step)[:, None].float() * slope,
        slope * scale[label, None].float(),
    )
