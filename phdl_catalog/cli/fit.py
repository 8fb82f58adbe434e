"""``phdl fit``: fitting spectra, by runs of jobs or here and now."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli import fit_file
from phdl_catalog.cli.output import JsonOption, print_json

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from phdl_catalog.database.selection import Selection

_Release = Annotated[str, typer.Argument(help="Name of the data release.")]
_Model = Annotated[str, typer.Option("--model", "-m", help="Name of a model, or path of a model file.")]
_ChunkSize = Annotated[int, typer.Option("--chunk-size", help="Spectra in a job.")]
_MinSnr = Annotated[float | None, typer.Option("--min-snr-g", help="Least signal to noise in the g band.")]
_Classes = Annotated[
    list[str] | None,
    typer.Option("--class", help="Class of the survey's pipeline, such as STAR; may repeat."),
]
_ObsidFile = Annotated[
    Path | None, typer.Option("--obsid-file", help="Text file: only these observations, one a line.")
]
_Cone = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--cone", metavar="RA DEC RADIUS", help="Only inside a circle on the sky [deg]."),
]
_Where = Annotated[
    str | None,
    typer.Option("--where", help="Any condition, such as \"snr_r > 30 and subclass like 'G%'\"."),
]
_Run = Annotated[int, typer.Argument(help="Number of the run, as `phdl fit status` shows it.")]

_commands = typer.Typer(help="Fit spectra.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (plan, enqueue, status, priority, cancel, pause, resume, retry):
        _commands.command(command.__name__)(command)
    fit_file.register(_commands)
    app.add_typer(_commands, name="fit")


def plan(
    release: _Release,
    model: _Model = "default",
    chunk_size: _ChunkSize = 256,
    min_snr_g: _MinSnr = None,
    classes: _Classes = None,
    obsid_file: _ObsidFile = None,
    cone: _Cone = None,
    where: _Where = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Fit a few spectra now if no rate is known.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Say what enqueueing would take, without doing it."""
    from phdl_catalog.cli.fit_display import show_plan
    from phdl_catalog.database.fit_plan import plan_run, request_run
    from phdl_catalog.database.session import connect
    from phdl_catalog.settings import get_settings
    from phdl_catalog.spectra.store import PixelStore

    selection = _selection(min_snr_g, classes, obsid_file, cone, where)
    with connect(pooled=False).connect() as connection:
        request = request_run(connection, release, model, selection, chunk_size)
        planned = plan_run(connection, request, PixelStore(get_settings().pixel_store_url), measure=measure)
        connection.rollback()
    if as_json:
        print_json(asdict(planned))
    else:
        show_plan(planned)


