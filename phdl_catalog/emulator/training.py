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
from phdl_catalog.emulator.losses import derivative, flux_term, gradient_term, label_directions, label_scale
from phdl_catalog.emulator.model import TransformerModel
from phdl_catalog.emulator.orthogonal import OrthogonalSteps
from phdl_catalog.emulator.principal import project
from phdl_catalog.emulator.sampling import LabelSampler
from phdl_catalog.emulator.starting import continued_model, new_model, teach_direct_path
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
Preparation = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Derivatives:
    """Coefficients of spectra and their change along one label direction each.

    Parameters
    ----------
    inputs, direction : (N, I) Tensor
        Transformed labels, and their change, float64.
    coefficients, change : (N, K) Tensor
    """

    inputs: Tensor
    direction: Tensor
    coefficients: Tensor
    change: Tensor


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
        self._gradients = gradients if gradients is not None and len(gradients) else None
        if self._gradients is not None:
            # As coefficients: of the reference spectra (G, K), and of their derivatives (G, L, K).
            self._reference = project(torch.as_tensor(self._gradients.flux), basis)
            self._slopes = torch.as_tensor(self._gradients.gradient) @ basis[1:].T

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
        """Derivatives along random labels, of the interpolant and ab initio; None if there are none."""
        generator = np.random.default_rng((self._config.seed, step, 1))
        drawn = self._config.interpolated_gradients if self.interpolant is not None else 0
        known = self._config.gradient_batch if self._gradients is not None else 0
        if not drawn + known:
            return None
        label = generator.integers(len(self._scale), size=drawn + known)
        direction = label_directions(torch.as_tensor(label), self._scale)
        labels = torch.as_tensor(self._sampler.draw(drawn, generator)) if drawn else self._labels[:0]
        if known:
            at, coefficients, change = self._ab_initio(label[drawn:], generator)
            labels = torch.cat([labels, at])
        inputs, along = derivative(self._transform, labels, direction)
        if drawn:
            assert self.interpolant is not None
            of_draws = derivative(self.interpolant.of_inputs, inputs[:drawn], along[:drawn])
            if not known:
                return Derivatives(inputs, along, *of_draws)
            coefficients = torch.cat([of_draws[0], coefficients])
            change = torch.cat([of_draws[1], change])
        return Derivatives(inputs, along, coefficients, change)

    def _ab_initio(
        self, label: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (N, L), coefficients and change (N, K) of differential spectra of random stars."""
        gradients = self._gradients
        assert gradients is not None
        star = generator.integers(len(gradients), size=len(label))
        # A forward difference is the derivative half a step on.
        half_step = 0.5 * gradients.step[label]  # (N,)
        labels = gradients.labels[star].copy()
        labels[np.arange(len(label)), label] += half_step
        slope = self._slopes[star, label]  # (N, K)
        coefficients = self._reference[star] + torch.as_tensor(half_step)[:, None].float() * slope
        return torch.as_tensor(labels), coefficients, slope * self._scale[label, None].float()


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


def _optimisers(model: TransformerModel, config: TrainingConfig) -> dict[str, torch.optim.Optimizer]:
    """Steps along orthogonalised gradients for matrices, Adam's for the rest.

    With Adam alone, the encoder learns a tenth of what it learns this way in the same number of steps.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    position = model.network.position
    matrices = [p for p in trained if p.ndim == 2 and p is not position]
    others = [p for p in trained if p.ndim != 2 or p is position]
    return {
        "matrices": OrthogonalSteps(matrices, lr=config.learning_rate, weight_decay=config.weight_decay),
        "others": torch.optim.AdamW(others, lr=config.learning_rate, weight_decay=0.0, betas=(0.9, 0.98)),
    }


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
        if self.device.type == "cuda":
            # Products in TF32, sums and weights in single precision: the encoder's errors are larger.
            torch.set_float32_matmul_precision("high")
        grid.require_trainable()
        self._continued = start is not None
        model = new_model(grid, config) if start is None else continued_model(start, grid, config)
        self.model = copy.deepcopy(model).requires_grad_(True).to(self.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        if config.interpolant is not None:
            self.model.network.direct.requires_grad_(False)
        self.optimisers = _optimisers(self.model, config)
        self.step = 0
        self._taught = False
        self.best_rms = math.inf
        self.best_state: dict[str, Tensor] = {}
        self._since_best = 0

    @property
    def checkpoint_path(self) -> Path:
        return self.directory / "checkpoint.safetensors"

    def run(self, watch: Watcher | None = None, preparing: Preparation | None = None) -> Evaluation:
        """Train to the end, or from the last checkpoint; returns the evaluation of the best weights.

        Parameters
        ----------
        watch : callable, optional
            Called with a `TrainingProgress` after every validation.
        preparing : callable, optional
            Called before the first step with what is being done, and how much of how much is done.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.checkpoint_path.exists():
            self._resume()
        batches = self._prepare(preparing)
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

    def _prepare(self, watch: Preparation | None) -> TrainingBatches:
        """Interpolate the grid, and teach the direct path where that has not been done."""
        model = copy.deepcopy(self.model).requires_grad_(False).cpu()
        if watch is not None:
            watch("interpolating the grid", 0, 1)
        batches = TrainingBatches(self.grid, model.transform, model.network.basis, self.config)
        if batches.interpolant is not None and not self._taught:
            model.network.direct.requires_grad_(True)
            teach_direct_path(
                model, batches.interpolant, self.grid, self.config, self._continued, self.device, watch
            )
            for taught in (self.model, self.average):
                taught.load_state_dict(model.state_dict())
            self._taught = True
            self._save()
        return batches

    def _take_step(self, batches: TrainingBatches) -> Tensor:
        """One optimiser step; returns the (2,) flux and gradient terms."""
        config = self.config
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(self.step, config)
        fade = max(1.0, config.gradient_warmup * config.steps)
        weight = config.gradient_weight * min(1.0, (self.step + 1) / fade)
        inputs, target = (part.float().to(self.device) for part in batches.spectra(self.step))
        network = self.model.network
        added = network.added(inputs)
        total_flux = flux_term(network.direct(inputs) + added, target, network.n_pixels)
        total_gradient = torch.zeros((), device=self.device)
        known = batches.derivatives(self.step) if weight > 0 else None
        if known is not None:
            at, along, there, known_change = (part.float().to(self.device) for part in astuple(known))
            coefficients, change = derivative(network.coefficients, at, along)
            total_gradient = gradient_term(change, known_change, network.n_pixels)
            share = len(at) / (len(at) + len(inputs))
            flux_there = flux_term(coefficients, there, network.n_pixels)
            total_flux = (1.0 - share) * total_flux + share * flux_there
        loss = total_flux + weight * total_gradient
        if config.encoder_cost and batches.interpolant is not None:
            loss = loss + config.encoder_cost * flux_term(added, torch.zeros_like(added), network.n_pixels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
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
        for name, optimiser in self.optimisers.items():
            for number, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{name}.{number}.{key}": value for key, value in state.items()}
        header = {
            "step": self.step,
            "taught": self._taught,
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
        for name, optimiser in self.optimisers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in part(f"optimiser.{name}.").items():
                number, slot = key.split(".", 1)
                state.setdefault(int(number), {})[slot] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        self.step, self.best_rms = header["step"], header["best_rms"]
        self._taught = header["taught"]
        self._since_best = header["since_best"]
