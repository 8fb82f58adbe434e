"""How the database grows: writing, claiming, status, views, catalogue and calibration at more and more fits.

    python benchmarks/production.py [--rows 100000 1000000] [--parts write queue] [--directory FOLDER --keep]

An embedded PostgreSQL of its own is started for this, durable as in production, indexes and constraints on,
and removed afterwards.  Fits have 32 labels.  The database grows from one size to the next and is measured at
each; the last columns say by what a time grows in a decade: 10 is linear, and what is much more is a defect.
On a machine that does other things too, look at the processor times.  A row of `spectrum` and `fit` takes
about 2.4 kB, 10^7 of them 25 GB; the log before a checkpoint and a catalogue come on top, and a disk without
room for it all is refused at the start.

| part | what | at 10^7 rows |
| --- | --- | --- |
| write | the last rows of a size: fits with and without covariance | 25 GB |
| enqueue | plan and enqueue a run, and again | |
| views | one star, a mean by metallicity, one label of all | |
| calibration | `phdl calibrate`, and a mean of calibrated labels by query | |
| catalogue | `phdl catalog build` | 5 GB |
| queue | status, rounds of the dispatcher, claims, always up to 10^7 spectra too | 0.1 GB |

`--parts enqueue` alone makes spectra without fits, and without the checks and indexes that it does not need:
500 bytes a row, minutes for 10^7.

Growing takes longest and is no measurement: `--keep` leaves the database in FOLDER and goes on with it the
next time, so that `--parts none --rows 9800000` may grow it in the background.
"""

# ruff: noqa: S608 - names of this file, and numbers

from __future__ import annotations

import argparse
import functools
import itertools
import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
from production_rows import (
    CHUNK,
    MODEL,
    RELEASE,
    SENT,
    Claims,
    Job,
    Part,
    add_bare_spectra,
    add_done_chunks,
    add_spectra,
    build,
    calibrate,
    claim_all,
    engine_for,
    in_own_process,
    in_processes,
    multiply_fits,
    prepare,
    spectra_there,
    write_part,
)
from sqlalchemy import Engine, text

T = TypeVar("T")

PARTS = ("write", "enqueue", "views", "calibration", "catalogue", "queue")

#: The last so many fits of a size are the measured ones.
_MEASURED = 204_800

_CLAIMS, _CLAIMERS = 8_000, 8


@dataclass
class Table:
    """What was measured: a value a size, under a name and a unit."""

    values: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)

    def note(self, what: str, unit: str, size: int, value: float) -> None:
        self.values.setdefault((what, unit), {})[size] = value
        print(f"  {size:>10,} {what:<50} {value:>12,.4g} {unit}", flush=True)

    def show(self, title: str) -> None:
        from phdl_catalog.cli.output import print_table

        sizes = sorted({size for values in self.values.values() for size in values})
        steps = list(itertools.pairwise(sizes))
        rows = [
            (
                what,
                unit,
                *(f"{values[size]:,.4g}" if size in values else "" for size in sizes),
                *(_growth(values, step) for step in steps),
            )
            for (what, unit), values in self.values.items()
        ]
        decades = (f"x a decade to {size:,}" for _, size in steps)
        print_table(title, ("what", "unit", *(f"{size:,}" for size in sizes), *decades), rows)


def _growth(values: dict[int, float], step: tuple[int, int]) -> str:
    """By what a value grows where the rows become ten times as many."""
    before, after = step
    if not values.get(before) or not values.get(after):
        return ""
    return f"{(values[after] / values[before]) ** (1 / math.log10(after / before)):.2f}"


def timed(function: Callable[[], T], repeats: int = 1) -> tuple[float, T]:
    """Seconds (the best of some), and what came out."""
    best = math.inf
    for _ in range(repeats):
        begun = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - begun)
    return best, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="numbers of fits")
    parser.add_argument(
        "--parts", nargs="+", choices=(*PARTS, "none"), default=PARTS, help="what to measure; none: grow"
    )
    parser.add_argument("--writers", type=int, default=2, help="processes that write at once")
    parser.add_argument("--directory", type=Path, help="where the database is made; default: temporary")
    parser.add_argument("--keep", action="store_true", help="leave it there, and go on with it the next time")
    options = parser.parse_args()

    from phdl_catalog.database import migrate
    from phdl_catalog.services.postgres_server import PostgresServer

    if options.keep and options.directory is None:
        parser.error("--keep needs a --directory")
    # What is started is stopped and what is made removed, also where the benchmark is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    work = options.directory / "kept" if options.keep else Path(tempfile.mkdtemp(dir=options.directory))
    work.mkdir(exist_ok=True)
    parts, begun = frozenset(options.parts) - {"none"}, time.perf_counter()
    server = PostgresServer(work / "postgresql", work / "run")
    try:
        _require_disk(work, max(options.rows), parts)
        server.start()
        url = server.url()
        engine = engine_for(url)
        migrate.upgrade(engine)
        prepare(engine)
        rows, jobs = Table(), Table()
        for size in sorted(options.rows) if parts != {"queue"} else ():
            print(f"{size:,} rows", flush=True)
            if parts == {"enqueue"}:
                add_bare_spectra(engine, size)
                _enqueue(engine, rows, size)
            else:
                grow(engine, url, rows, size, options.writers, write="write" in parts)
                at_size(engine, url, rows, size, parts)
            print(f"  {size:>10,} after {time.perf_counter() - begun:.0f} s", flush=True)
        if "queue" in parts:
            queue(engine, url, jobs, sorted(options.rows))
        rows.show("Rows of spectrum and fit")
        if "queue" in parts:
            jobs.show("Jobs: chunks of 256 spectra that there are, by the spectra they stand for")
        engine.dispose()
    finally:
        server.stop()
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)


