"""From trained weights to a model file: round, compile, evaluate, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from phdl_catalog import __version__
from phdl_catalog.emulator.checkpoint import ModelHeader, read_model, rounded, write_model
from phdl_catalog.emulator.compiled import (
    CompileConfig,
    CompiledNetwork,
    compile_network,
    measure_compile_error,
    stored_compiled_network,
)
from phdl_catalog.emulator.config import TrainingConfig
from phdl_catalog.emulator.evaluation import evaluate
from phdl_catalog.emulator.expected_error import ExpectedError, measure_expected_error
from phdl_catalog.emulator.grid import AbInitioGrid
from phdl_catalog.emulator.left_out import left_out_residuals
from phdl_catalog.emulator.losses import label_scale
from phdl_catalog.emulator.model import TransformerModel
from phdl_catalog.emulator.region import TrainingRegion
from phdl_catalog.emulator.sampling import LabelSampler
from phdl_catalog.emulator.transforms import LabelTransform
from phdl_catalog.errors import ModelError


def build_model(
    path: Path,
    name: str,
    transformer: TransformerModel,
    grid: AbInitioGrid,
    training: TrainingConfig,
    trained_steps: int,
    compiling: CompileConfig | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> ModelHeader:
    """Compile a trained transformer, measure both forms on the grid's validation split, and write the file.

    Parameters
    ----------
    path : Path
        The file to write.
    name : str
    transformer : TransformerModel
    grid : AbInitioGrid
    training : TrainingConfig
    trained_steps : int
        Steps that were taken: fewer than ``training.steps`` where the run was stopped early.
    compiling : CompileConfig, optional
    watch : callable, optional
        Called with (step, steps) of the compilation.

    Returns
    -------
    ModelHeader
        As it stands in the file, with ``metadata["metrics"]``.
    """
    compiling = compiling or CompileConfig()
    transformer = transformer.cpu().eval()
    transformer.load_state_dict(rounded(transformer.state_dict()))
    training_labels = grid.labels[~grid.is_validation]
    transform = LabelTransform(
        grid.label_names, transformer.transform.mean.numpy(), transformer.transform.scale.numpy()
    )
    sampler, network = LabelSampler.from_grid(grid), transformer.network
    compiled = compile_network(network, sampler, transform, label_scale(grid.label_names), compiling, watch)
    error = measure_compile_error(compiled, network, sampler)
    region = TrainingRegion.from_labels(grid.label_names, training_labels)
    expected, expectation = _expected_error(compiled, grid, training)
    header = ModelHeader(
        name=name,
        label_names=grid.label_names,
        pixel_first=grid.pixels.first,
        pixel_size=grid.pixels.size,
        resolution=grid.resolution,
        network=transformer.network.config.as_dict(),
        compiled={"components": compiled.network.components, "hidden": compiling.hidden},
        metadata={
            "code_version": __version__,
            "grid": grid.source,
            "n_spectra": int((~grid.is_validation).sum()),
            "training": training.as_dict(),
            "trained_steps": trained_steps,
            "compiling": asdict(compiling),
            "compile_error": asdict(error),
            "expected_error": expectation,
            "metrics": evaluate(transformer, grid).as_dict(),
            "metrics_compiled": evaluate(compiled, grid).as_dict(),
        },
    )
    tensors = {f"transformer.{key}": value for key, value in transformer.state_dict().items()}
    # The basis is the transformer's.
    tensors |= {f"compiled.{key}": v for key, v in compiled.state_dict().items() if key != "basis"}
    # One dimension each way keeps these in full precision.
    tensors["region.atmospheres"] = torch.as_tensor(region.atmospheres)
    tensors["region.label_range"] = torch.as_tensor(region.label_range)
    tensors |= expected.tensors()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_model(path, header, tensors)
    return header


def measure_expected_error_again(source: Path, target: Path, grid: AbInitioGrid) -> None:
    """Write a finished model with its expected error measured anew; everything else stays as it is.

    Parameters
    ----------
    source, target : Path
        Model files; they may be the same.
    grid : AbInitioGrid
        That of the model's training.

    Raises
    ------
    ModelError
        If it is another grid.
    """
    header, tensors = read_model(source)
    if header.metadata["grid"]["sha256"] != grid.source["sha256"]:
        raise ModelError(
            f"{source} was trained on {header.metadata['grid']['file']}, and this is another grid"
        )
    compiled = stored_compiled_network(header, tensors)
    training = TrainingConfig.model_validate(header.metadata["training"])
    expected, expectation = _expected_error(compiled, grid, training)
    kept = {key: value for key, value in tensors.items() if not key.startswith("expected_error.")}
    metadata = {**header.metadata, "expected_error": expectation}
    write_model(target, replace(header, metadata=metadata), {**kept, **expected.tensors()})


def _expected_error(
    compiled: CompiledNetwork, grid: AbInitioGrid, training: TrainingConfig
) -> tuple[ExpectedError, dict[str, Any]]:
    """That of the compiled form, which fits use, and how well it predicts validation stars."""
    left_out = None
    if training.interpolant is not None:
        left_out = left_out_residuals(
            compiled, grid, compiled.transform, compiled.basis, training.interpolant
        )
    return measure_expected_error(compiled, grid, left_out)
