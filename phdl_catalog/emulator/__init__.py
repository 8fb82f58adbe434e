"""PhDLspec: ab initio grid, transformer, training, compiled form, checkpoint, evaluation."""

from phdl_catalog.emulator.model import CompiledEmulator, Emulator, SpectrumModel
from phdl_catalog.emulator.registry import find_model, load_model, local_models, packaged_models

__all__ = [
    "CompiledEmulator",
    "Emulator",
    "SpectrumModel",
    "find_model",
    "load_model",
    "local_models",
    "packaged_models",
]
