"""From packed shards through a worker into PostgreSQL: spectra a second, where the time goes, and the memory.

    python benchmarks/worker.py [--spectra 2048] [--chunk 256] [--processes 2] [--passes 200]

First the real thing: `phdl worker` fits simulated spectra of S/N 60 with the packaged model.  Then the same
chunks again and again with a fit that costs nothing, in one process, beside rounds of the dispatcher: how
fast all but the fit is, and whether the memory grows.  The servers are embedded ones of their own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time

import numpy as np
import psutil
from sqlalchemy import Engine, text
from worker_stage import AGAIN, survey, worker_command

from phdl_catalog.database.fit_runs import CHUNK_SIZE

_TIMES = """
SELECT sum(n_spectra)::float AS spectra, sum(read_seconds) AS read, sum(fit_seconds) AS fit,
       sum(write_seconds) AS write, extract(epoch FROM max(finished_at) - min(started_at))::float AS wall
FROM phdl.fit_chunk WHERE state = 'done'
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--spectra", type=int, default=2048, help="spectra to fit")
    parser.add_argument("--chunk", type=int, default=CHUNK_SIZE, help="spectra of a chunk")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes that fit")
    parser.add_argument("--passes", type=int, default=200, help="times that all chunks are done again")
    options = parser.parse_args()

    from phdl_catalog.cli.output import print_table

    columns = ("spectra", "processes", "spectra/s", "read %", "fit %", "write %", "MiB before", "MiB after")
    with survey(options.spectra, options.chunk) as engine:
        rows = [real_fit(engine, options.processes), free_fit(engine, options.passes)]
        print_table("From shards into PostgreSQL", ("fit", *columns), rows)


def real_fit(engine: Engine, processes: int) -> tuple[object, ...]:
    """`phdl worker` until nothing is left; the time begins with the first chunk."""
    subprocess.run(worker_command(processes, "--until-idle"), check=True)
    with engine.connect() as connection:
        times = connection.execute(text(_TIMES)).one()
    busy = times.read + times.fit + times.write
    shares = (round(100 * part / busy, 1) for part in (times.read, times.fit, times.write))
    return (
        "the real one",
        int(times.spectra),
        processes,
        round(times.spectra / times.wall, 1),
        *shares,
        "",
        "",
    )


def free_fit(engine: Engine, passes: int) -> tuple[object, ...]:
    """All chunks again and again in this process; memory after the first tenth, and at the end."""
    from phdl_catalog.database.chunks import Claim
    from phdl_catalog.database.model_versions import find_model
    from phdl_catalog.database.session import connect
    from phdl_catalog.fitting import FitResult
    from phdl_catalog.settings import get_settings
    from phdl_catalog.spectra.records import PixelBlock
    from phdl_catalog.spectra.store import PixelStore
    from workers.app import make_app
    from workers.dispatcher import Dispatcher
    from workers.fitting import Bench, run_chunk
    from workers.job_settings import JobSettings

    with engine.connect() as connection:
        names = find_model(connection, "default").label_names
        chunks = list(connection.scalars(text("SELECT fit_chunk_id FROM phdl.fit_chunk ORDER BY 1")))

    def free(claim: Claim, block: PixelBlock) -> FitResult:
        result = FitResult.empty(names, len(block.flux))
        result.labels[:], result.errors[:], result.covariance[:] = 0.1, 0.1, np.eye(len(names)) * 0.01
        result.flags[:] = result.label_flags[:] = 0
        result.chi2[:] = result.rv[:] = result.e_rv[:] = result.snr[:] = result.distance[:] = 1.0
        return result

    bench = Bench(
        connect(wait_for_disk=False),
        PixelStore(get_settings().pixel_store_url),
        free,
        "benchmark:1",
        JobSettings(),
    )
    dispatcher, process = Dispatcher(make_app(), engine), psutil.Process()
    before, done, spent = 0.0, 0, 0.0
    sums = np.zeros(3)
    for number in range(passes):
        with engine.begin() as connection:
            connection.execute(text(AGAIN))
            connection.execute(text("TRUNCATE phdl.fit"))
            connection.execute(text("UPDATE phdl.fit_run SET state = 'running', finished_at = NULL"))
        dispatcher.single_round()
        begun = time.perf_counter()
        for chunk in chunks:
            run_chunk(chunk, bench)
        spent += time.perf_counter() - begun
        dispatcher.single_round()
        with engine.connect() as connection:
            times = connection.execute(text(_TIMES)).one()
        sums += [times.read, times.fit, times.write]
        done += int(times.spectra)
        if number == passes // 10:
            before = process.memory_info().rss / 2**20
    after = process.memory_info().rss / 2**20
    shares = (round(100 * part / sums.sum(), 1) for part in sums)
    memory = (round(before, 1), round(after, 1))
    return "one that costs nothing", done, 1, round(done / spent), *shares, *memory


if __name__ == "__main__":
    main()
