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
    """Apply the migrations that are missing, and make the roles; with nothing missing it does nothing.

    Roles for which the settings have a password (PHDL_WORKER_PASSWORD, PHDL_DISPATCHER_PASSWORD,
    PHDL_PAGES_PASSWORD, PHDL_READER_PASSWORD) are given it.
    """
    from phdl_catalog.database import migrate
    from phdl_catalog.database.roles import chosen_passwords
    from phdl_catalog.database.session import connect
    from phdl_catalog.settings import get_settings

    engine = connect(pooled=False)
    passwords = chosen_passwords(get_settings())
    changed = migrate.upgrade(engine, passwords)
    now = migrate.schema_status(engine)
    if as_json:
        print_json({"changed": changed, "revision": now.current, "passwords_set": sorted(passwords)})
        return
    typer.echo(f"upgraded to revision {now.current}" if changed else f"already at revision {now.current}")
    if passwords:
        typer.echo(f"passwords set for {', '.join(passwords)}")


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
