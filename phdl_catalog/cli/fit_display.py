"""How the state of fit runs looks on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from phdl_catalog.cli.output import print_table, printable, stderr, stdout

if TYPE_CHECKING:
    from rich.progress import Progress
    from sqlalchemy import Engine

    from phdl_catalog.database.fit_plan import Plan
    from phdl_catalog.database.run_status import ErrorStatus, RunStatus, WorkerStatus


@dataclass(frozen=True)
class Look:
    """What is seen at one moment."""

    runs: list[RunStatus]
    workers: list[WorkerStatus]
    errors: list[ErrorStatus]

    def as_dict(self) -> dict[str, Any]:
        return {
            "runs": [run.as_dict() for run in self.runs],
            "workers": [asdict(worker) for worker in self.workers],
            "errors": [asdict(error) for error in self.errors],
        }

    @property
    def over(self) -> bool:
        """Whether no run goes on."""
        return all(run.state in ("done", "cancelled", "paused") for run in self.runs)


def look(engine: Engine, run: int | None) -> Look:
    """Read the state from the database."""
    from phdl_catalog.database.run_status import error_status, run_status, worker_status

    with engine.connect() as connection:
        return Look(
            run_status(connection, run), worker_status(connection, run), error_status(connection, run)
        )


def show_status(found: Look) -> None:
    """Print one look."""
    if not found.runs:
        stdout.print("there are no runs; `phdl fit enqueue RELEASE --model M` makes one", highlight=False)
        return
    stdout.print(_tables(found))


def watch_status(engine: Engine, run: int | None, interval: float, *, quiet: bool) -> None:
    """Show the state again and again until the runs are over, or Ctrl-C.

    A database that is away for a while is waited for; the first look must succeed.
    """
    from sqlalchemy.exc import OperationalError

    from phdl_catalog.errors import ServiceError

    console = stderr if quiet else stdout
    found = look(engine, run)
    with Live(_tables(found), console=console, auto_refresh=False) as live:
        try:
            while not found.over:
                time.sleep(interval)
                try:
                    found = look(engine, run)
                except (OperationalError, ServiceError):
                    away = Text("the database does not answer; this is how it was", style="bold red")
                    live.update(Group(_tables(found), away), refresh=True)
                    continue
                live.update(_tables(found), refresh=True)
        except KeyboardInterrupt:
            return


def run_progress(engine: Engine, bar: Progress) -> Callable[[], None]:
    """A function that brings a progress bar up to date with all runs that go on."""
    task = bar.add_task("fitting", total=None)
    begun: set[int] = set()

    def update() -> None:
        from sqlalchemy.exc import DBAPIError

        from phdl_catalog.errors import ServiceError

        try:
            runs = look(engine, None).runs
        except (DBAPIError, ServiceError):
            return
        begun.update(run.run for run in runs if run.state in ("planned", "running"))
        shown = [run for run in runs if run.run in begun]
        total = sum(run.spectra - run.cancelled for run in shown)
        bar.update(task, completed=sum(run.done + run.failed for run in shown), total=total or None)

    return update


def show_plan(plan: Plan) -> None:
    """Print a plan."""
    rate = "unknown until a first run" if plan.rate is None else f"{plan.rate:,.1f} spectra/s a process"
    rows = [
        ("spectra selected", f"{plan.selected:,}"),
        ("spectra to fit", f"{plan.spectra:,}"),
        ("jobs", f"{plan.chunks:,} of {plan.chunk_size}"),
        (
            "rate",
            rate + {"runs": " (latest jobs)", "sample": " (a sample, now)"}.get(plan.rate_from or "", ""),
        ),
        ("time, one process", duration(plan.seconds)),
        ("disk in the database", size(plan.bytes)),
        ("run", f"{plan.run} exists already" if plan.run else "a new one"),
    ]
    print_table(f"{plan.release} with {plan.model}", ("", ""), rows)


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """Bytes in the unit that suits."""
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= length:
            return f"{n_bytes / length:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def _tables(found: Look) -> Group:
    tables = [_run_table(found.runs), _job_table(found.runs)]
    if found.errors:
        tables.append(
            _table(
                "errors",
                ("kind", "jobs", "latest"),
                [(error.kind, error.chunks, error.latest[:200]) for error in found.errors],
            )
        )
    # Last, since there may be more of them than a terminal has lines.
    if found.workers:
        tables.append(
            _table(
                "workers",
                ("worker", "device", "jobs now", "spectra/s"),
                [
                    (worker.worker, worker.device, worker.running, _number(worker.rate))
                    for worker in found.workers
                ],
            )
        )
    return Group(*tables)


def _run_table(runs: list[RunStatus]) -> Table:
    heads = ("run", "release", "model", "state", "spectra", "done", "failed", "rate/s", "left")
    rows = [
        (
            run.run,
            run.release,
            run.model,
            run.state,
            f"{run.spectra:,}",
            f"{run.done:,}",
            f"{run.failed:,}",
            _number(run.rate),
            duration(run.eta_s),
        )
        for run in runs
    ]
    return _table("fit runs", heads, rows)


def _job_table(runs: list[RunStatus]) -> Table:
    rows = [
        (
            run.run,
            ", ".join(f"{count} {state}" for state, count in sorted(run.chunks.items())),
            duration(run.oldest_due_s if run.state in ("planned", "running") else None),
        )
        for run in runs
    ]
    return _table("jobs", ("run", "jobs by state", "oldest waits since"), rows)


def _table(title: str, heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for head in heads:
        numeric = head in ("run", "spectra", "done", "failed", "rate/s", "left", "spectra/s", "jobs now")
        table.add_column(head, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(printable(value) for value in row))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
