"""The steps of the demo: a simulated release, then the commands a user would type, run one after another.

Every command is called as the command line calls it, so what the demo shows is what the commands do.  Only
the simulation before them and the comparison with the truth after them are the demo's own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phdl_catalog.cli.demo_report import report_recovery, run_queries
from phdl_catalog.cli.demo_script import Script
from phdl_catalog.cli.output import progress_bar, stderr
from phdl_catalog.errors import StateError
from phdl_catalog.settings import get_settings

if TYPE_CHECKING:
    from phdl_catalog.spectra.mock_release import Manifest, ReleaseFolder

#: Name of the data release in the database.
RELEASE = "demo"

#: Survey that the reference stars are said to be from.
REFERENCE_SURVEY = "mock_hires"

#: Spectra in a job: small, so that there are some jobs to watch.
_CHUNK_SIZE = 64

#: Processes that are worth their start for so few jobs.
_MOST_PROCESSES = 4

#: Time a worker gets to finish its job when it is told to stop [s].
_GRACE = 60.0

#: What the demo makes in its folder, and may therefore delete.
_OWN = ("release", "results", "postgresql", "redis", "run", "shards", "models", "logs")


@dataclass(frozen=True)
class DemoOptions:
    """What was asked for on the command line."""

    directory: Path
    model: str
    stars: int
    seed: int
    keep_running: bool
    fresh: bool


def run_demo(options: DemoOptions, *, quiet: bool) -> dict[str, Any]:
    """Run the demo.

    Parameters
    ----------
    options : DemoOptions
        What was asked for.
    quiet : bool
        Say everything on stderr, so that stdout is free for a document.

    Returns
    -------
    dict
        Counts, recovered against true labels, the queries with their answers, and the seconds of each step.
    """
    with contextlib.ExitStack() as stack:
        if quiet:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(_own_settings(options.directory))
        return _run(options)


def _run(options: DemoOptions) -> dict[str, Any]:
    from phdl_catalog import services

    script = Script(options.directory / "results")
    if options.fresh:
        _clear(options.directory)
    try:
        with script.step("simulate", "A data release whose truth is known"):
            folder, manifest = _simulate(options, script)
        with script.step("services", "PostgreSQL and Redis, embedded: Unix sockets only"):
            script.run("up")
        with script.step("ingest", "Files into the database and the pixel store"):
            script.run("ingest", RELEASE, str(folder.spectra))
        with contextlib.ExitStack() as working:
            with script.step("fit", "Jobs, and the worker that does them"):
                chunk_size = ("--chunk-size", str(_CHUNK_SIZE))
                script.run("fit", "enqueue", RELEASE, "--model", options.model, *chunk_size)
                working.enter_context(_worker(options.directory / "logs" / "worker.log", script))
                script.run("fit", "status", "--watch")
            with script.step("calibrate", "Wide binaries and high-resolution stars show what is wrong"):
                _calibrate(options, folder, script)
        with script.step("publish", "The catalogue: built beside, checked, and swapped in"):
            _publish(options, script)
        with script.step("query", "Three questions in SQL"):
            queries = run_queries(script)
        with script.step("truth", "What came out, and what is true"):
            results = report_recovery(folder, options.directory / "results", script)
    finally:
        if not options.keep_running:
            services.down()
    _say_goodbye(options, script)
    return {
        "directory": str(options.directory),
        "stars": manifest.stars,
        "spectra": manifest.spectra,
        "broken": manifest.broken,
        "queries": queries,
        **results,
        "seconds": {**script.seconds, "total": script.total},
    }


@contextlib.contextmanager
def _own_settings(directory: Path) -> Iterator[None]:
    """Make every command, and every process started from here, use the demo's own servers and folders."""
    before = dict(os.environ)
    for name in ("PHDL_DATABASE_URL", "PHDL_READER_URL", "PHDL_BROKER_URL", "PHDL_STORE_URL"):
        os.environ.pop(name, None)
    os.environ["PHDL_DATA_DIR"] = str(directory.absolute())
    settings = get_settings()
    try:
        if settings.database_url or settings.broker_url or settings.store_url:
            raise StateError(
                "the file .env here names a database, a broker or a store, and the demo uses its own: "
                "run it in another folder"
            )
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _clear(directory: Path) -> None:
    """Delete what an earlier demo left, and nothing else."""
    from phdl_catalog import services

    services.down()
    for name in _OWN:
        shutil.rmtree(directory / name, ignore_errors=True)


