"""Ab initio grids: spectra and differential spectra computed from stellar-atmosphere models.

The file format is HDF5; see ``docs/reference/grid-format.md``.  A grid is read whole, degraded to the
survey's resolving power and sampled on the survey's pixels, because every later step wants just that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from phdl_catalog.emulator.grid_files.format import LAMOST_RESOLUTION, MODEL_GRID
from phdl_catalog.emulator.grid_files.reading import GridFile, open_grid
from phdl_catalog.errors import GridError
from phdl_catalog.labels import Label, describe_labels
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.resample import degrade, degrading_operator

__all__ = ["LAMOST_RESOLUTION", "MODEL_GRID", "AbInitioGrid", "GradientSet", "file_sha256", "load_grid"]


@dataclass(frozen=True)
class GradientSet:
    """Differential spectra of some reference stars.

    Parameters
    ----------
    labels : (G, L) float64
    flux : (G, P) float32
    gradient : (G, L, P) float32
        d flux / d label, per label unit.
    step : (L,) float64
        Step of the forward difference, in label units.
    is_validation : (G,) bool
    """

    labels: NDArray[np.float64]
    flux: NDArray[np.float32]
    gradient: NDArray[np.float32]
    step: NDArray[np.float64]
    is_validation: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.bool_]) -> GradientSet:
        """The reference stars for which `rows` (G,) is true."""
        return GradientSet(
            self.labels[rows], self.flux[rows], self.gradient[rows], self.step, self.is_validation[rows]
        )


@dataclass(frozen=True)
class AbInitioGrid:
    """Spectra of a grid on the survey's pixels.

    Parameters
    ----------
    label_names : tuple of str
        Length L, in the file's order.
    labels : (N, L) float64
    flux : (N, P) float32
        Continuum-normalised.
    star : (N,) int64
        Family number: spectra of one atmosphere.  Splits go by family, never by row.
    is_validation : (N,) bool
    pixels : PixelGrid
    resolution : float
    gradients : GradientSet or None
    source : dict
        Where it came from: file name, sha256, the file's own attributes, and the declarations of labels
        that the vocabulary lacks (``declared_labels``).
    declared : tuple of Label
        Labels that the file declares beside the vocabulary.
    """

    label_names: tuple[str, ...]
    labels: NDArray[np.float64]
    flux: NDArray[np.float32]
    star: NDArray[np.int64]
    is_validation: NDArray[np.bool_]
    pixels: PixelGrid
    resolution: float
    gradients: GradientSet | None
    source: dict[str, Any]
    declared: tuple[Label, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.bool_]) -> AbInitioGrid:
        """The spectra for which `rows` (N,) is true; gradients are kept."""
        return replace(
            self,
            labels=self.labels[rows],
            flux=self.flux[rows],
            star=self.star[rows],
            is_validation=self.is_validation[rows],
        )

    @property
    def definitions(self) -> tuple[Label, ...]:
        """What each label means, length L: of the vocabulary, or declared by the file."""
        return describe_labels(self.label_names, self.declared)

    def require_trainable(self) -> None:
        """Refuse a grid that can be compared with, but from which nothing can be learnt.

        Raises
        ------
        GridError
            If a split is empty, or a label has the same value in every training spectrum.
        """
        rows = ~self.is_validation
        if rows.all() or not rows.any():
            raise GridError(
                "the grid needs both training and validation stars (the data set 'split'); "
                "`phdl grid import` divides them by family"
            )
        width = np.ptp(self.labels[rows], axis=0)
        if constant := [name for name, w in zip(self.label_names, width, strict=True) if w == 0]:
            raise GridError(
                f"{', '.join(constant)} has the same value in every training spectrum and cannot be learnt: "
                "leave it out of label_names"
            )


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_grid(
    path: str | Path, pixels: PixelGrid = MODEL_GRID, resolution: float = LAMOST_RESOLUTION
) -> AbInitioGrid:
    """Read a grid file, degraded to `resolution` and sampled on `pixels`.

    Raises
    ------
    GridError
        If the file is not HDF5 or breaks the format; the message says everything that is wrong.
    """
    path = Path(path)
    with open_grid(path, pixels, resolution) as file:
        contents = file.contents
        operator = degrading_operator(contents.wavelength, contents.resolution, pixels.wavelength, resolution)
        flux = np.empty((len(contents.labels), pixels.size), np.float32)
        for rows, spectra in file.spectra():
            flux[rows] = degrade(operator, spectra)
        gradients = _read_gradients(file, operator)
        file.close_checks()
    source: dict[str, Any] = {
        "file": path.name,
        "sha256": file_sha256(path),
        "attributes": contents.attributes,
    }
    if contents.declared:
        source["declared_labels"] = {label.name: label.as_declaration() for label in contents.declared}
    return AbInitioGrid(
        contents.label_names,
        contents.labels,
        flux,
        contents.star,
        contents.is_validation,
        pixels,
        resolution,
        gradients,
        source,
        contents.declared,
    )


def _read_gradients(file: GridFile, operator: sparse.csr_array) -> GradientSet | None:
    contents = file.contents.gradients
    if contents is None:
        return None
    shape = (*contents.labels.shape, operator.shape[0])
    flux, gradient = np.empty((shape[0], shape[2]), np.float32), np.empty(shape, np.float32)
    for star, (spectrum, change) in enumerate(file.differential_spectra()):
        flux[star], gradient[star] = degrade(operator, spectrum), degrade(operator, change)
    return GradientSet(contents.labels, flux, gradient, contents.step, contents.is_validation)
