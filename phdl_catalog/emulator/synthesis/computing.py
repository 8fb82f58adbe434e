"""Computing the spectra of a plan: one by its name, or all that are missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from phdl_catalog.emulator.synthesis.atmosphere import WHERE_TO_FIND, AtmosphereGrid
from phdl_catalog.emulator.synthesis.engine import Synthesizer, spectrum_of
from phdl_catalog.emulator.synthesis.library import require_pysme
from phdl_catalog.emulator.synthesis.plan import Spectrum, SynthesisFolder, SynthesisPlan
from phdl_catalog.emulator.synthesis.reading import read_lines
from phdl_catalog.errors import InputError, PhdlError, SynthesisError


@cache
def _engine(plan: SynthesisPlan, process: int) -> tuple[Synthesizer, AtmosphereGrid]:
    """What a process computes with; asked for by process number, since a fork must not inherit it."""
    lines = read_lines(plan.lines)
    return Synthesizer(lines, plan.settings), AtmosphereGrid.from_folder(plan.atmospheres)


def compute_spectrum(path: str | Path, spectrum: Spectrum) -> bool:
    """Compute one spectrum of the plan in a folder, unless it is there; a failure is noted in the folder.

    Parameters
    ----------
    path : path
        Folder of the plan.
    spectrum : Spectrum
        Which.

    Returns
    -------
    bool
        Whether the spectrum is there now.
    """
    folder = SynthesisFolder(path)
    if folder.has(spectrum):
        return True
    plan = folder.plan()
    try:
        engine, atmospheres = _engine(plan, os.getpid())
        labels = plan.labels_of(spectrum)
        flux = spectrum_of(engine, atmospheres, plan.design.label_names, labels)
    except PhdlError as error:
        folder.save_failure(spectrum, str(error))
        return False
    folder.save(spectrum, labels, flux)
    return True


def missing_spectra(folder: SynthesisFolder) -> list[Spectrum]:
    """The spectra of the plan that are not finished."""
    done = folder.finished()
    return [spectrum for spectrum in folder.plan().spectra() if spectrum.name not in done]


def check_plan(plan: SynthesisPlan) -> tuple[str, ...]:
    """Whether everything a plan needs is there, before hours are spent on it.

    Returns
    -------
    tuple of str
        Species whose lines cannot be formed and are left out.

    Raises
    ------
    SynthesisError
        If PySME is not installed.
    InputError
        If line lists have no line in the range, or decks are missing; the message lists them.
    """
    require_pysme()
    engine, atmospheres = _engine(plan, os.getpid())
    metals = int(np.sum(~engine.lines.is_hydrogen))
    first, last = plan.settings.wavelength
    if metals == 0:
        raise InputError(f"the line lists have no line between {first:g} and {last:g} Angstrom")
    names = plan.design.label_names
    columns = [names.index(name) for name in ("teff", "logg", "fe_h")]
    points = [*plan.design.stars(plan.stars)[:, columns]]
    for labels in plan.design.reference_stars(plan.gradients):
        points += [(labels + step)[columns] for step in (0.0, *np.diag(plan.design.steps)[columns])]
    absent = [atmospheres.missing(*point) for point in points]
    needed = {key for keys in absent for key in keys}
    outside = sum(bool(keys) for keys in absent)
    if needed:
        limits = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in atmospheres.limits.items())
        shown = "; ".join(f"Teff {t:g}, log g {g:.2f}, [M/H] {m:.2f}" for t, g, m in sorted(needed)[:4])
        raise InputError(
            f"{outside} atmospheres of the plan lie outside the {len(atmospheres)} decks in "
            f"{plan.atmospheres} ({limits}); missing are, for example: {shown}. The plan needs "
            f"decks around Teff 4000 to 7000 K, log g 0.5 to 5, [M/H] -2.5 to 0.5; {WHERE_TO_FIND}"
        )
    return engine.unsupported


def compute_missing(
    folder: SynthesisFolder, workers: int, progress: Callable[[], None] = lambda: None
) -> None:
    """Compute what is missing, here; what fails is noted in the folder and does not stop the rest.

    Parameters
    ----------
    folder : SynthesisFolder
        With a plan.
    workers : int
        Number of processes; with 1, it is this one.
    progress : callable
        Called after each spectrum.

    Raises
    ------
    SynthesisError
        If a process was killed.
    """
    missing = missing_spectra(folder)
    if workers == 1:
        for spectrum in missing:
            compute_spectrum(folder.path, spectrum)
            progress()
        return
    _compute_by_processes(folder, missing, workers, progress)


def _compute_by_processes(
    folder: SynthesisFolder, missing: Sequence[Spectrum], workers: int, progress: Callable[[], None]
) -> None:
    # Not forked from here: the parent has threads, and the library has a state.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(compute_spectrum, folder.path, spectrum) for spectrum in missing]
        try:
            for future in as_completed(futures):
                future.result()
                progress()
        except BrokenProcessPool as error:
            raise SynthesisError(
                "a process that computed a spectrum was killed, perhaps for want of memory; what is finished "
                "is kept: the same command goes on, with fewer --workers if need be"
            ) from error
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