def _simulate(options: DemoOptions, script: Script) -> tuple[ReleaseFolder, Manifest]:
    """Make the release, unless it is there; one of another plan or model makes the demo begin anew."""
    from phdl_catalog.emulator import load_model
    from phdl_catalog.spectra.mock_release import Manifest, ReleaseFolder, origin_of, simulate_release
    from phdl_catalog.spectra.mock_stars import Census
    from phdl_catalog.spectra.mock_survey import SurveyPlan

    model = load_model(options.model)
    calibrators = options.stars // 10
    census = Census(stars=options.stars, pairs=calibrators, references=calibrators)
    plan = replace(SurveyPlan(), census=census, repeats=calibrators, seed=options.seed)
    folder = ReleaseFolder(options.directory / "release")
    manifest = Manifest.read(folder)
    if manifest is not None and manifest.origin != origin_of(plan, model):
        script.say("What lies here is of another plan or model: the demo begins anew.")
        _clear(options.directory)
        manifest = None
    if manifest is None:
        with progress_bar() as progress:
            total = plan.census.stars + plan.repeats + len(plan.damages)
            task = progress.add_task("writing files", total=total)
            manifest = simulate_release(
                folder, plan, model, lambda done: progress.update(task, completed=done)
            )
    script.say(
        f"{manifest.stars} stars ({manifest.subgiants} subgiants, {manifest.pairs} wide binaries, "
        f"{manifest.references} with high-resolution labels) in {manifest.spectra} spectra of LAMOST DR10 "
        f"layout, and {sum(manifest.broken.values())} broken files: {folder.spectra}"
    )
    script.say(
        f"The spectra are made by the model '{options.model}' itself: this tests the chain, not the physics. "
        f"[bold]An error is injected:[/] every abundance that goes into a spectrum is off by a smooth "
        f"function of Teff, of the order of {plan.distortion:g} dex. Calibration has to take it out again."
    )
    return folder, manifest


def _calibrate(options: DemoOptions, folder: ReleaseFolder, script: Script) -> None:
    """Import the calibrators, compute a set by a job of its own, and certify it."""
    from phdl_catalog.database.calibration_sets import list_sets
    from phdl_catalog.database.session import connect

    script.run("pairs", "import", str(folder.pairs), "--catalogue", "demo_pairs")
    script.run("references", "import", str(folder.references), "--survey", REFERENCE_SURVEY)
    script.run_to_file("calibrate", "calibrate", "--model", options.model)
    with connect(pooled=False).connect() as connection:
        newest = max(list_sets(connection, model=options.model), key=lambda row: row.created_at)
    if newest.certified_at is None:
        script.run("calibration", "certify", newest.name)


def _publish(options: DemoOptions, script: Script) -> None:
    """Build the next catalogue release under a name of its own, check it and publish it."""
    from phdl_catalog.catalog.releases import list_catalog_releases
    from phdl_catalog.database.session import connect

    with connect(pooled=False).connect() as connection:
        taken = {release.name for release in list_catalog_releases(connection)}
    name = next(name for number in itertools.count(1) if (name := f"{RELEASE}-{number}") not in taken)
    script.run("catalog", "build", "--model", options.model, "--name", name)
    script.run_to_file("catalog-check", "catalog", "check", name)
    script.run("catalog", "publish", name)


@contextlib.contextmanager
def _worker(log: Path, script: Script) -> Iterator[None]:
    """A worker and the dispatcher beside it, in processes of their own while the block lasts."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = ["worker"]
    if get_settings().threads > _MOST_PROCESSES:
        words += ["--concurrency", str(_MOST_PROCESSES)]
    script.show(*words, after=" &")
    with log.open("a", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "phdl_catalog.cli.main", *words], stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                stderr.print("the worker does not stop; it is killed", highlight=False)
                process.kill()
                process.wait()


def _say_goodbye(options: DemoOptions, script: Script) -> None:
    place = shlex.quote(str(options.directory))
    script.heading(f"Done in {script.total:.0f} s")
    state = (
        "still run"
        if options.keep_running
        else "are stopped; this starts them again, with all that is in them"
    )
    script.say(f"The servers {state}:")
    for command in ("up", "sql 'SELECT count(*) FROM catalog.subgiant'", "down"):
        script.say(f"  [bold]PHDL_DATA_DIR={place} phdl {command}[/]")
    script.say(
        f"(`phdl` is {Path(sys.executable).parent / 'phdl'}; put it on the PATH, or type it in full.)\n"
        f"The picture and the table of recovered against true labels: {options.directory / 'results'}"
    )