def enqueue(
    release: _Release,
    model: _Model = "default",
    chunk_size: _ChunkSize = 256,
    min_snr_g: _MinSnr = None,
    classes: _Classes = None,
    obsid_file: _ObsidFile = None,
    cone: _Cone = None,
    where: _Where = None,
    priority: Annotated[
        int | None, typer.Option("--priority", help="Jobs of a higher priority go first; default 0.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Calibrate the model by itself once the run is done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Enqueue a release for fitting; enqueueing the same again adds only what is missing."""
    from phdl_catalog.database.fit_plan import request_run
    from phdl_catalog.database.fit_runs import enqueue as enqueue_run
    from phdl_catalog.database.session import connect

    selection = _selection(min_snr_g, classes, obsid_file, cone, where)
    with connect(pooled=False).begin() as connection:
        request = request_run(connection, release, model, selection, chunk_size, priority)
        done = enqueue_run(connection, request)
        asked = _ask_for_calibration(connection, request.model.name, done.run) if calibrate else None
    if as_json:
        print_json(
            {**asdict(done), "release": release, "model": request.model.name, "calibration_request": asked}
        )
        return
    if done.created:
        typer.echo(f"run {done.run}: {done.added:,} spectra in {done.chunks:,} jobs; `phdl worker` does them")
    elif done.added:
        typer.echo(
            f"run {done.run} exists already; {done.added:,} spectra that were missing are added in "
            f"{done.chunks:,} jobs"
        )
    else:
        typer.echo(f"run {done.run} exists already ({done.state.value}); nothing is missing")
    if already := done.selected - done.added if done.created else 0:
        typer.echo(f"{already:,} of {done.selected:,} selected spectra belong to other runs of this model")
    if asked is not None:
        typer.echo(f"calibration request {asked} waits for the run; `phdl calibration requests` shows it")


def _ask_for_calibration(connection: Connection, model: str, run: int) -> int:
    from phdl_catalog.database.calibration_requests import add_request
    from phdl_catalog.database.calibration_run import CalibrationRequest

    return add_request(connection, CalibrationRequest(model), after_run=run)


def status(
    run: Annotated[int | None, typer.Argument(help="Number of a run; default: all of them.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing it until the runs are over.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.2, help="Time between two looks with --watch [s].")
    ] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Show how runs stand: spectra, rate, remaining time, jobs by state, workers, errors."""
    from phdl_catalog.cli.fit_display import look, show_status, watch_status
    from phdl_catalog.database.session import connect

    engine = connect(pooled=False)
    if watch:
        watch_status(engine, run, interval, quiet=as_json)
    found = look(engine, run)
    if as_json:
        print_json(found.as_dict())
    elif not watch:
        show_status(found)


def priority(
    run: _Run,
    value: Annotated[int, typer.Argument(metavar="PRIORITY", help="From -1000 to 1000; 0 is ordinary.")],
    as_json: JsonOption = False,
) -> None:
    """Let a run go before others, or after: jobs of a higher priority are begun first."""
    from functools import partial

    from phdl_catalog.database.fit_runs import change_priority

    _change(f"priority {value}", run, partial(change_priority, priority=value), as_json)


def cancel(run: _Run, as_json: JsonOption = False) -> None:
    """Stop a run for good; what is fitted stays."""
    from phdl_catalog.database.fit_runs import cancel_run

    _change("cancelled", run, cancel_run, as_json)


def pause(run: _Run, as_json: JsonOption = False) -> None:
    """Begin no more jobs of a run until it is resumed."""
    from phdl_catalog.database.fit_runs import pause_run

    _change("paused", run, pause_run, as_json)


def resume(run: _Run, as_json: JsonOption = False) -> None:
    """Go on with a paused run."""
    from phdl_catalog.database.fit_runs import resume_run

    _change("resumed", run, resume_run, as_json)


def retry(
    run: _Run,
    failed: Annotated[
        bool, typer.Option("--failed", help="Also the jobs in which some spectrum got no labels.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Try again what was given up: quarantined spectra, and jobs that wait after an error."""
    from functools import partial

    from phdl_catalog.database.fit_runs import retry_run

    _change("to be tried again", run, partial(retry_run, failed=failed), as_json)


def _change(what: str, run: int, action: Any, as_json: bool) -> None:
    from phdl_catalog.database.session import connect

    with connect(pooled=False).begin() as connection:
        spectra = action(connection, run)
    if as_json:
        print_json({"run": run, "action": what, "spectra": spectra})
    else:
        typer.echo(f"run {run}: {what}" + ("" if spectra is None else f", {spectra:,} spectra"))


def _selection(
    min_snr_g: float | None,
    classes: list[str] | None,
    obsid_file: Path | None,
    cone: tuple[float, float, float] | None,
    where: str | None,
) -> Selection:
    from phdl_catalog.database.selection import Cone, Selection, read_obsids

    return Selection(
        min_snr_g=min_snr_g,
        classes=tuple(name.upper() for name in classes or ()),
        cone=Cone(*cone) if cone else None,
        obsids=read_obsids(obsid_file) if obsid_file else None,
        where=where,
    )
