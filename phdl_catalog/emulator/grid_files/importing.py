"""Importing arrays of somebody's own synthesis into a grid file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from phdl_catalog.emulator.grid_files.arrays import open_arrays
from phdl_catalog.emulator.grid_files.families import split_by_family
from phdl_catalog.emulator.grid_files.format import LAMOST_RESOLUTION, MODEL_GRID
from phdl_catalog.emulator.grid_files.mapping import GridMapping
from phdl_catalog.emulator.grid_files.source import GridSource
from phdl_catalog.emulator.grid_files.writer import GridWriter
from phdl_catalog.errors import GridError, InputError
from phdl_catalog.spectra.grid import SURVEY_GRID, PixelGrid
from phdl_catalog.spectra.resample import degrade, degrading_operator, kernel_sigma

#: Pixels a resolution element in spectra that an import degrades.
_PIXELS_PER_ELEMENT = 3.0

#: Degraded spectra reach so far beyond the survey's pixels, in log10 wavelength: ten line spreads.
_MARGIN = 0.002

#: An import of so many pixels a spectrum is told that it could be smaller.
_MANY_PIXELS = 30_000

Operator: TypeAlias = sparse.csr_array | None
Watcher: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportedGrid:
    """What an import made.

    Parameters
    ----------
    path : Path
    spectra, families, validation_spectra, reference_stars : int
    label_names : tuple of str
    pixels : int
        W, pixels of a stored spectrum.
    resolution : float
    remarks : tuple of str
        What the owner should know.
    """

    path: Path
    spectra: int
    families: int
    validation_spectra: int
    reference_stars: int
    label_names: tuple[str, ...]
    pixels: int
    resolution: float
    remarks: tuple[str, ...]


def import_grid(
    sources: Sequence[Path],
    output: Path,
    mapping: GridMapping | None = None,
    *,
    degrade_to: float | None = None,
    overwrite: bool = False,
    watch: Watcher | None = None,
    pixels: PixelGrid = MODEL_GRID,
    target_resolution: float = LAMOST_RESOLUTION,
) -> ImportedGrid:
    """Make one grid file of arrays in npz, HDF5 or FITS files.

    Several sources are put one after the other; their families are kept apart.  Spectra pass some at a time,
    64 MiB of them.  The file appears when it is whole and valid.

    Parameters
    ----------
    sources : sequence of Path
    output : Path
    mapping : GridMapping, optional
        Which array is what; by default arrays are called as in the grid file.
    degrade_to : float, optional
        Store the spectra at this resolving power, three pixels a resolution element; without it they are
        stored as they are, and must share their wavelengths.
    overwrite : bool
        Replace a file that is there.
    watch : callable, optional
        Called with (spectra done, spectra in all).
    pixels, target_resolution : PixelGrid, float
        What the grid must serve.

    Returns
    -------
    ImportedGrid

    Raises
    ------
    GridError, InputError
        If sources or mapping do not fit, or the grid is not valid; nothing is written.
    ConflictError
        If `output` exists and `overwrite` is not set.
    """
    if not sources:
        raise InputError("there is nothing to import: name at least one file")
    mapping = mapping or GridMapping()
    with ExitStack() as stack:
        first = GridSource(stack.enter_context(open_arrays(sources[0])), mapping)
        others = [
            GridSource(stack.enter_context(open_arrays(path)), mapping, first.label_names)
            for path in sources[1:]
        ]
        placed = _place([first, *others], mapping)
        wavelength, resolution, operators = _sampling(placed, degrade_to)
        writer = GridWriter(
            output,
            first.label_names,
            wavelength,
            resolution,
            step=_common_step(placed),
            declared=first.declared,
            attributes={
                **first.facts,
                **mapping.attributes,
                "sources": ", ".join(p.source.name for p in placed),
            },
            pixels=pixels,
            target_resolution=target_resolution,
            overwrite=overwrite,
        )
        with writer:
            for part, operator in zip(placed, operators, strict=True):
                part.append_to(writer, operator, watch, sum(len(p.star) for p in placed))
    return ImportedGrid(
        path=output,
        spectra=sum(len(part.star) for part in placed),
        families=sum(np.unique(part.star).size for part in placed),
        validation_spectra=sum(int(part.is_validation.sum()) for part in placed),
        reference_stars=sum(part.reference_star.size for part in placed),
        label_names=first.label_names,
        pixels=wavelength.size,
        resolution=resolution,
        remarks=(*writer.remarks, *_advice(wavelength.size)),
    )


@dataclass(frozen=True)
class _Placed:
    """A source and the place of its families among those of all sources.

    Parameters
    ----------
    source : GridSource
    star : (N,) int64
    is_validation : (N,) bool
    reference_star : (G,) int64
        G is 0 without reference stars.
    reference_is_validation : (G,) bool
    """

    source: GridSource
    star: NDArray[np.int64]
    is_validation: NDArray[np.bool_]
    reference_star: NDArray[np.int64]
    reference_is_validation: NDArray[np.bool_]

    def append_to(self, writer: GridWriter, operator: Operator, watch: Watcher | None, total: int) -> None:
        """Write the spectra of this source, some at a time."""
        source = self.source
        for rows, flux in source.spectra():
            writer.append(
                source.labels[rows],
                flux if operator is None else degrade(operator, flux),
                self.star[rows],
                self.is_validation[rows],
            )
            if watch is not None:
                watch(len(writer), total)
        stars = source.gradients
        if stars is None:
            return
        for row, (flux, gradient) in enumerate(source.differential_spectra()):
            one = slice(row, row + 1)
            writer.append_gradients(
                stars.labels[one],
                (flux if operator is None else degrade(operator, flux))[None],
                (gradient if operator is None else degrade(operator, gradient))[None],
                self.reference_star[one],
                self.reference_is_validation[one],
            )


def _place(sources: Sequence[GridSource], mapping: GridMapping) -> list[_Placed]:
    """Number the families of all sources, and divide those that no source divides."""
    share, seed = mapping.split.share, mapping.split.seed
    placed, following = [], 0
    for number, source in enumerate(sources):
        # The first source keeps its numbers, and so its split when others are added to it.
        shift = following - int(source.star.min()) if number else 0
        star = source.star + shift
        split = source.is_validation
        if split is None:
            split = split_by_family(star, share, seed)
        following = int(star.max()) + 1
        reference, reference_split = np.empty(0, np.int64), np.empty(0, np.bool_)
        if source.gradients is not None:
            given = source.gradients.star
            # Reference stars of no family are families of their own.
            reference = (
                following + np.arange(len(source.gradients.labels)) if given is None else given + shift
            )
            following = max(following, int(reference.max(initial=0)) + 1)
            reference_split = _reference_split(
                source, reference, dict(zip(star, split, strict=True)), mapping
            )
        placed.append(_Placed(source, star, split, reference, reference_split))
    return placed


def _reference_split(
    source: GridSource, star: NDArray[np.int64], split_of: dict[int, bool], mapping: GridMapping
) -> NDArray[np.bool_]:
    """(G,) the source's own split, else that of the families in the grid, else by lot."""
    if source.gradients is not None and source.gradients.is_validation is not None:
        return source.gradients.is_validation
    lot = split_by_family(star, mapping.split.share, mapping.split.seed)
    return np.array(
        [split_of.get(family, own) for family, own in zip(star, lot, strict=True)], dtype=np.bool_
    )


