"""The model file: tensors in safetensors, everything else as JSON in its header.

Nothing in it can execute code.  The encoder's matrices, most of the file, are stored in half precision, which
the little that it adds to a spectrum does not feel; the basis and the networks for its coefficients keep all
digits.  All metrics are taken after that rounding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from phdl_catalog.errors import ModelError

#: Raised when what a file holds changes its meaning; files of other versions are refused.
FORMAT_VERSION = 3

_HEADER_KEY = "phdl"

#: Parts of the transformer whose matrices are halved, and those of the expected error.
_HALVED = frozenset({"label_features", "label_embedding", "position", "blocks", "head", "expected_error"})


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says of itself.

    Parameters
    ----------
    name : str
    label_names : tuple of str
    pixel_first, pixel_size : int
        The pixel grid.
    resolution : float
    network, compiled : dict
        Shapes of the transformer and of the compiled form.
    metadata : dict
        Grid, training configuration, metrics, code version.
    """

    name: str
    label_names: tuple[str, ...]
    pixel_first: int
    pixel_size: int
    resolution: float
    network: dict[str, Any]
    compiled: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


def _stored(key: str, value: Tensor) -> Tensor:
    """A tensor of a model as the file has it: the encoder's matrices in half precision."""
    part = key.removeprefix("transformer.").removeprefix("network.").split(".")[0]
    half = part in _HALVED and value.ndim >= 2 and value.dtype == torch.float32
    return value.half() if half else value


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a transformer as they will come out of a file."""
    return {key: _stored(key, value).to(value.dtype) for key, value in tensors.items()}


def write_model(path: Path, header: ModelHeader, tensors: dict[str, Tensor]) -> None:
    """Write a model file; the same model always gives the same bytes."""
    document = {"format_version": FORMAT_VERSION, **header.__dict__, "label_names": list(header.label_names)}
    stored = {key: _stored(key, value).contiguous().cpu() for key, value in sorted(tensors.items())}
    data = serialise(stored, metadata={_HEADER_KEY: json.dumps(document, sort_keys=True)})
    temporary = path.with_suffix(".partial")
    temporary.write_bytes(data)
    temporary.replace(path)


def read_model(path: Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    """Read a model file.

    Raises
    ------
    ModelError
        If it is no safetensors file, not ours, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            raw = (file.metadata() or {}).get(_HEADER_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a model file: {error}") from error
    if raw is None:
        raise ModelError(f"{path} is a safetensors file, but not one of a phdl model")
    document = json.loads(raw)
    version = document.pop("format_version", 0)
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path} has format {version}, this program reads {FORMAT_VERSION}: "
            + ("update phdl-catalog" if version > FORMAT_VERSION else "train it again, or use its program")
        )
    try:
        header = ModelHeader(**{**document, "label_names": tuple(document["label_names"])})
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path} has an incomplete header: {error}") from error
    single = {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}
    return header, single
