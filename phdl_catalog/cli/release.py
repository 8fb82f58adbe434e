"""``phdl release``: data releases."""

from __future__ import annotations

from typing import Annotated

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, stdout

_commands = typer.Typer(help="Data releases.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(_commands, name="release")


@_commands.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name of the release, e.g. dr10.")],
    description: Annotated[str | None, typer.Option(help="What it is, for a person.")] = None,
    json: JsonOption = False,
) -> None:
    """Add a data release."""
    from phdl_catalog.database.releases import add_release
    from phdl_catalog.database.session import connect

    release_id = add_release(connect(pooled=False), name, description)
    if json:
        print_json({"release": name, "release_id": release_id, "description": description})
    else:
        stdout.print(f"added release {name}; `phdl ingest {name} PATH...` fills it", highlight=False)


@_commands.command("list")
def list_(json: JsonOption = False) -> None:
    """List the data releases with their counts."""
    from phdl_catalog.database.releases import list_releases
    from phdl_catalog.database.session import connect

    releases = list_releases(connect(pooled=False))
    if json:
        print_json(
            {
                "releases": [
                    {
                        "release": release.name,
                        "description": release.description,
                        "created_at": release.created_at.isoformat(),
                        "accepted": release.accepted,
                        "rejected": release.rejected,
                    }
                    for release in releases
                ]
            }
        )
        return
    print_table(
        "Data releases",
        ("release", "accepted", "rejected", "added", "description"),
        [
            (item.name, item.accepted, item.rejected, f"{item.created_at:%Y-%m-%d %H:%M}", item.description)
            for item in releases
        ],
    )


@_commands.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of the release.")],
    json: JsonOption = False,
) -> None:
    """Show what is in a data release: states, reasons, layouts, classes, signal to noise."""
    from phdl_catalog.database.releases import describe_release
    from phdl_catalog.database.session import connect

    content = describe_release(connect(pooled=False), name)
    release = content.release
    if json:
        print_json(
            {
                "release": release.name,
                "description": release.description,
                "created_at": release.created_at.isoformat(),
                "accepted": release.accepted,
                "rejected": release.rejected,
                "reasons": content.reasons,
                "layouts": content.layouts,
                "classes": content.classes,
                "snr_g": content.snr_g,
                "gaia_sources": content.stars,
            }
        )
        return
    described = f": {release.description}" if release.description else ""
    stdout.print(
        f"{release.name}{described}\n{release.accepted} accepted, {release.rejected} rejected; "
        f"{content.stars} Gaia sources named",
        highlight=False,
    )
    for title, counts in (
        ("Rejected, by reason", content.reasons),
        ("Accepted, by layout", content.layouts),
        ("Accepted, by class", content.classes),
        ("Accepted, by signal to noise (g)", content.snr_g),
    ):
        if counts:
            print_table(title, (title.rsplit("by ", 1)[-1], "files"), list(counts.items()))
