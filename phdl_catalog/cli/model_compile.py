"""``phdl model compile``: the fast form of a trained model, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phdl_catalog.cli.output import JsonOption, print_json, progress_bar, stderr


def register(app: typer.Typer) -> None:
    """Add the command to the group ``phdl model``."""
    from phdl_catalog.cli.model import model_app

    model_app.command("compile")(compile_model)


def compile_model(
    model: Annotated[str, typer.Argument(help="Name of a model, or its file.")],
    grid_file: Annotated[Path, typer.Option("--grid", help="The grid that it was trained on.")],
    name: Annotated[str, typer.Option("--name", help="Name of the new model.")],
    components: Annotated[
        int | None,
        typer.Option("--components", min=1, help="Length of the basis, at most the transformer's."),
    ] = None,
    hidden: Annotated[
        int | None, typer.Option("--hidden", min=1, help="Width of the small network's hidden layers.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimiser steps; more are closer.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to write to; default: the local models.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile a trained transformer to basis and small network again, as a new model.

    Fits use the compiled form.  Its error against the transformer is measured and stored.  What was learnt of
    the model's imperfection is not taken over, because it belongs to the compiled form.
    """
    from dataclasses import replace

    import torch

    from phdl_catalog.emulator import load_model
    from phdl_catalog.emulator.building import build_model
    from phdl_catalog.emulator.compiled import CompileConfig
    from phdl_catalog.emulator.config import TrainingConfig
    from phdl_catalog.emulator.grid import load_grid
    from phdl_catalog.errors import ConflictError, ModelError
    from phdl_catalog.settings import get_settings

    settings = get_settings()
    torch.set_num_threads(settings.threads)
    emulator = load_model(model)
    path = (output or settings.models_dir) / f"{name}.safetensors"
    if path.exists():
        raise ConflictError(f"there is a model {path} already: give another --name")
    grid = load_grid(grid_file, emulator.pixels, emulator.resolution)
    if grid.source["sha256"] != emulator.metadata["grid"]["sha256"]:
        raise ModelError(
            f"{emulator.name} was trained on {emulator.metadata['grid']['file']} "
            f"({emulator.metadata['grid']['sha256'][:12]}), and {grid_file} is another grid"
        )
    usual = CompileConfig()
    config = CompileConfig(
        components=components,
        hidden=hidden or usual.hidden,
        distil=replace(usual.distil, steps=steps or usual.distil.steps),
    )
    with progress_bar() as progress:
        task = progress.add_task("compiling", total=config.distil.steps)
        header = build_model(
            path,
            name,
            emulator.transformer,
            grid,
            TrainingConfig.model_validate(emulator.metadata["training"]),
            emulator.metadata["trained_steps"],
            config,
            watch=lambda step, steps: progress.update(task, completed=step, total=steps),
        )
    if as_json:
        print_json({"model": name, "file": str(path), **header.metadata})
        return
    error = header.metadata["compile_error"]
    stderr.print(f"wrote {path}", highlight=False)
    typer.echo(
        f"{name}: {header.compiled['components']} components, rms {error['rms']:.6f} from the transformer "
        f"(basis alone {error['rms_basis']:.6f}), 99 % of pixels within {error['p99']:.6f}"
    )
