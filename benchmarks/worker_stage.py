"""Where `worker.py` and `soak.py` run: servers of their own, and simulated spectra that are enqueued."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, text

_SNR = 60.0

#: All that is done is due again.
AGAIN = """
UPDATE phdl.fit_chunk SET state = 'planned', finished_at = NULL, n_fitted = NULL, n_failed = NULL
WHERE state = 'done'
"""


@contextmanager
def survey(spectra: int, chunk_size: int) -> Iterator[Engine]:
    """Embedded servers with a run of simulated spectra; all that is made is removed afterwards."""
    from phdl_catalog import services
    from phdl_catalog.database import migrate
    from phdl_catalog.database.session import connect

    # What is started is stopped and what is made removed, also where the benchmark is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    work = Path(tempfile.mkdtemp(prefix="phdl-"))
    for name in ("PHDL_DATABASE_URL", "PHDL_BROKER_URL", "PHDL_STORE_URL"):
        os.environ.pop(name, None)
    os.environ["PHDL_DATA_DIR"] = str(work)
    try:
        services.up()
        engine = connect(pooled=False)
        migrate.upgrade(engine)
        _enqueue_simulated(engine, spectra, chunk_size)
        yield engine
    finally:
        services.down()
        shutil.rmtree(work, ignore_errors=True)


def worker_command(processes: int, *options: str) -> list[str]:
    """``phdl worker`` as a person starts it."""
    command = ["worker", "--concurrency", str(processes), "--log-level", "WARNING", *options]
    return [sys.executable, "-m", "phdl_catalog.cli.main", *command]


def _enqueue_simulated(engine: Engine, count: int, chunk_size: int) -> None:
    """Spectra of the packaged model, corrected as for real stars, with noise; packed and enqueued."""
    from phdl_catalog.database.copy import copy_rows
    from phdl_catalog.database.fit_plan import request_run
    from phdl_catalog.database.fit_runs import enqueue
    from phdl_catalog.database.selection import Selection
    from phdl_catalog.emulator import load_model
    from phdl_catalog.settings import get_settings
    from phdl_catalog.spectra.spectrum import Layout, Spectrum, SpectrumHeader
    from phdl_catalog.spectra.store import PixelStore

    model, generator = load_model("default"), np.random.default_rng(0)
    centre = {"teff": 5600.0, "logg": 3.9, "v_micro": 1.2, "fe_h": -0.2}
    spread = {"teff": 400.0, "logg": 0.3, "v_micro": 0.1, "fe_h": 0.3}
    labels = np.stack(
        [generator.normal(centre.get(name, 0.0), spread.get(name, 0.1), count) for name in model.label_names],
        axis=1,
    )
    flux = model.compiled.predict(labels)
    if model.imperfection is not None:
        flux = model.imperfection.correct(flux)
    flux = (flux + generator.normal(scale=1 / _SNR, size=flux.shape)).astype(np.float32)
    first = round(float(np.log10(model.wavelength[0])) * 1e4)
    store, rows = PixelStore(get_settings().pixel_store_url), []
    clean = np.zeros(flux.shape[1], dtype=np.uint8)
    ivar = np.full(flux.shape[1], _SNR**2, dtype=np.float32)
    for start in range(0, count, 512):
        with store.open_shard("dr10") as shard:
            for n in range(start, min(start + 512, count)):
                header = SpectrumHeader(obsid=n + 1, layout=next(iter(Layout)), ra=10.0, dec=-3.0)
                address = shard.append(Spectrum(header, first, flux[n], ivar, clean, clean))
                place = (address.shard, address.row, first, flux.shape[1])
                rows.append((1, n + 1, f"file:///{n}", f"{n:064x}", "accepted", *place, 10.0, -3.0, n, _SNR))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO phdl.data_release (name) VALUES ('dr10')"))
        copy_rows(
            connection,
            "phdl.spectrum",
            ("release_id", "obsid", "uri", "sha256", "state", "shard", "shard_row", "first_pixel", "n_pixels",
             "ra", "dec", "healpix_29", "snr_g"),
            ("int4", "int8", "text", "text", "text", "text", "int4", "int4", "int4", "float8", "float8",
             "int8", "float4"),
            rows,
        )  # fmt: skip
        enqueue(connection, request_run(connection, "dr10", "default", Selection(), chunk_size))
