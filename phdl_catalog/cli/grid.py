"""``phdl grid``: ab initio grids."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, progress_bar, stderr, stdout

if TYPE_CHECKING:
    from phdl_catalog.emulator.grid_files.coverage import GridCoverage

grid_app = typer.Typer(help="Ab initio grids of model spectra.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(grid_app, name="grid")


@grid_app.command()
def info(
    file: Annotated[Path, typer.Argument(help="Grid file (HDF5).")],
    plot: Annotated[
        Path | None, typer.Option(help="Draw the coverage into this file (.png, .pdf or .svg).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a grid file to its last pixel, and say and draw what it covers."""
    from phdl_catalog.emulator.grid import file_sha256
    from phdl_catalog.emulator.grid_files.coverage import GridCoverage

    coverage = GridCoverage.of(file)
    if plot is not None:
        from phdl_catalog.emulator.grid_files.figure import plot_coverage

        plot_coverage(coverage, plot)
    document = {"file": str(file), "sha256": file_sha256(file), **coverage.as_dict()}
    if as_json:
        print_json(document)
        return
    _print_info(coverage, document)
    if plot is not None:
        stderr.print(f"wrote {plot}", highlight=False)


def _print_info(coverage: GridCoverage, document: dict[str, Any]) -> None:
    from rich.text import Text

    from phdl_catalog.emulator.grid_files.coverage import REFERENCE_MARK, VALIDATION_MARK, kiel_panel

    contents, waves = coverage.contents, document["wavelength"]
    facts = [
        ("spectra", f"{document['spectra']:,} of {document['stars']:,} stars"),
        (
            "validation",
            f"{document['validation_spectra']:,} spectra of {document['validation_stars']:,} stars",
        ),
        (
            "differential spectra",
            f"{document['gradient_stars']} stars, {document['validation_gradient_stars']} for validation",
        ),
        ("wavelengths", f"{waves['min']:.2f} to {waves['max']:.2f} A in vacuum, {waves['pixels']:,} pixels"),
        ("resolving power", f"{document['resolution']:g}"),
        ("sha256", document["sha256"]),
        *((k, v) for k, v in document["attributes"].items() if k not in ("resolution", "medium")),
    ]
    print_table(_title(coverage), ("", ""), facts)
    for line in kiel_panel(contents):
        text = Text(line)
        text.highlight_regex(f"{VALIDATION_MARK}(?![a-z])", "bold dark_orange")
        text.highlight_regex(re.escape(REFERENCE_MARK), "bold red")
        stdout.print(text, soft_wrap=True)
    legend = f"shade: training   {VALIDATION_MARK}: validation   {REFERENCE_MARK}: differential spectra"
    stdout.print(f"       {legend}\n", highlight=False, style="italic")
    steps = document["steps"]
    print_table(
        "",
        ("label", "unit", "min", "5 %", "median", "95 %", "max", "gradient step"),
        [
            (
                label.name,
                label.unit,
                *(f"{value:.{label.decimals}f}" for value in document["labels"][label.name].values()),
                "" if steps is None else f"{steps[label.name]:g}",
            )
            for label in contents.definitions
        ],
    )
    for label in contents.declared:
        stdout.print(
            f"{label.name} is declared by the file: {label.description}, {label.lower:g} to {label.upper:g} "
            f"{label.unit}",
            highlight=False,
        )
    for remark in coverage.remarks:
        stdout.print(f"note: {remark}", highlight=False, markup=False)


def _title(coverage: GridCoverage) -> str:
    """What stands above the facts."""
    return f"{coverage.path.name}: a valid grid of {len(coverage.contents.definitions)} labels"


@grid_app.command("import")
def import_arrays(
    sources: Annotated[
        list[Path], typer.Argument(help="Files of arrays: npz, HDF5 or FITS; several are put together.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Grid file to make (HDF5).")],
    mapping_file: Annotated[
        Path | None,
        typer.Option("--mapping", help="TOML or JSON file: which array is what, in which units."),
    ] = None,
    label_names: Annotated[
        str | None,
        typer.Option(help="Names of the columns of the label array, with commas: teff,logg,fe_h,mg_fe."),
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Resolving power lambda / FWHM of the spectra.")
    ] = None,
    air: Annotated[
        bool, typer.Option("--air", help="Wavelengths are those in air; they are converted.")
    ] = False,
    degrade_to: Annotated[
        float | None,
        typer.Option(
            help="Store the spectra at this lower resolving power, e.g. 5000; brings sources together."
        ),
    ] = None,
    validation_share: Annotated[
        float | None,
        typer.Option(help="Share of the families for validation where the source has no split; default 0.1."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of that choice; default 0.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the grid file if it is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a grid file of arrays: normalised spectra of your own, and the labels they were computed with.

    Without a mapping the arrays are expected under the names that they have in a grid file: wavelength,
    labels, flux, and if there are such star, split, gradients/labels and so on.
    """
    from phdl_catalog.emulator.grid_files import GridMapping, import_grid

    mapping = GridMapping.from_file(mapping_file) if mapping_file else GridMapping()
    names = tuple(name.strip() for name in label_names.split(",")) if label_names else None
    mapping = mapping.with_options(names, resolution, air, validation_share, seed)
    with progress_bar() as progress:
        task = progress.add_task("importing", total=None)
        made = import_grid(
            sources,
            output,
            mapping,
            degrade_to=degrade_to,
            overwrite=overwrite,
            watch=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print_json({**asdict(made), "path": str(made.path)})
        return
    print_table(
        f"wrote {made.path}",
        ("", ""),
        [
            ("spectra", f"{made.spectra:,} of {made.families:,} stars"),
            ("for validation", f"{made.validation_spectra:,} spectra"),
            ("differential spectra", f"{made.reference_stars} stars"),
            ("labels", ", ".join(made.label_names)),
            ("pixels", f"{made.pixels:,} at R = {made.resolution:g}"),
        ],
    )
    for remark in made.remarks:
        stderr.print(f"note: {remark}", highlight=False, markup=False)
