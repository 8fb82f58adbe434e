"""PhDLspec: ab initio grid, transformer, training, compiled form, checkpoint, evaluation.

The names below load on first use: a process that computes spectra or reads a grid needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phdl_catalog.emulator.model import CompiledEmulator, Emulator, SpectrumModel
    from phdl_catalog.emulator.registry import find_model, load_model, local_models, packaged_models

_FACE = {
    "CompiledEmulator": "phdl_catalog.emulator.model",
    "Emulator": "phdl_catalog.emulator.model",
    "SpectrumModel": "phdl_catalog.emulator.model",
    "find_model": "phdl_catalog.emulator.registry",
    "load_model": "phdl_catalog.emulator.registry",
    "local_models": "phdl_catalog.emulator.registry",
    "packaged_models": "phdl_catalog.emulator.registry",
}

__all__ = [
    "CompiledEmulator",
    "Emulator",
    "SpectrumModel",
    "find_model",
    "load_model",
    "local_models",
    "packaged_models",
]


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(import_module(_FACE[name]), name)
    raise AttributeError(f"module 'phdl_catalog.emulator' has no attribute '{name}'")