def _common_step(placed: Sequence[_Placed]) -> NDArray[np.float64] | None:
    """The steps of all sources with gradients; the file has room for one set."""
    found = [(part.source.name, part.source.gradients.step) for part in placed if part.source.gradients]
    for name, step in found[1:]:
        if not np.allclose(step, found[0][1], rtol=1e-6):
            raise GridError(
                f"the gradients of {name} were made with other steps than those of {found[0][0]}: a grid has "
                "one set of steps; import one of them without gradients"
            )
    return found[0][1] if found else None


def _sampling(
    placed: Sequence[_Placed], degrade_to: float | None
) -> tuple[NDArray[np.float64], float, list[Operator]]:
    """Wavelengths and resolving power that are stored, and what brings each source to them."""
    sources = [part.source for part in placed]
    first = sources[0]
    if degrade_to is not None:
        wavelength = _degraded_wavelength(sources, degrade_to)
        operators: list[Operator] = []
        for source in sources:
            try:
                operators.append(
                    degrading_operator(source.wavelength, source.resolution, wavelength, degrade_to)
                )
            except InputError as error:
                raise GridError(f"{source.name} cannot be degraded to R = {degrade_to:g}: {error}") from error
        return wavelength, degrade_to, operators
    for source in sources[1:]:
        same = source.wavelength.shape == first.wavelength.shape
        if not same or not np.allclose(source.wavelength, first.wavelength, rtol=1e-8):
            raise GridError(
                f"{source.name} has other wavelengths ({_told(source)}) than {first.name} ({_told(first)}): "
                "--degrade-to R brings both to the same"
            )
        if source.resolution != first.resolution:
            raise GridError(
                f"{source.name} has R = {source.resolution:g}, {first.name} R = {first.resolution:g}: "
                "--degrade-to R brings both to the same"
            )
    return first.wavelength, first.resolution, [None] * len(sources)


def _told(source: GridSource) -> str:
    return f"{source.wavelength.size}, {source.wavelength[0]:.2f}-{source.wavelength[-1]:.2f} A"


def _degraded_wavelength(sources: Sequence[GridSource], resolution: float) -> NDArray[np.float64]:
    """Log-uniform wavelengths that all sources cover, no wider than any survey spectrum needs."""
    edges = np.log10(SURVEY_GRID.wavelength[[0, -1]]) + np.array([-_MARGIN, _MARGIN])
    for source in sources:
        reach = 5.01 * kernel_sigma(source.resolution, resolution)
        edges[0] = max(edges[0], np.log10(source.wavelength[0]) + reach)
        edges[1] = min(edges[1], np.log10(source.wavelength[-1]) - reach)
    if edges[1] <= edges[0]:
        told = "; ".join(f"{source.name} {_told(source)}" for source in sources)
        raise GridError(f"the sources share no wavelengths of the survey: {told}")
    step = 1.0 / resolution / np.log(10.0) / _PIXELS_PER_ELEMENT
    return np.asarray(10.0 ** np.arange(edges[0], edges[1], step))


def _advice(n_pixels: int) -> tuple[str, ...]:
    if n_pixels <= _MANY_PIXELS:
        return ()
    return (
        f"each spectrum has {n_pixels} pixels: with --degrade-to 5000 the file is smaller and sooner read, "
        "and a model is the same",
    )
