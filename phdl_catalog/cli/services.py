"""``phdl up``, ``down``, ``status``: the servers."""

from __future__ import annotations

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, stderr


def up(as_json: JsonOption = False) -> None:
    """Start PostgreSQL and Redis and bring the database schema up to date."""
    from phdl_catalog import services

    with stderr.status("starting") as spinner:
        services.up(report=spinner.update)
    _show(as_json)


def down(as_json: JsonOption = False) -> None:
    """Stop the embedded servers; nothing that was committed is lost."""
    from phdl_catalog import services

    with stderr.status("stopping") as spinner:
        stopped = services.down(report=spinner.update)
    if as_json:
        print_json({"stopped": stopped})
    else:
        typer.echo(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def status(as_json: JsonOption = False) -> None:
    """Show which servers run, where, and which versions."""
    _show(as_json)


def _show(as_json: bool) -> None:
    from dataclasses import asdict

    from phdl_catalog import services
    from phdl_catalog.settings import get_settings

    found = services.status()
    if as_json:
        print_json(
            {"data_dir": str(get_settings().data_dir), "services": [asdict(service) for service in found]}
        )
        return
    for service in found:
        facts = {
            "state": "running" if service.running else "down",
            "version": service.version,
            "url": service.url,
            "process": service.pid,
            "since": service.started_at,
            "size": _megabytes(service.size),
            "directory": service.directory or "not ours to start: its URL was given",
            "detail": service.detail,
        }
        rows = [(name, str(value)) for name, value in facts.items() if value is not None]
        print_table(service.name, ("", ""), rows)


def _megabytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:.1f} MB"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
