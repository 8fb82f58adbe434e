"""The configuration of a training run: everything that decides which weights come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phdl_catalog.emulator.distilling import DistilConfig
from phdl_catalog.emulator.interpolant import InterpolantConfig
from phdl_catalog.emulator.network import NetworkConfig
from phdl_catalog.errors import InputError


class TrainingConfig(BaseModel):
    """Hyperparameters of a training run; the defaults are those of the packaged model.

    With an interpolant, the direct path is taught first and held; without, it begins as linear regression and
    is trained with the rest.  Then one step takes `grid_batch` spectra of the grid and `interpolated_batch`
    draws of the interpolant, and for the gradient term `interpolated_gradients` derivatives of the
    interpolant along random labels and `gradient_batch` ab initio differential spectra.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkConfig = NetworkConfig()
    interpolant: InterpolantConfig | None = InterpolantConfig()
    direct: DistilConfig = DistilConfig()
    steps: int = Field(default=1_200, ge=1, description="Optimiser steps.")
    grid_batch: int = Field(default=16, ge=0)
    interpolated_batch: int = Field(default=32, ge=0)
    interpolated_gradients: int = Field(default=4, ge=0)
    gradient_batch: int = Field(default=4, ge=0)
    gradient_weight: float = Field(default=0.3, ge=0, description="Weight of the gradient term; 0: none.")
    gradient_warmup: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the run over which the gradient term fades in."
    )
    encoder_cost: float = Field(
        default=1.5,
        ge=0,
        description="Weight of the square of what the encoder adds to a taught direct path, beside the flux "
        "term: the compiled form, which has no encoder, has to follow it.",
    )
    learning_rate: float = Field(
        default=1e-2, gt=0, description="After the warm-up; without an interpolant, 3e-3 is better."
    )
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    averaging: float = Field(default=0.99, ge=0, lt=1, description="Decay of the weights' running mean.")
    validate_every: int = Field(default=200, ge=1)
    patience: int = Field(
        default=30,
        ge=1,
        description="After half the run, stop when so many validations bring nothing better.",
    )
    seed: int = 0

    @classmethod
    def from_file(cls, path: Path) -> TrainingConfig:
        """Read a JSON file; unknown keys are errors.

        Raises
        ------
        InputError
            If it is not JSON or does not fit; the message names the key.
        """
        try:
            return cls.model_validate(json.loads(path.read_text()))
        except (OSError, json.JSONDecodeError, ValidationError) as error:
            raise InputError(f"{path} is not a training configuration: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
