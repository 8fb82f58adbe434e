"""``phdl db``: the schema of the database."""

from __future__ import annotations

from typing import Annotated

import typer

from phdl_catalog.cli.output import JsonOption, print_json

_app = typer.Typer(help="The schema of the database.", no_args_is_help=True)

DeepOption = Annotated[
    bool, typer.Option("--deep", help="Compare every table, column and index, not the revision alone.")
]


@_app.command()
def upgrade(as_json: JsonOption = False) -> None:
    """Apply the migrations that are missing; with nothing missing it does nothing."""
    from phdl_catalog.database import migrate
    from phdl_catalog.database.session import connect

    engine = connect(pooled=False)
    changed = migrate.upgrade(engine)
    now = migrate.schema_status(engine)
    if as_json:
        print_json({"changed": changed, "revision": now.current})
    else:
        typer.echo(f"upgraded to revision {now.current}" if changed else f"already at revision {now.current}")


@_app.command()
def check(deep: DeepOption = False, as_json: JsonOption = False) -> None:
    """Check that the schema is what this version of the code expects; exit code 1 if it is not."""
    from phdl_catalog.database import migrate
    from phdl_catalog.database.session import connect

    engine = connect(pooled=False)
    migrate.check(engine, deep=deep)
    now = migrate.schema_status(engine)
    if as_json:
        print_json({"revision": now.current, "expected": now.expected, "matches": now.matches})
    else:
        typer.echo(f"the schema is at revision {now.current}, as expected")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="db")
