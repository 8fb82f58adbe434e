"""``phdl ingest``: files into the database and the pixel store."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, printable, progress_bar, stderr


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("ingest")(ingest)


def ingest(
    release: Annotated[str, typer.Argument(help="Name of the data release.")],
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders with all below them, or patterns in quotes.")
    ],
    processes: Annotated[
        int | None, typer.Option(min=1, help="Reading processes; by default PHDL_THREADS.")
    ] = None,
    create: Annotated[bool, typer.Option(help="Add the release if it is not there.")] = True,
    json: JsonOption = False,
) -> None:
    """Ingest spectra into a data release; run it again to go on after an interruption."""
    from phdl_catalog.database.ingest import ingest as run_ingest
    from phdl_catalog.database.ingest_files import FileTree
    from phdl_catalog.database.session import connect
    from phdl_catalog.errors import InputError
    from phdl_catalog.settings import get_settings
    from phdl_catalog.spectra import PixelStore

    settings = get_settings()
    try:
        tree = FileTree(paths)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="PATHS") from error
    engine = connect(settings)
    try:
        with progress_bar() as progress:
            task = progress.add_task(f"ingest {release}", total=tree.count())
            summary = run_ingest(
                engine,
                PixelStore(settings.pixel_store_url),
                release,
                paths,
                processes=processes or settings.threads,
                create=create,
                on_progress=lambda files: progress.advance(task, files),
            )
    except KeyboardInterrupt:
        stderr.print("stopped; what was done is safe, run the same command again to go on", highlight=False)
        raise typer.Exit(130) from None
    finally:
        engine.dispose()
    if json:
        document = {name: value for name, value in asdict(summary).items() if name != "conflict_list"}
        listed = [asdict(conflict) for conflict in summary.conflict_list]
        for item in listed:
            item["obsid"] = None if item["obsid"] is None else str(item["obsid"])
        # `asdict` makes pairs of what a Counter counts.
        reasons = dict(summary.reasons)
        print_json(document | {"reasons": reasons, "rate": summary.rate, "conflicting": listed})
        for conflict in summary.conflict_list:
            stderr.print(f"conflict: {printable(conflict.detail)}", highlight=False, soft_wrap=True)
        if summary.conflicts:
            raise typer.Exit(1)
        return
    if summary.created:
        stderr.print(f"release {release} is new and was added", highlight=False)
    rows = [
        ("accepted", summary.accepted),
        *((f"rejected: {reason}", count) for reason, count in summary.reasons.most_common()),
        ("unchanged", summary.unchanged),
        ("conflicts", summary.conflicts),
        ("all", summary.found),
    ]
    megabytes = summary.bytes_read / 1e6
    print_table(
        f"Ingest of {release}: {summary.rate:,.0f} files/s, {megabytes:,.1f} MB in {summary.seconds:.1f} s",
        ("what", "files"),
        rows,
    )
    summary.raise_conflicts()
