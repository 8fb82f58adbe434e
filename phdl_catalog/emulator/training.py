"""Training a PhDLspec network on an ab initio grid."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.evaluation import Evaluation, evaluate
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.interpolant import GridInterpolant
from phdl_catalog.emulator.losses import derivative, flux_term, gradient_term, label_directions
from phdl_catalog.emulator.model import TransformerModel
from phdl_catalog.emulator.network import SpectrumTransformer
from phdl_catalog.emulator.sampling import LabelSampler
from phdl_catalog.emulator.transforms import LabelTransform
from phdl_catalog.errors import ModelError


@dataclass(frozen=True)
class TrainingProgress:
    """What a training run tells whoever watches it, once a validation."""

    step: int
    steps: int
    loss_flux: float
    loss_gradient: float
    validation_rms: float
    validation_rms_core: float
    gradient_correlation: float
    spectra_per_second: float
    elapsed_s: float


Watcher = Callable[[TrainingProgress], None]


def label_scale(grid: AbInitioGrid) -> Tensor:
    """(L,) unit of each label in the gradient term: 100 K, 1 km/s, 1 dex."""
    return torch.tensor([100.0 if name == "teff" else 1.0 for name in grid.label_names])


@dataclass(frozen=True)
class Derivatives:
    """Flux and its change along one label direction each.

    Parameters
    ----------
    inputs, direction : (N, I) Tensor
        Transformed labels, and their change, float64.
    flux, change : (N, P) Tensor
    """

    inputs: Tensor
    direction: Tensor
    flux: Tensor
    change: Tensor


class TrainingBatches:
    """Batches by step number: the same step gives the same batch, so that a resumed run is the same run.

    Labels come transformed, because interpolant and network share the transform.
    """

    def __init__(self, grid: AbInitioGrid, transform: LabelTransform, config: TrainingConfig) -> None:
        self._config = config
        self._transform = transform
        training = ~grid.is_validation
        self._labels = torch.as_tensor(grid.labels[training])
        self._flux = torch.as_tensor(grid.flux[training])
        self._scale = label_scale(grid).double()
        self._sampler = LabelSampler.from_grid(grid)
        self._interpolant = (
            GridInterpolant.fit(grid, transform, config.interpolant)
            if config.interpolant is not None and config.interpolated_batch
            else None
        )
        gradients = grid.gradients
        self._gradients = gradients.select(~gradients.is_validation) if gradients is not None else None

    @classmethod
    def of(cls, grid: AbInitioGrid, config: TrainingConfig) -> TrainingBatches:
        """Those of a run that begins with linear regression."""
        transform = LabelTransform.fitted(grid.label_names, grid.labels[~grid.is_validation])
        return cls(grid, transform, config)

    @torch.no_grad()
    def flux(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, I) and flux (N, P): spectra of the grid and draws of the interpolant."""
        generator = np.random.default_rng((self._config.seed, step, 0))
        rows = generator.integers(len(self._labels), size=self._config.grid_batch)
        labels, flux = self._labels[rows], self._flux[rows]
        if self._interpolant is None:
            return self._transform(labels), flux
        drawn = torch.as_tensor(self._sampler.draw(self._config.interpolated_batch, generator))
        inputs = self._transform(torch.cat([labels, drawn]))
        return inputs, torch.cat([flux, self._interpolant.flux_of_inputs(inputs[len(labels) :])])

    @torch.no_grad()
    def derivatives(self, step: int) -> Derivatives | None:
        """Derivatives along random labels, of the interpolant and ab initio; None if there are none."""
        generator = np.random.default_rng((self._config.seed, step, 1))
        drawn = self._config.interpolated_gradients if self._interpolant is not None else 0
        known = self._config.gradient_batch if self._gradients is not None and len(self._gradients) else 0
        if not drawn + known:
            return None
        label = generator.integers(len(self._scale), size=drawn + known)
        direction = label_directions(torch.as_tensor(label), self._scale)
        labels = torch.as_tensor(self._sampler.draw(drawn, generator)) if drawn else self._labels[:0]
        if known:
            at, flux, change = self._ab_initio(label[drawn:], generator)
            labels = torch.cat([labels, at])
        inputs, along = derivative(self._transform, labels, direction)
        if drawn:
            assert self._interpolant is not None
            of_draws = derivative(self._interpolant.flux_of_inputs, inputs[:drawn], along[:drawn])
            if not known:
                return Derivatives(inputs, along, *of_draws)
            flux, change = torch.cat([of_draws[0], flux]), torch.cat([of_draws[1], change])
        return Derivatives(inputs, along, flux, change)

    def _ab_initio(
        self, label: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (N, L), flux and change (N, P) of differential spectra of random stars to `label` (N,)."""
        gradients = self._gradients
        assert gradients is not None
        star = generator.integers(len(gradients), size=len(label))
        # A forward difference is the derivative half a step on.
        half_step = 0.5 * gradients.step[label]  # (N,)
        labels = gradients.labels[star].copy()
        labels[np.arange(len(label)), label] += half_step
        change = gradients.gradient[star, label]  # (N, P)
        flux = gradients.flux[star] + half_step[:, None].astype(np.float32) * change
        scaled = change * self._scale.numpy()[label, None].astype(np.float32)
        return torch.as_tensor(labels), torch.as_tensor(flux), torch.as_tensor(scaled)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


def _from_linear_regression(grid: AbInitioGrid, config: TrainingConfig) -> TransformerModel:
    """A network whose linear path is fitted to the training split."""
    labels = grid.labels[~grid.is_validation]
    transform = LabelTransform.fitted(grid.label_names, labels)
    network = SpectrumTransformer(transform.n_inputs, grid.pixels.size, config.network)
    network.start_from_linear(
        transform(torch.as_tensor(labels)), torch.as_tensor(grid.flux[~grid.is_validation])
    )
    return TransformerModel(transform, network)


def _checked(start: TransformerModel, grid: AbInitioGrid, config: TrainingConfig) -> TransformerModel:
    """`start`, if a run on `grid` with `config` may begin with it."""
    if start.network.config != config.network:
        raise ModelError(
            f"the model to start from has the network {start.network.config}, the configuration asks for "
            f"{config.network}: give it the same"
        )
    ours = (len(grid.label_names), grid.pixels.size)
    theirs = (start.transform.n_labels, start.network.n_pixels)
    if ours != theirs:
        raise ModelError(f"the model to start from has (labels, pixels) {theirs}, the grid {ours}")
    return start


class Training:
    """One training run, resumable: weights, their running mean and the optimiser live in `directory`.

    Parameters
    ----------
    grid : AbInitioGrid
    config : TrainingConfig
    directory : Path
        Receives ``checkpoint.safetensors`` and ``training.jsonl`` (one JSON line a validation).
    device : str
    start : TransformerModel, optional
        An earlier model, for the same labels and pixels, to begin with instead of linear regression; its
        label transform and the shape of its network are kept.

    Raises
    ------
    ModelError
        If the grid has no validation stars, or `start` does not fit the grid or the configuration.
    """

    def __init__(
        self,
        grid: AbInitioGrid,
        config: TrainingConfig,
        directory: Path,
        device: str = "cpu",
        start: TransformerModel | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.grid, self.config, self.directory = grid, config, directory
        self.device = torch.device(device)
        grid.require_trainable()
        model = _from_linear_regression(grid, config) if start is None else _checked(start, grid, config)
        self.model = copy.deepcopy(model).requires_grad_(True).to(self.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self.step = 0
        self.best_rms = math.inf
        self.best_state: dict[str, Tensor] = {}
        self._since_best = 0

    @property
    def checkpoint_path(self) -> Path:
        return self.directory / "checkpoint.safetensors"

    def run(self, watch: Watcher | None = None, batches: TrainingBatches | None = None) -> Evaluation:
        """Train to the end, or from the last checkpoint; returns the evaluation of the best weights.

        Parameters
        ----------
        watch : callable, optional
            Called with a `TrainingProgress` after every validation.
        batches : TrainingBatches, optional
            Of the same grid, label transform and configuration, where they were made before.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.checkpoint_path.exists():
            self._resume()
        if batches is None:
            batches = TrainingBatches(self.grid, copy.deepcopy(self.model.transform).cpu(), self.config)
        started, first_step = time.monotonic(), self.step
        sums = torch.zeros(2)
        while self.step < self.config.steps:
            sums += self._take_step(batches)
            self.step += 1
            if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                elapsed = time.monotonic() - started
                count = (self.step - 1) % self.config.validate_every + 1
                progress = self._validate(sums / count, elapsed, self.step - first_step)
                sums = torch.zeros(2)
                if watch is not None:
                    watch(progress)
                if self._since_best >= self.config.patience and self.step > self.config.steps // 2:
                    break
        self.average.load_state_dict(self.best_state)
        return evaluate(self.average.forward, self.grid)

    def _take_step(self, batches: TrainingBatches) -> Tensor:
        """One optimiser step; returns the (2,) flux and gradient terms."""
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, config)
        fade = max(1.0, config.gradient_warmup * config.steps)
        weight = config.gradient_weight * min(1.0, (self.step + 1) / fade)
        inputs, target = (part.float().to(self.device) for part in batches.flux(self.step))
        network = self.model.network
        total_flux = flux_term(network(inputs), target)
        total_gradient = torch.zeros((), device=self.device)
        known = batches.derivatives(self.step) if weight > 0 else None
        if known is not None:
            at, along, known_flux, known_change = (part.float().to(self.device) for part in astuple(known))
            flux, change = derivative(network, at, along)
            total_gradient = gradient_term(change, known_change)
            share = len(at) / (len(at) + len(inputs))
            total_flux = (1.0 - share) * total_flux + share * flux_term(flux, known_flux)
        loss = total_flux + weight * total_gradient / _GRADIENT_UNIT
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        decay = min(self.config.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1.0 - decay)
        return torch.stack([total_flux.detach(), total_gradient.detach()]).cpu()

    def _validate(self, losses: Tensor, elapsed: float, n_steps: int) -> TrainingProgress:
        result = evaluate(self.average.forward, self.grid)
        per_step = (
            self.config.grid_batch
            + self.config.interpolated_batch
            + self.config.interpolated_gradients
            + self.config.gradient_batch
        )
        progress = TrainingProgress(
            step=self.step,
            steps=self.config.steps,
            loss_flux=float(losses[0]),
            loss_gradient=float(losses[1]),
            validation_rms=result.rms,
            validation_rms_core=result.rms_core,
            gradient_correlation=result.median_correlation,
            spectra_per_second=n_steps * per_step / elapsed,
            elapsed_s=elapsed,
        )
        if result.rms < self.best_rms:
            self.best_rms, self._since_best = result.rms, 0
            self.best_state = {key: value.clone() for key, value in self.average.state_dict().items()}
        else:
            self._since_best += 1
        with (self.directory / "training.jsonl").open("a") as log:
            log.write(json.dumps(asdict(progress)) + "\n")
        self._save()
        return progress

    def _save(self) -> None:
        """Write the checkpoint beside the old one and rename, so that a kill leaves a whole file."""
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        tensors |= {f"best.{key}": value for key, value in self.best_state.items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{key}": value for key, value in state.items()}
        header = {
            "step": self.step,
            "best_rms": self.best_rms,
            "since_best": self._since_best,
            "config": self.config.as_dict(),
            "grid": self.grid.source["sha256"],
        }
        temporary = self.checkpoint_path.with_suffix(".partial")
        save_file(
            {key: value.contiguous().cpu() for key, value in tensors.items()},
            temporary,
            metadata={"training": json.dumps(header)},
        )
        temporary.replace(self.checkpoint_path)

    def _resume(self) -> None:
        with safe_open(self.checkpoint_path, framework="pt") as file:
            header = json.loads(file.metadata()["training"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if header["config"] != self.config.as_dict() or header["grid"] != self.grid.source["sha256"]:
            raise ModelError(
                f"{self.checkpoint_path} belongs to another configuration or grid: give another --output, "
                "or remove it to start again"
            )

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
            }

        self.model.load_state_dict(part("model."))
        self.average.load_state_dict(part("average."))
        self.best_state = part("best.")
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimiser.").items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        self.step, self.best_rms = header["step"], header["best_rms"]
        self._since_best = header["since_best"]


#: Relative gradient errors of about this size weigh like flux errors of `FLUX_UNIT`.
_GRADIENT_UNIT = 0.02
