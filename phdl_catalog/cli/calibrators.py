"""``phdl pairs``, ``references`` and ``sources``: what calibrations are made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, stderr, stdout

if TYPE_CHECKING:
    from phdl_catalog.database.calibrators import ImportReport

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="FITS, CSV, ECSV, VOTable or Parquet file, also compressed.")
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="OURS=THEIRS",
        help="A column that is not recognised: our name = its name in the file, or a multiple (ra=15*RA), "
        "an element (mg_fe=X_M[5]) or a difference (mg_fe=MG_H-FE_H) of columns.",
    ),
]

_pairs = typer.Typer(help="Wide binaries: two stars born together must agree.", no_args_is_help=True)
_references = typer.Typer(help="Labels from high-resolution spectroscopy.", no_args_is_help=True)
_sources = typer.Typer(help="Gaia sources: astrometry and photometry of stars.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(_pairs, name="pairs")
    app.add_typer(_references, name="references")
    app.add_typer(_sources, name="sources")


@_pairs.command("import")
def import_pairs(
    file: FileArgument,
    catalogue: Annotated[
        str | None, typer.Option(help="Name of the catalogue; by default that of the file.")
    ] = None,
    stars: Annotated[
        Path | None,
        typer.Option(help="Table of the stars, if FILE only has their numbers in it, as Oh et al. (2017)."),
    ] = None,
    map_: MapOption = None,
    json: JsonOption = False,
) -> None:
    """Import wide binaries; the columns of El-Badry, Rix & Heintz (2021) are recognised."""
    from phdl_catalog.database import calibrators
    from phdl_catalog.database.session import connect

    report = calibrators.import_pairs(connect(pooled=False), file, catalogue, mapping_of(map_), stars=stars)
    _show(report, "pairs", json)


@_references.command("import")
def import_references(
    file: FileArgument,
    survey: Annotated[str, typer.Option(help="Name of the survey; each has zero-points of its own.")],
    map_: MapOption = None,
    min_snr: Annotated[
        float, typer.Option(help="Rows with a smaller S/N, if the file has one, are not used.")
    ] = 0.0,
    json: JsonOption = False,
) -> None:
    """Import reference labels; APOGEE, GALAH, Hypatia and our own column names are recognised."""
    from phdl_catalog.database import calibrators
    from phdl_catalog.database.session import connect

    report = calibrators.import_references(
        connect(pooled=False), file, survey, mapping_of(map_), min_snr=min_snr
    )
    _show(report, "stars", json)


@_sources.command("import")
def import_sources(file: FileArgument, map_: MapOption = None, json: JsonOption = False) -> None:
    """Import Gaia sources; Gaia's own column names are recognised."""
    from phdl_catalog.database import sources
    from phdl_catalog.database.session import connect

    _show(sources.import_sources(connect(pooled=False), file, mapping_of(map_)), "sources", json)


def mapping_of(given: list[str] | None) -> dict[str, str]:
    """What `--map` says: our names to those of the file."""
    mapping = {}
    for entry in given or ():
        ours, separator, theirs = entry.partition("=")
        if not (separator and ours and theirs):
            raise typer.BadParameter(f"'{entry}' is not OURS=THEIRS", param_hint="--map")
        mapping[ours.strip()] = theirs.strip()
    return mapping


def _show(report: ImportReport, what: str, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json(asdict(report))
        return
    stdout.print(
        f"{report.rows} rows: {report.used} {what} used; {report.new} new in the database", highlight=False
    )
    if report.values:
        listed = ", ".join(f"{label} {count}" for label, count in report.values.items())
        stdout.print(f"values: {listed}", highlight=False)
    for title, counts in (("Rows not used", report.skipped), ("Single values not used", report.left_out)):
        if counts:
            print_table(title, ("", "count"), list(counts.items()))
    for warning in report.warnings:
        stderr.print(f"looks wrong: {warning}", highlight=False)
    renamed = [(ours, theirs) for ours, theirs in report.columns.items() if ours != theirs]
    if renamed:
        print_table("Columns under another name", ("ours", "in the file"), renamed)
