"""``phdl calibration plot``: the figures of a calibration set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phdl_catalog.cli.output import JsonOption, print_json, progress_bar, stdout


def plot(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of the calibration set.")],
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", help="Label to draw; may be repeated; default: all calibrated ones."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to; default: one named as the set.")
    ] = None,
    file_format: Annotated[str, typer.Option("--format", help="png, pdf or svg.")] = "png",
    json: JsonOption = False,
) -> None:
    """Draw a set: pairs before and after, references, corrections with error bands, pulls, and errors.

    One file a label; one with the scatter of all labels, one with their errors from repeats against S/N. The
    page of a catalogue (`phdl serve`) shows the same figures.
    """
    from phdl_catalog.database.calibration_figures import SetFigures
    from phdl_catalog.database.session import connect

    if file_format not in ("png", "pdf", "svg"):
        raise typer.BadParameter(f"'{file_format}' is not png, pdf or svg", param_hint="--format")
    folder = output or Path(name)
    files = []
    with connect(pooled=False).connect() as connection, progress_bar() as bar:
        figures = SetFigures(connection, name)
        wanted = figures.names(label or ())
        folder.mkdir(parents=True, exist_ok=True)
        task = bar.add_task("figures", total=len(wanted))
        for entry in wanted:
            files.append(folder / f"{entry}.{file_format}")
            figures.draw(entry, files[-1])
            bar.advance(task)
    if json:
        print_json({"set": name, "files": [str(file) for file in files]})
    else:
        stdout.print(f"{len(files)} figures in {folder}", highlight=False)