def _require_disk(work: Path, rows: int, parts: frozenset[str]) -> None:
    """Say how much disk it will take, and end if there is not as much."""
    bytes_a_row = {frozenset({"queue"}): 0, frozenset({"enqueue"}): 500}.get(parts, 2400)
    needed = 2e9 + (bytes_a_row * rows + 5e9 * min(1.0, rows / 1e6) if bytes_a_row else 0)
    needed += 600 * rows if parts & {"catalogue"} else 0
    needed -= sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    free = shutil.disk_usage(work).free
    print(f"needs {max(0.0, needed) / 1e9:.0f} GB more in {work.parent}, which has {free / 1e9:.0f} GB")
    if free < needed:
        raise SystemExit("too little room: --directory names another place")


def grow(engine: Engine, url: str, table: Table, size: int, writers: int, *, write: bool) -> None:
    """Grow to a number of rows.

    Most are multiplied in the server; the last of them are written as workers write, to be measured, if asked
    for: with one writer and several, without covariance and with it.
    """
    before = spectra_there(engine)
    if size <= before:
        return
    seconds = timed(lambda: add_spectra(engine, before, size))[0]
    table.note("a million rows of spectrum made", "s", size, 1e6 * seconds / (size - before))
    measured = max(before, size - _MEASURED) if write else size
    sent = max(before, min(SENT, measured))
    if sent > before:
        _written(url, table, size, (before, sent), writers, "fits written from nothing")
    if measured > sent:
        seconds = timed(lambda: multiply_fits(engine, sent, measured))[0]
        table.note("a million fits made in the server", "s", size, 1e6 * seconds / (measured - sent))
    if not write:
        return
    last = (measured, size)
    for processes in sorted({1, writers}):
        _written(url, table, size, last, processes, "fits written, no covariance", with_covariance=False)
        _forget(engine, *last)
    _written(url, table, size, last, writers, "fits written, with covariance")


