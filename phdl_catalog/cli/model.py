"""``phdl model``: training, measuring and registering model versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, progress_bar, stderr

if TYPE_CHECKING:
    from phdl_catalog.emulator import Emulator
    from phdl_catalog.emulator.training import TrainingProgress

model_app = typer.Typer(help="Model versions: train, measure, register.", no_args_is_help=True)

ModelArgument = Annotated[str, typer.Argument(help="Name of a model, or path of a model file.")]
GridOption = Annotated[Path, typer.Option("--grid", help="Ab initio grid file (HDF5).")]
DeviceOption = Annotated[str, typer.Option(help="Device of torch: cpu, cuda, cuda:1, ...")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(model_app, name="model")


@model_app.command()
def train(
    grid_file: GridOption,
    name: Annotated[str, typer.Option(help="Name of the new model.")],
    config_file: Annotated[
        Path | None,
        typer.Option("--config", help="JSON file of training options; others keep defaults."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints and the model file; default PHDL_DATA_DIR/models."),
    ] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", help="Model to begin with: an earlier version, on another grid.")
    ] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Train a model on a grid; started again after an interruption, it goes on from the last checkpoint.

    The model file, checkpoint, a JSON line for every validation and two figures go into the output folder.
    """
    import torch

    from phdl_catalog.emulator import load_model
    from phdl_catalog.emulator.building import build_model
    from phdl_catalog.emulator.config import TrainingConfig
    from phdl_catalog.emulator.figures import plot_residuals, plot_training
    from phdl_catalog.emulator.grid import load_grid
    from phdl_catalog.emulator.training import Training
    from phdl_catalog.settings import get_settings

    settings = get_settings()
    torch.set_num_threads(settings.threads)
    folder = output or settings.models_dir
    config = TrainingConfig.from_file(config_file) if config_file else TrainingConfig()
    grid = load_grid(grid_file)
    start = load_model(start_from).transformer if start_from else None
    training = Training(grid, config, folder / f"{name}.training", device, start)
    with progress_bar() as progress:
        task = progress.add_task("reading", total=None)

        def preparing(what: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, description=what)
            if done == total:
                progress.console.print(f"{what}: done", highlight=False)

        def watch(state: TrainingProgress) -> None:
            progress.update(task, completed=state.step, total=config.steps, description="training")
            progress.console.print(
                f"step {state.step}: flux term {state.loss_flux:.2f}, "
                f"gradient term {state.loss_gradient:.3f}; "
                f"validation rms {state.validation_rms:.5f} (core {state.validation_rms_core:.5f}), "
                f"gradient correlation {state.gradient_correlation:.3f}; "
                f"{state.spectra_per_second:.0f} spectra/s",
                highlight=False,
            )

        training.run(watch, preparing)
        task = progress.add_task("compiling", total=None)
        header = build_model(
            folder / f"{name}.safetensors",
            name,
            training.average,
            grid,
            config,
            training.step,
            watch=lambda step, steps: progress.update(task, completed=step, total=steps),
        )
    plot_training(training.directory / "training.jsonl", training.directory / "loss.png")
    plot_residuals(training.average.cpu(), grid, training.directory / "residuals.png")
    path = folder / f"{name}.safetensors"
    if as_json:
        print_json({"model": name, "file": str(path), **header.metadata})
        return
    stderr.print(f"wrote {path}", highlight=False)
    _print_evaluation(name, header.metadata["metrics"])


