"""``phdl grid``: ab initio grids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table

grid_app = typer.Typer(help="Ab initio grids of model spectra.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(grid_app, name="grid")


@grid_app.command()
def info(
    file: Annotated[Path, typer.Argument(help="Grid file (HDF5).")], as_json: JsonOption = False
) -> None:
    """Check a grid file and say what it covers."""
    import numpy as np

    from phdl_catalog.emulator.grid import load_grid
    from phdl_catalog.labels import get_label

    grid = load_grid(file)
    percentiles = np.percentile(grid.labels, [0, 5, 50, 95, 100], axis=0)
    gradients = grid.gradients
    document: dict[str, Any] = {
        "file": str(file),
        "sha256": grid.source["sha256"],
        "spectra": len(grid),
        "stars": len(set(grid.star.tolist())),
        "validation_spectra": int(grid.is_validation.sum()),
        "gradient_stars": 0 if gradients is None else len(gradients),
        "attributes": grid.source["attributes"],
        "labels": {
            name: dict(zip(("min", "p05", "median", "p95", "max"), percentiles[:, index], strict=True))
            for index, name in enumerate(grid.label_names)
        },
    }
    if as_json:
        print_json(document)
        return
    print_table(
        f"{file.name}: {document['spectra']} spectra of {document['stars']} stars, "
        f"{document['validation_spectra']} of them for validation; "
        f"differential spectra of {document['gradient_stars']} stars",
        ("label", "unit", "min", "5 %", "median", "95 %", "max"),
        [
            (name, get_label(name).unit, *(f"{value:.2f}" for value in row.values()))
            for name, row in document["labels"].items()
        ],
    )
