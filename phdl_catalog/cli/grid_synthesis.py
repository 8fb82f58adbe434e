"""``phdl grid synthesize`` and ``phdl grid worker``: computing an ab initio grid, on one machine or many."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli.grid import grid_app
from phdl_catalog.cli.output import JsonOption, print_json, progress_bar, stderr, stdout

if TYPE_CHECKING:
    from phdl_catalog.emulator.synthesis.plan import SynthesisFolder, SynthesisPlan

#: How often the folder is looked at while other machines compute [s].
_LOOK_EVERY = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``phdl grid``."""
    grid_app.command("synthesize")(synthesize)
    grid_app.command("worker")(worker)


def synthesize(
    output: Annotated[Path, typer.Option("--output", "-o", help="Grid file to make (HDF5).")],
    lines: Annotated[
        list[Path] | None,
        typer.Option("--lines", help="Line list: VALD, Gaia-ESO, Kurucz gfall or MOOG; may be given again."),
    ] = None,
    atmospheres: Annotated[
        Path | None, typer.Option("--atmospheres", help="Folder of model atmospheres: decks of ATLAS9.")
    ] = None,
    stars: Annotated[int, typer.Option("--stars", min=1, help="Number of stars.")] = 1000,
    gradients: Annotated[
        int, typer.Option("--gradients", min=0, help="Number of stars with differential spectra.")
    ] = 15,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the design; another gives other stars.")] = 0,
    elements: Annotated[
        str | None, typer.Option("--elements", help="Elements that are labels: C,N,O,...; default: 28.")
    ] = None,
    wavelength: Annotated[
        tuple[float, float], typer.Option("--wavelength", help="First and last wavelength, vacuum [A].")
    ] = (3707.0, 9015.0),
    resolution: Annotated[
        float, typer.Option("--resolution", min=1.0, help="Resolving power of the stored spectra.")
    ] = 5000.0,
    sampling: Annotated[
        float, typer.Option("--sampling", min=1.0, help="Computed points a unit of ln(wavelength).")
    ] = 200_000.0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that compute here.")] = 1,
    tasks: Annotated[
        bool, typer.Option("--tasks", help="Let `phdl grid worker` compute, on any machines, and wait.")
    ] = False,
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Write the grid without the stars that failed.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a grid file that is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute spectra and differential spectra of a design of stars, in LTE, and write them as a grid.

    Finished spectra are kept in the folder OUTPUT.parts: the same command, started again, goes on.
    """
    from phdl_catalog.emulator.synthesis.assembly import write_grid
    from phdl_catalog.emulator.synthesis.computing import check_plan, compute_missing
    from phdl_catalog.emulator.synthesis.design import DEFAULT_ELEMENTS
    from phdl_catalog.emulator.synthesis.engine import SynthesisSettings
    from phdl_catalog.emulator.synthesis.plan import SynthesisFolder, SynthesisPlan
    from phdl_catalog.errors import ConflictError

    if not lines or atmospheres is None:
        raise _what_is_needed(bool(lines), atmospheres is not None)
    if output.exists() and not overwrite:
        raise ConflictError(f"{output} exists already; choose another name, or say --overwrite")
    plan = SynthesisPlan.make(
        lines,
        atmospheres,
        stars,
        gradients,
        seed,
        DEFAULT_ELEMENTS if elements is None else [symbol.strip() for symbol in elements.split(",")],
        SynthesisSettings(wavelength, resolution, log10_step=_step(resolution), sampling=sampling),
    )
    unsupported = check_plan(plan)
    if unsupported:
        stderr.print(f"left out for want of partition functions: {', '.join(unsupported)}", highlight=False)
    folder = SynthesisFolder(output.with_name(f"{output.name}.parts").resolve())
    folder.begin(plan)
    folder.forget_failures()
    started, before = time.monotonic(), len(folder.finished())
    compute = _wait_for_tasks if tasks else lambda where, done: compute_missing(where, workers, done)
    _with_progress(folder, plan, compute)
    computed = len(folder.finished()) - before
    failures = folder.failures()
    _report_failures(failures, skip_failed)
    remarks = write_grid(folder, output, skip_failed, overwrite)
    seconds = time.monotonic() - started
    document: dict[str, Any] = {
        "file": str(output),
        "stars": stars,
        "gradient_stars": gradients,
        "spectra": sum(1 for _ in plan.spectra()),
        "computed": computed,
        "failed": failures,
        "seconds": seconds,
        "unsupported": list(unsupported),
        "remarks": list(remarks),
        "parts": str(folder.path),
    }
    if as_json:
        print_json(document)
        return
    stdout.print(
        f"{output}: {computed} spectra computed in {seconds:.0f} s; {folder.path.name} may be removed, or "
        "kept to add stars",
        highlight=False,
        markup=False,
    )
    for remark in remarks:
        stdout.print(f"  {remark}", highlight=False, markup=False)


def worker(
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that compute; default: one a core.")
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log-level", help="Least level of logs on stderr: DEBUG, INFO, WARNING, ERROR.")
    ] = "INFO",
    as_json: JsonOption = False,
) -> None:
    """Compute spectra that `phdl grid synthesize --tasks` asks for, until it is stopped.

    It needs the broker and sees the same folders; it needs no database.
    """
    import sys

    from phdl_catalog.emulator.synthesis.library import library
    from phdl_catalog.settings import get_settings
    from workers.app import SYNTHESIS_QUEUE, make_app
    from workers.broker import check_broker

    library()
    app = make_app()
    check_broker(app)
    processes = workers or get_settings().threads
    if as_json:
        print_json({"queue": SYNTHESIS_QUEUE, "processes": processes})
        sys.stdout.flush()
    app.worker_main(
        [
            "worker", "--pool", "prefork", "--concurrency", str(processes), "--queues", SYNTHESIS_QUEUE,
            "--loglevel", log_level.upper(), "--without-gossip", "--without-mingle", "--hostname",
            "phdl-synthesis@%h",
        ]
    )  # fmt: skip


def _step(resolution: float) -> float:
    """Step in log10 wavelength with two pixels a standard deviation of the line spread: 4e-5 at R = 5000."""
    return 4e-5 * min(1.0, 5000.0 / resolution)


def _what_is_needed(has_lines: bool, has_atmospheres: bool) -> Exception:
    from phdl_catalog.emulator.synthesis.atmosphere import WHERE_TO_FIND
    from phdl_catalog.emulator.synthesis.reading import KNOWN_FORMATS
    from phdl_catalog.errors import InputError

    wanted = []
    if not has_lines:
        wanted.append(f"--lines FILE, a line list: {KNOWN_FORMATS}")
    if not has_atmospheres:
        wanted.append(f"--atmospheres FOLDER: {WHERE_TO_FIND}")
    return InputError(
        "computing a grid needs data that the package does not have, and may not pass on:\n"
        + "\n".join(f"- {item}" for item in wanted)
    )


def _report_failures(failures: dict[str, str], skip_failed: bool) -> None:
    from phdl_catalog.errors import SynthesisError

    if not failures:
        return
    name, reason = next(iter(failures.items()))
    message = f"{len(failures)} spectra failed; the first, {name}: {reason}"
    if not skip_failed:
        raise SynthesisError(
            f"{message}. The same command tries them again; --skip-failed writes the grid without their stars"
        )
    stderr.print(message, highlight=False, markup=False)


def _with_progress(
    folder: SynthesisFolder,
    plan: SynthesisPlan,
    compute: Callable[[SynthesisFolder, Callable[[], None]], None],
) -> None:
    total = sum(1 for _ in plan.spectra())
    with progress_bar() as bar:
        task = bar.add_task("spectra", total=total, completed=len(folder.finished()))
        compute(folder, lambda: bar.update(task, completed=len(folder.finished()) + len(folder.failures())))


def _wait_for_tasks(folder: SynthesisFolder, progress: Callable[[], None]) -> None:
    """Ask for what is missing, and wait until it is there or has failed."""
    from phdl_catalog.emulator.synthesis.computing import missing_spectra
    from workers import synthesis
    from workers.app import make_app
    from workers.broker import check_broker

    app = make_app()
    check_broker(app)
    wanted = missing_spectra(folder)
    # Messages of a run that was stopped would ask for the same once more.
    synthesis.purge(app)
    synthesis.send(app, folder.path, wanted)
    stderr.print(
        f"{len(wanted)} spectra asked for; any machine that sees {folder.path} helps by `phdl grid worker`",
        highlight=False,
        markup=False,
    )
    names = {spectrum.name for spectrum in wanted}
    while names - folder.finished() - set(folder.failures()):
        time.sleep(_LOOK_EVERY)
        progress()
