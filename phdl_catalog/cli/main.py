"""The ``phdl`` command: groups of commands, each a thin module of this package."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from phdl_catalog import __version__
from phdl_catalog.errors import PhdlError

app = typer.Typer(
    name="phdl",
    help="From a spectroscopic data release to a calibrated catalogue of stellar abundances.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Modules of this package, in the order of the help page; each defines ``register(app)``.
_COMMAND_MODULES: tuple[str, ...] = (
    "services",
    "db",
    "release",
    "ingest",
    "spectrum",
    "grid",
    "grid_synthesis",
    "model",
    "model_imperfection",
    "model_compare",
    "model_compile",
    "fit",
    "calibrators",
    "calibration",
    "catalog",
    "explain",
    "sql",
    "worker",
    "serve",
    "demo",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"phdl-catalog {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options that stand before the command."""


for _name in _COMMAND_MODULES:
    import_module(f"phdl_catalog.cli.{_name}").register(app)


def main() -> None:
    """Entry point: errors of ours become one line on stderr and exit code 1."""
    try:
        app()
    except PhdlError as error:
        from rich.text import Text

        from phdl_catalog.cli.output import print_json, printable, stderr

        if "--json" in sys.argv:
            print_json({"error": {"kind": type(error).__name__, "message": str(error)}})
        stderr.print(Text.assemble(("error:", "bold red"), f" {printable(error)}"))
        sys.exit(1)
    except KeyboardInterrupt:
        from phdl_catalog.cli.output import stderr

        stderr.print("stopped", highlight=False)
        sys.exit(130)


if __name__ == "__main__":
    main()
