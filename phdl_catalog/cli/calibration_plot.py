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

    One file a label; one with the scatter of all labels, one with their errors from repeats against S/N.
    """
    from phdl_catalog.calibration.error_figure import draw_errors
    from phdl_catalog.calibration.figures import draw_label, draw_overview, labels_to_draw
    from phdl_catalog.database.calibration_members import calibrator_stars, read_equations
    from phdl_catalog.database.calibration_sets import find_set, load_solution
    from phdl_catalog.database.session import connect
    from phdl_catalog.errors import InputError

    if file_format not in ("png", "pdf", "svg"):
        raise typer.BadParameter(f"'{file_format}' is not png, pdf or svg", param_hint="--format")
    folder = output or Path(name)
    with connect(pooled=False).connect() as connection:
        row = find_set(connection, name)
        solution = load_solution(connection, name)
        wanted = labels_to_draw(solution, label or ())
        if unknown := [entry for entry in wanted if entry not in solution.label_names]:
            raise InputError(
                f"set '{name}' has no label '{unknown[0]}'; it has {', '.join(solution.label_names)}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        title = f"calibration set {row.name} of model {row.model} ({row.state})"
        overview = folder / f"overview.{file_format}"
        draw_overview(solution.report(), overview, title)
        errors = folder / f"errors.{file_format}"
        draw_errors([entry.error_scale for entry in solution.corrections], errors, title)
        files = [overview, errors]
        stars = calibrator_stars(connection, row)
        with progress_bar() as bar:
            task = bar.add_task("figures", total=len(wanted))
            for entry in wanted:
                pairs, references = (
                    read_equations(connection, row, entry, kind) for kind in ("pair", "reference")
                )
                files.append(folder / f"{entry}.{file_format}")
                draw_label(solution, entry, pairs, references, stars, files[-1], f"{entry}: {title}")
                bar.advance(task)
    if json:
        print_json({"set": name, "files": [str(file) for file in files]})
    else:
        stdout.print(f"{len(files)} figures in {folder}", highlight=False)
