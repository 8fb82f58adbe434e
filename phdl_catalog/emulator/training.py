"""Training a PhDLspec network on an ab initio grid."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from phdl_catalog.emulator.batches import TrainingBatches
from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.evaluation import Evaluation, evaluate
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.losses import derivative, flux_term, gradient_term
from phdl_catalog.emulator.model import TransformerModel
from phdl_catalog.emulator.orthogonal import OrthogonalSteps
from phdl_catalog.emulator.starting import (
    continued_model,
    new_model,
    teach_direct_path,
    teach_direct_path_the_grid,
)
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
        # Without an interpolant, an earlier model's direct path goes on learning with the rest.
        if not self._taught and not (batches.interpolant is None and self._continued):
            model.network.direct.requires_grad_(True)
            if batches.interpolant is None:
                teach_direct_path_the_grid(model, batches.draws(), self.config, self.device, watch)
            else:
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
        known = batches.derivatives(self.step)
        if known is not None:
            at, along, there, known_change, *size = (
                part.float().to(self.device) for part in astuple(known) if part is not None
            )
            coefficients, change = derivative(network.coefficients, at, along)
            total_gradient = gradient_term(change, known_change, network.n_pixels, *size)
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
