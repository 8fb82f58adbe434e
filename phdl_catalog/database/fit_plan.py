"""From what a person asks for to a request, and what it would take: spectra, chunks, time, disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from phdl_catalog.database.fit_runs import CHUNK_SIZE, RunRequest, needed, sample_of_missing
from phdl_catalog.database.fits import find_pixels
from phdl_catalog.database.model_versions import ModelVersionRow, find_model, sync_model
from phdl_catalog.database.run_status import bytes_per_fit, measured_rate
from phdl_catalog.database.selection import Selection
from phdl_catalog.errors import NotFoundError
from phdl_catalog.spectra.store import PixelStore

if TYPE_CHECKING:
    from phdl_catalog.emulator import Emulator

#: Spectra fitted to measure a rate, and before that, since the first fits of a process take longer.
_SAMPLE, _WARM_UP = 256, 16


@dataclass(frozen=True)
class Plan:
    """What enqueueing would do, and what it would take.

    Parameters
    ----------
    release, model : str
        What would be fitted with what.
    selection : dict
        Which spectra; of a list of obsids, how many.
    run : int or None
        The run there is already.
    selected, spectra, chunks, chunk_size : int
        Spectra selected; spectra that would be added, and the chunks for them.
    rate : float or None
        Spectra a second of one worker process; None if unknown.
    rate_from : str or None
        ``runs``: measured on the latest chunks of this model; ``sample``: measured now.
    seconds : float or None
        Time one worker process would take.
    bytes : int
        Disk the fits would take in the database.
    """

    release: str
    model: str
    selection: dict[str, Any]
    run: int | None
    selected: int
    spectra: int
    chunks: int
    chunk_size: int
    rate: float | None
    rate_from: str | None
    seconds: float | None
    bytes: int


def request_run(
    connection: Connection,
    release: str,
    model: str,
    selection: Selection,
    chunk_size: int = CHUNK_SIZE,
    priority: int | None = None,
) -> RunRequest:
    """A request with the fit's standard options; the model is registered if it is not yet.

    Parameters
    ----------
    connection : Connection
        The caller's transaction.
    release : str
        Name of the data release.
    model : str
        Name of a packaged or registered model, or path of a model file.
    selection : Selection
        Which spectra of the release.
    chunk_size, priority : int
        See `RunRequest`.

    Raises
    ------
    NotFoundError
        If there is no such model.
    ConflictError
        If other weights are registered under its name.
    """
    from phdl_catalog.fitting import FitOptions

    row = _registered(connection, model)
    return RunRequest(release, row, selection, FitOptions().as_dict(), chunk_size, priority)


def plan_run(connection: Connection, request: RunRequest, store: PixelStore, *, measure: bool = True) -> Plan:
    """What `enqueue` would do; the caller rolls back.

    Parameters
    ----------
    connection : Connection
        A transaction.
    request : RunRequest
        What would be enqueued.
    store : PixelStore
        For the sample.
    measure : bool
        Where this model was never run, fit a few of the spectra now to learn the rate.
    """
    need = needed(connection, request)
    model = request.model
    rate, rate_from = measured_rate(connection, model.model_version_id), "runs"
    if rate is None and measure and need.missing:
        rate, rate_from = _sample_rate(connection, request, store), "sample"
    size = bytes_per_fit(connection, model.model_version_id, len(model.label_names))
    return Plan(
        release=request.release,
        model=model.name,
        selection=request.selection.summary(),
        run=need.run,
        selected=need.selected,
        spectra=need.missing,
        chunks=need.chunks,
        chunk_size=request.chunk_size,
        rate=rate,
        rate_from=rate_from if rate is not None else None,
        seconds=need.missing / rate if rate else None,
        bytes=round(size * need.missing),
    )


def _registered(connection: Connection, model: str) -> ModelVersionRow:
    from phdl_catalog.emulator import load_model

    try:
        emulator = load_model(model)
    except NotFoundError as not_here:
        # Registered from another machine: the workers must have it, this one need not.
        try:
            return find_model(connection, model)
        except NotFoundError:
            raise not_here from None
    return sync_model(connection, emulator, uri=_uri(model, emulator))


def _uri(model: str, emulator: Emulator) -> str:
    """A packaged model is found by its name everywhere, a file by its path."""
    from phdl_catalog.emulator.registry import find_model as find_file

    return emulator.name if model == emulator.name else str(find_file(model).resolve())


def _sample_rate(connection: Connection, request: RunRequest, store: PixelStore) -> float:
    """Spectra a second, as a worker process fits them: a chunk of the usual size, with one thread."""
    from phdl_catalog.emulator import load_model
    from phdl_catalog.fitting import FitOptions, Fitter

    pixels = find_pixels(connection, sample_of_missing(connection, request, _SAMPLE))
    fitter = Fitter(load_model(request.model.uri), FitOptions(**request.configuration))

    def seconds(spectra: int) -> float:
        begin = time.perf_counter()
        block = store.read(pixels.addresses[:spectra])
        fitter.fit(block.grid.wavelength, block.flux, block.ivar, block.mask)
        return time.perf_counter() - begin

    with _one_thread():
        # Made when the first spectrum asks for it, once in the life of a worker: not a part of its rate.
        _ = fitter.uncorrected
        seconds(_WARM_UP)
        return len(pixels.addresses) / seconds(_SAMPLE)


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