def _forget(engine: Engine, first: int, last: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM phdl.fit_model_1 WHERE spectrum_id > :first AND spectrum_id <= :last"),
            {"first": first, "last": last},
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM phdl.fit_model_1"))


def _written(
    url: str,
    table: Table,
    size: int,
    rows: tuple[int, int],
    writers: int,
    what: str,
    *,
    with_covariance: bool = True,
) -> None:
    """Fits a second over the time that the writers spent writing, not making them up; and processor time.

    On a machine that does other things too, the processor time says what it could do alone.
    """
    first, last = rows
    step = -(-(last - first) // writers)
    edges = [(start, min(start + step, last)) for start in range(first, last, step)]
    spent = in_processes(write_part, [Part(url, *edge, 1, 1, with_covariance) for edge in edges])
    what = f"{what}, {writers} writer{'s' * (writers > 1)}"
    table.note(what, "1/s", size, (last - first) / max(part.seconds for part in spent))
    processor = sum(part.client + part.server for part in spent) / (last - first)
    table.note(f"... processor time of one, {what}", "us", size, 1e6 * processor)


def at_size(engine: Engine, url: str, table: Table, size: int, parts: frozenset[str]) -> None:
    """Measure what reads."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE phdl.fit"))
        bytes_a_fit = connection.scalar(text("SELECT pg_total_relation_size('phdl.fit_model_1')")) or 0
    table.note("a fit on disk, indexes included", "bytes", size, bytes_a_fit / size)
    if "enqueue" in parts:
        _enqueue(engine, table, size)
    if "views" in parts:
        _views(engine, table, size)
    if parts & {"calibration", "catalogue"}:
        _calibrate_and_build(engine, url, table, size, catalogue="catalogue" in parts)


def _enqueue(engine: Engine, table: Table, size: int) -> None:
    from phdl_catalog.database.fit_runs import RunRequest, enqueue, needed
    from phdl_catalog.database.model_versions import find_model
    from phdl_catalog.database.selection import Selection

    with engine.connect() as connection:
        request = RunRequest(RELEASE, find_model(connection, MODEL), Selection(), {})
        session = psutil.Process(connection.scalar(text("SELECT pg_backend_pid()")) or 0)
        # One process: what it took is all there is.
        connection.execute(text("SET max_parallel_workers_per_gather = 0"))
        connection.commit()
        for what, do, keep in (
            ("fit plan", needed, False),
            ("fit enqueue, of what is new", enqueue, True),
            ("fit enqueue again, nothing missing", enqueue, True),
        ):
            before = sum(session.cpu_times()[:2])
            seconds, done = timed(lambda do=do: do(connection, request))  # type: ignore[misc]
            processor = sum(session.cpu_times()[:2]) - before
            connection.commit() if keep else connection.rollback()
            table.note(what, "s", size, seconds)
            table.note(f"... processor time of its session, {what}", "s", size, processor)
            assert done.chunks or "again" in what


def _views(engine: Engine, table: Table, size: int) -> None:
    star = 100_000 + size // 2
    _ask(engine, table, size, {
        "labels of one star, by obsid": f"SELECT * FROM phdl.labels_{MODEL} WHERE obsid = {star}",
        "labels_<model>: mean [Mg/Fe] by metallicity": "SELECT round(fe_h::numeric, 1), avg(mg_fe) "
        f"FROM phdl.labels_{MODEL} WHERE flags = 0 AND snr_g > 50 GROUP BY 1",
        "label_long: all of one label": "SELECT count(*), avg(value) FROM phdl.label_long "
        f"WHERE model = '{MODEL}' AND label = 'mg_fe'",
    })  # fmt: skip


def _ask(engine: Engine, table: Table, size: int, queries: dict[str, str]) -> None:
    with engine.connect() as connection:
        for what, query in queries.items():
            asked = functools.partial(connection.execute, text(query))
            seconds = timed(lambda ask=asked: ask().all(), 2 if size < 1e7 else 1)[0]  # type: ignore[misc]
            table.note(what, "s", size, seconds)


def _calibrate_and_build(engine: Engine, url: str, table: Table, size: int, *, catalogue: bool) -> None:
    """Each in a process of its own, whose memory is its own."""
    job = Job(url, f"r{size}-{int(time.time())}")
    done = in_own_process(calibrate, job)
    table.note("re-calibration", "s", size, done.seconds)
    table.note("... memory of the calibration", "MiB", size, done.memory)
    view = f"calibrated_{job.name.replace('-', '_')}"
    mean = f"SELECT round(fe_h::numeric, 1), avg(mg_fe), avg(e_cal_mg_fe) FROM phdl.{view} GROUP BY 1"
    _ask(engine, table, size, {"calibrated_<set>: mean [Mg/Fe] by metallicity": mean})
    if not catalogue:
        return
    done = in_own_process(build, job)
    table.note("catalogue built", "s", size, done.seconds)
    table.note("... memory of the catalogue", "MiB", size, done.memory)
    table.note("rows of the catalogue", "rows", size, done.result)


def queue(engine: Engine, url: str, table: Table, sizes: list[int]) -> None:
    """Everything that looks at chunks, at as many chunks as there are at these sizes, and at 10^7."""
    from phdl_catalog.database.outbox import finish_runs, in_flight, take_due
    from phdl_catalog.database.run_status import error_status, run_status, worker_status

    for size in sorted({*sizes, 10_000_000}):
        add_done_chunks(engine, 2, size // CHUNK)
        with engine.begin() as connection:
            connection.execute(
                text("INSERT INTO phdl.fit_chunk (fit_run_id, spectrum_ids) SELECT 2, ARRAY(SELECT "
                     "generate_series(g * 256, g * 256 + 255)) FROM generate_series(1, :n) AS g"),
                {"n": _CLAIMS},
            )  # fmt: skip
        with engine.connect() as connection:
            seconds, _ = timed(
                lambda c=connection: (run_status(c), worker_status(c), error_status(c)),
                repeats=3,  # type: ignore[misc]
            )
            table.note("fit status", "ms", size, 1000 * seconds)
            seconds, _ = timed(lambda c=connection: (in_flight(c), finish_runs(c, "benchmark")), repeats=3)  # type: ignore[misc]
            table.note("one look of the dispatcher", "ms", size, 1000 * seconds)
            connection.rollback()
            seconds, due = timed(lambda c=connection: take_due(c, _CLAIMS, "benchmark"))  # type: ignore[misc]
            connection.commit()
            table.note("chunks taken from the outbox", "1/s", size, len(due) / seconds)
        for close in (False, True):
            half = due[: _CLAIMS // 2] if not close else due[_CLAIMS // 2 :]
            claims = [Claims(url, tuple(half[n::_CLAIMERS]), f"host:{n}", close) for n in range(_CLAIMERS)]
            done = in_processes(claim_all, claims)
            spent = max(one.ended for one in done) - min(one.begun for one in done)
            what = "claimed and closed" if close else "claimed"
            table.note(f"chunks {what}, {_CLAIMERS} workers", "1/s", size, len(half) / spent)
            processor = sum(one.processor for one in done) / len(half)
            table.note(f"... processor time of one, {what}", "us", size, 1e6 * processor)
        with engine.begin() as connection:
            mine = "fit_run_id = 2 AND (fit_seconds IS NULL OR fit_seconds = 1.5)"
            connection.execute(text(f"DELETE FROM phdl.fit_chunk WHERE {mine}"))


if __name__ == "__main__":
    main()
