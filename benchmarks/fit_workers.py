"""Workers as production has them: processes of one thread, each from a packed shard to arrays of labels."""

from __future__ import annotations

import multiprocessing
import resource
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.spectra.grid import SURVEY_GRID
from phdl_catalog.spectra.spectrum import Layout, Spectrum, SpectrumHeader
from phdl_catalog.spectra.store import PixelAddress, PixelStore


@dataclass(frozen=True)
class WorkerRate:
    """What workers reach together.

    Parameters
    ----------
    workers : int
    rate : float
        Fits a second of all of them, wall-clock.
    processor_ms : float
        Processor time of a fit.
    megabytes : float
        Largest memory of one worker.
    """

    workers: int
    rate: float
    processor_ms: float
    megabytes: float


def pack(
    folder: Path, flux: NDArray[np.float64], ivar: NDArray[np.float64], release: str = "benchmark"
) -> list[PixelAddress]:
    """Write spectra (N, P) of the survey's grid into one shard."""
    clear = np.zeros(SURVEY_GRID.size, dtype=np.int64)
    with PixelStore(folder).open_shard(release) as shard:
        return [
            shard.append(
                Spectrum(
                    SpectrumHeader(obsid=number + 1, layout=Layout.DR9, ra=0.0, dec=0.0),
                    SURVEY_GRID.first,
                    flux[number].astype(np.float32),
                    ivar[number].astype(np.float32),
                    clear,
                    clear,
                )
            )
            for number in range(len(flux))
        ]


def _work(
    model: str, folder: Path, addresses: list[PixelAddress], ready: Barrier, out: Any, options: dict[str, Any]
) -> None:
    import torch

    from phdl_catalog import load_model
    from phdl_catalog.fitting import FitOptions, Fitter

    torch.set_num_threads(1)
    fitter, store = Fitter(load_model(model), FitOptions(**options)), PixelStore(folder)

    def fit(some: list[PixelAddress]) -> None:
        block = store.read(some)
        fitter.fit(block.grid.wavelength, block.flux, block.ivar, block.mask)

    fit(addresses[:32])
    ready.wait()
    wall, processor = time.perf_counter(), time.process_time()
    fit(addresses)
    took = time.perf_counter() - wall, time.process_time() - processor
    out.put((*took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def workers_rate(
    model: str, folder: Path, addresses: list[PixelAddress], workers: int, options: dict[str, Any]
) -> WorkerRate:
    """Let workers, processes of one thread, fit all spectra of a shard at the same time."""
    context = multiprocessing.get_context("spawn")
    ready, out = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=_work, args=(model, folder, addresses, ready, out, options))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    wall, processor, megabytes = np.array([out.get(timeout=580) for _ in processes]).T
    for process in processes:
        process.join()
    return WorkerRate(
        workers,
        float(len(addresses) * (1.0 / wall).sum()),
        float(1e3 * processor.mean() / len(addresses)),
        float(megabytes.max()),
    )