@model_app.command()
def evaluate(
    model: ModelArgument,
    grid_file: GridOption,
    everything: Annotated[
        bool, typer.Option("--all", help="Compare with all spectra of the grid, not its validation split.")
    ] = False,
    compiled: Annotated[bool, typer.Option("--compiled", help="Measure the compiled form.")] = False,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Compare a model with ab initio spectra and gradients it never saw.

    A grid that the model was not trained on is taken whole; of its own grid, the validation split.
    """
    import torch

    from phdl_catalog.emulator import load_model
    from phdl_catalog.emulator.evaluation import evaluate as compare
    from phdl_catalog.emulator.grid import load_grid
    from phdl_catalog.errors import ModelError
    from phdl_catalog.settings import get_settings

    torch.set_num_threads(get_settings().threads)
    emulator = load_model(model, device)
    grid = load_grid(grid_file, emulator.pixels, emulator.resolution)
    if grid.label_names != emulator.label_names:
        raise ModelError(
            f"the grid has the labels {', '.join(grid.label_names)}, "
            f"the model {', '.join(emulator.label_names)}"
        )
    form = emulator.compiled if compiled else emulator
    foreign = grid.source["sha256"] != emulator.metadata["grid"]["sha256"]
    result = compare(form.flux, grid, whole=everything or foreign or not grid.is_validation.any())
    if as_json:
        print_json(result.as_dict())
        return
    _print_evaluation(emulator.name, result.as_dict())


def _print_evaluation(name: str, metrics: dict[str, Any]) -> None:
    print_table(
        f"{name} against {metrics['n']} ab initio spectra it never saw",
        ("flux error", "all", "core"),
        [
            ("rms", f"{metrics['rms']:.5f}", f"{metrics['rms_core']:.5f}"),
            ("mean absolute", f"{metrics['mae']:.5f}", ""),
            ("99th percentile", f"{metrics['p99']:.5f}", ""),
        ],
    )
    if metrics["gradients"]:
        print_table(
            "gradients",
            ("label", "correlation", "relative error", "rms"),
            [
                (label, f"{q['correlation']:.4f}", f"{q['relative_error']:.3f}", f"{q['rms']:.5f}")
                for label, q in metrics["gradients"].items()
            ],
        )


def _summary(model: Emulator, path: Path) -> dict[str, Any]:
    metrics = model.metadata["metrics"]
    return {
        "name": model.name,
        "file": str(path),
        "sha256": model.sha256,
        "labels": list(model.label_names),
        "wavelength": [round(float(model.wavelength[end]), 2) for end in (0, -1)],
        "pixels": model.pixels.size,
        "resolution": model.resolution,
        "rms": metrics["rms"],
        "rms_core": metrics["rms_core"],
        "code_version": model.metadata["code_version"],
    }


@model_app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List packaged and locally trained models."""
    from phdl_catalog.emulator import load_model, local_models, packaged_models

    summaries = [_summary(load_model(path), path) for path in (packaged_models() | local_models()).values()]
    if as_json:
        print_json({"models": summaries})
        return
    print_table(
        "models",
        ("name", "labels", "rms", "rms core", "sha256", "file"),
        [
            (
                s["name"],
                len(s["labels"]),
                f"{s['rms']:.5f}",
                f"{s['rms_core']:.5f}",
                s["sha256"][:12],
                s["file"],
            )
            for s in summaries
        ],
    )


@model_app.command()
def show(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Show one model: labels and their range, grid, training, errors."""
    from phdl_catalog.emulator import find_model, load_model

    path = find_model(model)
    emulator = load_model(path)
    document = {**_summary(emulator, path), "metadata": emulator.metadata}
    if as_json:
        document["label_range"] = dict(zip(emulator.label_names, emulator.label_range, strict=True))
        print_json(document)
        return
    for key in ("name", "file", "sha256", "pixels", "wavelength", "resolution", "code_version"):
        typer.echo(f"{key:13} {document[key]}")
    typer.echo(
        f"grid          {emulator.metadata['grid']['file']} ({emulator.metadata['n_spectra']} spectra)"
    )
    error = emulator.metadata["compile_error"]
    typer.echo(f"compiled      rms {error['rms']:.5f} from the transformer")
    typer.echo(_expected_error(emulator))
    print_table(
        "labels",
        ("label", "unit", "lowest", "highest", "description"),
        [
            (label.name, label.unit, f"{low:.2f}", f"{high:.2f}", label.description)
            for label, (low, high) in zip(emulator.labels, emulator.label_range, strict=True)
        ],
    )
    _print_evaluation(emulator.name, emulator.metadata["metrics"])


def _expected_error(model: Emulator) -> str:
    """One line: the model's stated error of a solar twin and of a cool giant, and how well it is known."""
    stars = {"solar twin": (5772.0, 4.44, 0.0), "giant of 4500 K": (4500.0, 2.0, 0.0)}
    said = []
    for kind, (teff, logg, fe_h) in stars.items():
        labels = model.label_range.mean(axis=1)
        for name, value in (("teff", teff), ("logg", logg), ("fe_h", fe_h)):
            labels[model.label_names.index(name)] = value
        error = model.expected_error(labels)
        said.append(f"{kind} {float((error**2).mean() ** 0.5):.4f}")
    line = f"error         expected rms: {', '.join(said)}"
    ratio = model.metadata["expected_error"].get("held_out_ratio")
    if ratio:
        middle, low, high = ratio
        line += f"; found over expected in stars left out: {middle:.2f} (16-84 %: {low:.2f}-{high:.2f})"
    return line


@model_app.command("register")
def register_model(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Enter a model in the database, so that releases can be fitted with it; twice is the same as once."""
    from phdl_catalog.database.model_versions import sync_model
    from phdl_catalog.database.session import connect
    from phdl_catalog.emulator import load_model
    from phdl_catalog.emulator.registry import keep_model

    emulator = load_model(model)
    engine = connect()
    with engine.begin() as connection:
        sync_model(connection, emulator)
        keep_model(model, emulator.name)
    if as_json:
        print_json({"model": emulator.name, "sha256": emulator.sha256})
        return
    typer.echo(f"{emulator.name} is registered ({emulator.sha256[:12]})")
