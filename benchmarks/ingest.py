"""How fast files are ingested, beside reading them with astropy alone.

    python benchmarks/ingest.py [FOLDER] [--processes N] [--copies N]

Without a folder of LAMOST files, simulated ones are written.  Every row reads the same files; `phdl ingest`
also writes the pixels and the rows of the database (an embedded PostgreSQL of its own, started for this), and
its time includes starting its reading processes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

# What a reading process does not need is imported where it is used: each of them imports this file.


def read_with_astropy(path: str) -> float:
    """What any reader must do: open the file, get its five arrays and two facts."""
    import numpy as np
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=False) as units:
                facts = (units[0].header.get("OBSID"), units[0].header.get("RA"))
                if len(units) > 1 and "FLUX" in (units[1].columns.names or ()):
                    names = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK")
                    arrays = [
                        np.asarray(units[1].data[name]) for name in names if name in units[1].columns.names
                    ]
                else:
                    arrays = list(np.atleast_2d(units[0].data if units[0].data is not None else 0.0))
                return float(arrays[0].sum()) + len(facts)
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0


def read_with_phdl(path: str) -> float:
    """The reader of this project, with all checks."""
    from phdl_catalog.errors import RejectedSpectrum
    from phdl_catalog.spectra import read_spectrum

    try:
        return float(read_spectrum(path).flux.sum())
    except RejectedSpectrum:
        return 0.0


def in_processes(function: Callable[[str], float], paths: Sequence[str], processes: int) -> float:
    """Seconds to map a function over paths, once the processes have started and imported everything."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(function, paths[: 2 * processes], chunksize=1))
        begun = time.perf_counter()
        list(pool.map(function, paths, chunksize=32))
        return time.perf_counter() - begun


def simulated_files(folder: Path, count: int) -> None:
    """Files of the DR10 layout: noise around one, which compresses about as well as a spectrum."""
    import numpy as np
    from astropy.io import fits

    random = np.random.default_rng(0)
    wavelength = (10.0 ** ((35682 + np.arange(3909)) * 1e-4)).astype(">f4")
    names = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK", "NORMALIZATION")
    for number in range(count):
        facts = {"OBSID": number + 1, "TELESCOP": "LAMOST", "RA": 10.0, "DEC": 10.0, "SNRG": 50.0}
        primary = fits.PrimaryHDU(header=fits.Header(facts | {f"FILL{extra}": extra for extra in range(100)}))
        flux = (1.0 + 0.02 * random.standard_normal(3909)).astype(">f4")
        values = (flux, np.full(3909, 2500.0, ">f4"), wavelength, 0 * flux, 0 * flux, flux)
        columns = [fits.Column(names[k], "3909E", array=values[k][None]) for k in range(len(names))]
        buffer = io.BytesIO()
        fits.HDUList([primary, fits.BinTableHDU.from_columns(columns, name="COADD")]).writeto(buffer)
        (folder / f"spec-{number:05}.fits.gz").write_bytes(gzip.compress(buffer.getvalue(), 6))


def copied_files(source: Path, folder: Path, copies: int) -> None:
    """The files of a folder, again and again, each time with other obsids (or plans, where it has none)."""
    for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        packed = path.read_bytes()
        data = gzip.decompress(packed) if packed.startswith(b"\x1f\x8b") else packed
        for copy in range(copies):
            changed = data
            for keyword, value in ((b"OBSID", f"{copy + 1}{number:09}"), (b"PLANID", f"'{copy:08}'")):
                start = data.find(keyword.ljust(8) + b"=")
                if start >= 0:
                    card = f"{keyword.decode():8}= {value:>20}".ljust(80).encode()
                    changed = data[:start] + card + data[start + 80 :]
                    break
            name = f"{copy:02}-{number:05}-{path.name}"
            (folder / name).write_bytes(gzip.compress(changed, 6) if data is not packed else changed)


def ingested(folder: Path, processes: int, work: Path) -> tuple[float, float, int]:
    """Seconds for a whole ingest, seconds for it again, number of accepted spectra."""
    from sqlalchemy import create_engine

    from phdl_catalog.database import migrate
    from phdl_catalog.database.ingest import ingest
    from phdl_catalog.services.postgres_server import PostgresServer
    from phdl_catalog.spectra import PixelStore

    server = PostgresServer(work / "postgresql", work / "run")
    server.start()
    try:
        engine = create_engine(server.url("postgres").replace("postgresql:", "postgresql+psycopg:", 1))
        migrate.upgrade(engine)
        store = PixelStore(work / "shards")
        first = ingest(engine, store, "benchmark", [str(folder)], processes=processes)
        again = ingest(engine, store, "benchmark", [str(folder)], processes=processes)
        engine.dispose()
        return first.seconds, again.seconds, first.accepted
    finally:
        server.stop()


def main() -> None:
    """Measure and print."""
    from phdl_catalog.cli.output import print_table
    from phdl_catalog.database.ingest_files import FileTree

    parser = argparse.ArgumentParser(description="How fast files are ingested, beside astropy alone.")
    parser.add_argument("folder", nargs="?", type=Path, help="LAMOST files; by default 600 simulated ones")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="reading processes")
    parser.add_argument("--copies", type=int, default=1, help="use each file this often, with other obsids")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="phdl-"))
    try:
        folder = work / "files"
        folder.mkdir()
        if options.folder is None:
            simulated_files(folder, 600 * options.copies)
        else:
            copied_files(options.folder, folder, options.copies)
        paths = list(FileTree([folder]))
        for path in paths:
            Path(path).read_bytes()  # into the page cache, for all alike
        times = [
            (name, processes, in_processes(function, paths, processes))
            for processes in sorted({1, options.processes})
            for name, function in (
                ("astropy.io.fits alone", read_with_astropy),
                ("read_spectrum", read_with_phdl),
            )
        ]
        first, again, accepted = ingested(folder, options.processes, work)
        times += [("phdl ingest", options.processes, first), ("phdl ingest, again", options.processes, again)]
        rows = [
            (name, processes, len(paths), round(seconds, 2), round(len(paths) / seconds))
            for name, processes, seconds in times
        ]
        print_table("Ingest", ("what", "processes", "files", "seconds", "files/s"), rows)
        shards = sum(path.stat().st_size for path in (work / "shards").rglob("*.shard"))
        print(f"{accepted} spectra accepted; {shards / max(accepted, 1):,.0f} bytes of pixels a spectrum")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
