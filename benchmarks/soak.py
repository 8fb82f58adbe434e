"""Whether the memory of a worker and a dispatcher stays flat: `phdl worker` on small chunks, for minutes.

    python benchmarks/soak.py [--minutes 10] [--spectra 256] [--chunk 8] [--processes 2]

The real thing, started as a person starts it, with the packaged model and the real fit; chunks that are done
are made due again, so that the same spectra are fitted over and over.  The resident memory of each process is
taken twenty times; the last line is the growth over the second half for each 1,000 chunks.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import time

import numpy as np
import psutil
from sqlalchemy import Engine, text
from worker_stage import AGAIN, survey, worker_command

#: The columns of the table, and how a process is recognised.
_ROLES = ("phdl worker", "celery", "fitting processes", "dispatcher")

_SAMPLES = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--spectra", type=int, default=256, help="different spectra")
    parser.add_argument("--chunk", type=int, default=8, help="spectra of a chunk")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes that fit")
    options = parser.parse_args()

    from phdl_catalog.cli.output import print_table

    with survey(options.spectra, options.chunk) as engine:
        machine = subprocess.Popen(worker_command(options.processes))
        try:
            rows = soak(engine, machine.pid, 60 * options.minutes)
        finally:
            machine.send_signal(signal.SIGTERM)
            machine.wait(120)
        print_table("Resident memory [MiB]", ("s", "chunks", *_ROLES), [*rows, _growth(rows)])


def soak(engine: Engine, pid: int, seconds: float) -> list[tuple[object, ...]]:
    """Keep the worker busy; time, chunks so far and memory, again and again."""
    rows: list[tuple[object, ...]] = []
    begun = time.monotonic()
    while len(rows) < _SAMPLES:
        time.sleep(0.5)
        with engine.begin() as connection:
            connection.execute(text(AGAIN))
            connection.execute(
                text("UPDATE phdl.fit_run SET state = 'running', finished_at = NULL WHERE state = 'done'")
            )
        spent = time.monotonic() - begun
        if spent >= seconds * (len(rows) + 1) / _SAMPLES:
            with engine.connect() as connection:
                chunks = connection.scalar(text("SELECT sum(attempt) FROM phdl.fit_chunk"))
            rows.append((round(spent), int(chunks or 0), *(round(size, 1) for size in memory(pid))))
            print(*rows[-1], sep="  ", flush=True)
    return rows


def memory(pid: int) -> tuple[float, ...]:
    """Resident memory of each role [MiB]."""
    sizes = dict.fromkeys(_ROLES, 0.0)
    top = psutil.Process(pid)
    sizes[_ROLES[0]] = top.memory_info().rss
    for child in top.children():
        role = "dispatcher" if "workers.dispatch_forever" in child.cmdline() else "celery"
        sizes[role] += child.memory_info().rss
        sizes["fitting processes"] += sum(fitting.memory_info().rss for fitting in child.children())
    return tuple(size / 2**20 for size in sizes.values())


def _growth(rows: list[tuple[object, ...]]) -> tuple[object, ...]:
    """KiB for each 1,000 chunks, by a straight line through the second half."""
    half = np.array(rows[len(rows) // 2 :], dtype=float)
    slopes = [np.polyfit(half[:, 1], half[:, column], 1)[0] for column in range(2, half.shape[1])]
    return ("", "KiB per 1,000", *(round(1024 * 1000 * slope, 1) for slope in slopes))


if __name__ == "__main__":
    main()
