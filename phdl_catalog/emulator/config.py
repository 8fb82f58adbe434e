"""The configuration of a training run: everything that decides which weights come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from phdl_catalog.emulator.distilling import DistilConfig
from phdl_catalog.emulator.interpolant import InterpolantConfig
from phdl_catalog.emulator.network import NetworkConfig
from phdl_catalog.errors import InputError

#: What is better without an interpolant, where it is not chosen otherwise.  The direct path learns from few
#: spectra again and again; a step of the encoder with derivatives costs half as much again as one without.
_WITHOUT_INTERPOLANT: dict[str, Any] = {
    "direct": DistilConfig(steps=450, batch=256, derivative_batch=128, gradient_weight=1.0),
    "steps": 1_200,
    "grid_batch": 48,
    "gradient_batch": 16,
    "gradient_every": 4,
    "learning_rate": 1e-3,
}


class TrainingConfig(BaseModel):
    """Hyperparameters of a training run; the defaults are those of the packaged model.

    The direct path is taught first: by the interpolant, then it is held; without one by the grid's own
    spectra and differential spectra, then it learns on with the rest.  After that one step takes `grid_batch`
    spectra of the grid and `interpolated_batch` draws of the interpolant, and at every `gradient_every`-th
    step for the gradient term `interpolated_gradients` derivatives of the interpolant along random labels and
    `gradient_batch` ab initio differential spectra.  Without an interpolant (``"interpolant": null``) some
    defaults are others: steps have to be cheap there, because they are what is missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkConfig = NetworkConfig()
    interpolant: InterpolantConfig | None = InterpolantConfig()
    direct: DistilConfig = DistilConfig()
    steps: int = Field(default=400, ge=1, description="Optimiser steps of the encoder.")
    grid_batch: int = Field(default=16, ge=0)
    interpolated_batch: int = Field(default=32, ge=0)
    interpolated_gradients: int = Field(default=4, ge=0)
    gradient_batch: int = Field(default=4, ge=0)
    gradient_weight: float = Field(default=1.0, ge=0, description="Weight of the gradient term; 0: none.")
    gradient_warmup: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the run over which the gradient term fades in."
    )
    gradient_every: int = Field(default=1, ge=1, description="Steps from one with derivatives to the next.")
    gradient_relative_to: Literal["derivative", "label"] = Field(
        default="label",
        description="What errors of a derivative are relative to: its own size, or its label's mean.",
    )
    encoder_cost: float = Field(
        default=1.5,
        ge=0,
        description="Weight of the square of what the encoder adds to a taught direct path, beside the flux "
        "term: the compiled form, which has no encoder, has to follow it.",
    )
    learning_rate: float = Field(default=1e-2, gt=0, description="After the warm-up.")
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    averaging: float = Field(default=0.99, ge=0, lt=1, description="Decay of the weights' running mean.")
    validate_every: int = Field(default=100, ge=1)
    patience: int = Field(
        default=30,
        ge=1,
        description="After half the run, stop when so many validations bring nothing better.",
    )
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _without_interpolant(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("interpolant", True) is None:
            return {**_WITHOUT_INTERPOLANT, **given}
        return given

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
