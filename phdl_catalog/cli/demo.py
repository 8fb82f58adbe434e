"""``phdl demo``: the whole chain on a simulated release, by the commands that a user types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phdl_catalog.cli.output import JsonOption, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    directory: Annotated[
        Path, typer.Option("--directory", "-d", help="Folder for the servers, the files and the results.")
    ] = Path("demo-data"),
    model: Annotated[str, typer.Option(help="Model that makes the spectra and fits them.")] = "default",
    stars: Annotated[int, typer.Option(min=60, help="Stars to simulate.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is drawn.")] = 20260202,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave PostgreSQL and Redis running at the end.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what an earlier demo left, first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Simulate a data release with known truth, fit, calibrate and publish it, and compare with the truth.

    Run again, it goes on with what is there: the same files are not ingested twice, nothing is fitted twice.
    """
    from phdl_catalog.cli.demo_chain import DemoOptions, run_demo

    options = DemoOptions(directory, model, stars, seed, keep_running, fresh)
    document = run_demo(options, quiet=as_json)
    if as_json:
        print_json(document)
