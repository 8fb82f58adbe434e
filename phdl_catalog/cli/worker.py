"""``phdl worker`` and ``phdl dispatcher``: the processes that do the jobs of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from phdl_catalog.cli.output import JsonOption, print_json, progress_bar, stderr

if TYPE_CHECKING:
    from sqlalchemy import Engine

_LogLevel = Annotated[
    str, typer.Option("--log-level", help="Least level of the logs on stderr: DEBUG, INFO, WARNING, ERROR.")
]

_MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port", min=1, max=65535, help="Show metrics for Prometheus on this port; default: nowhere."
    ),
]
_MetricsHost = Annotated[
    str, typer.Option("--metrics-host", help="Address that the port of the metrics listens on.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("worker")(worker)
    app.command("dispatcher")(dispatcher)


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", "-c", min=1, help="Processes that fit; default: one a core, or one for a GPU."
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Where to fit: cpu, cuda or cuda:N.")] = "cpu",
    with_dispatcher: Annotated[
        bool,
        typer.Option(
            "--with-dispatcher/--no-dispatcher", help="Run a dispatcher too; of several, one works at a time."
        ),
    ] = True,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", "--once", help="Stop when nothing is left to do.")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of each process.")] = 1,
    log_level: Annotated[
        str | None,
        typer.Option(
            "--log-level", help="Least level of logs on stderr; default INFO, WARNING if --until-idle."
        ),
    ] = None,
    metrics_port: _MetricsPort = None,
    metrics_host: _MetricsHost = "127.0.0.1",
    as_json: JsonOption = False,
) -> None:
    """Fit what is enqueued, on this machine; Ctrl-C finishes the chunk or hands it back."""
    from phdl_catalog.cli.fit_display import run_progress
    from phdl_catalog.database import migrate
    from phdl_catalog.database.run_status import run_status
    from phdl_catalog.database.session import connect
    from workers import logs
    from workers.app import make_app
    from workers.broker import check_broker
    from workers.metrics import MetricsAddress
    from workers.supervisor import Supervisor, WorkerOptions

    engine = connect(pooled=False)
    migrate.check(engine)
    if with_dispatcher:
        _require_dispatchers_rights(engine)
    check_broker(make_app())
    level = (log_level or ("WARNING" if until_idle else "INFO")).upper()
    logs.configure(level)
    address = MetricsAddress(metrics_port, metrics_host) if metrics_port else None
    options = WorkerOptions(concurrency, device, with_dispatcher, until_idle, threads, level, address)
    supervisor = Supervisor(options, engine)
    if until_idle:
        with progress_bar() as bar:
            supervisor.run(run_progress(engine, bar))
    else:
        stderr.print(f"{options.processes} process(es) on {device}; Ctrl-C stops", highlight=False)
        supervisor.run()
    if as_json:
        with engine.connect() as connection:
            print_json({"runs": [status.as_dict() for status in run_status(connection)]})


def dispatcher(
    log_level: _LogLevel = "INFO",
    metrics_port: _MetricsPort = None,
    metrics_host: _MetricsHost = "127.0.0.1",
) -> None:
    """Publish the chunks that are due, alone: for installations of many machines."""
    from phdl_catalog.database import migrate
    from phdl_catalog.database.session import connect
    from workers.dispatch_forever import dispatch_forever
    from workers.metrics import MetricsAddress

    engine = connect(pooled=False)
    migrate.check(engine)
    _require_dispatchers_rights(engine)
    dispatch_forever(log_level.upper(), MetricsAddress(metrics_port, metrics_host) if metrics_port else None)


def _require_dispatchers_rights(engine: Engine) -> None:
    """A dispatcher that may not close runs would fail at its first round, and be started again for ever."""
    from phdl_catalog.database.roles import DISPATCHER, may_dispatch
    from phdl_catalog.errors import StateError

    with engine.connect() as connection:
        if not may_dispatch(connection):
            raise StateError(
                f"{engine.url.username} may not close runs in the database, as a dispatcher does: run "
                f"`phdl worker --no-dispatcher` here, and somewhere `phdl dispatcher` as {DISPATCHER}"
            )
