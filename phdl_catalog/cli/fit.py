"""``phdl fit``: fitting spectra."""

from __future__ import annotations

import typer

from phdl_catalog.cli import fit_file

_commands = typer.Typer(help="Fit spectra.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    fit_file.register(_commands)
    app.add_typer(_commands, name="fit")
