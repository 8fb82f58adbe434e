"""Ab initio grids: spectra and differential spectra computed from stellar-atmosphere models.

The file format is HDF5; see ``docs/reference/grid-format.md``.  A grid is read whole, degraded to the
survey's resolving power and sampled on the survey's pixels, because every later step wants just that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import GridError
from phdl_catalog.labels import get_label
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.resample import degrade, degrading_operator

#: The pixels on which models are trained: 3750 to 8995 Angstrom in vacuum.
MODEL_GRID = PixelGrid(35740, 3801)

#: Resolving power of LAMOST low-resolution spectra.
LAMOST_RESOLUTION = 1800.0

_ROWS_AT_ONCE = 512


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
        Where it came from: file name, sha256 and the file's own attributes.
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

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.bool_]) -> AbInitioGrid:
        """The spectra for which `rows` (N,) is true; gradients are kept."""
        return AbInitioGrid(
            self.label_names,
            self.labels[rows],
            self.flux[rows],
            self.star[rows],
            self.is_validation[rows],
            self.pixels,
            self.resolution,
            self.gradients,
            self.source,
        )


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require(condition: bool, path: Path, message: str) -> None:
    if not condition:
        raise GridError(f"{path.name} is not a valid grid: {message}; see docs/reference/grid-format.md")


def _dataset(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    item = group.get(name)
    _require(
        isinstance(item, h5py.Dataset), path, f"the data set '{group.name.rstrip('/')}/{name}' is missing"
    )
    return item


def _label_names(file: h5py.File, path: Path) -> tuple[str, ...]:
    _require("label_names" in file.attrs, path, "the attribute 'label_names' is missing")
    raw = file.attrs["label_names"]
    names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in raw)
    for name in names:
        get_label(name)
    _require(len(set(names)) == len(names), path, "label names repeat")
    for required in ("teff", "logg", "fe_h"):
        _require(required in names, path, f"the label '{required}' is missing")
    return names


def _read_gradients(
    group: h5py.Group, operator: Any, names: tuple[str, ...], path: Path
) -> GradientSet | None:
    labels = _dataset(group, "labels", path)[:].astype(np.float64)
    if len(labels) == 0:
        return None
    data = _dataset(group, "gradient", path)
    n_in = operator.shape[1]
    _require(
        data.shape == (len(labels), len(names), n_in),
        path,
        f"gradients/gradient has shape {data.shape}, expected {(len(labels), len(names), n_in)}",
    )
    scale = np.ones(len(names))
    # Stored per 100 K so that half precision holds it; per K here, like every other quantity.
    scale[names.index("teff")] = float(data.attrs.get("teff_scale", 1.0))
    gradient = np.stack([degrade(operator, data[row]) / scale[:, None] for row in range(len(labels))])
    step = _dataset(group, "step", path)[:].astype(np.float64)
    _require(
        step.shape == (len(names),) and bool(np.all(step > 0)),
        path,
        "gradients/step must be positive, one a label",
    )
    flux = degrade(operator, _dataset(group, "flux", path)[:])
    split = group["split"][:].astype(bool) if "split" in group else np.zeros(len(labels), bool)
    _require(bool(np.all(np.isfinite(gradient))), path, "gradients/gradient holds values that are not finite")
    return GradientSet(labels, flux.astype(np.float32), gradient.astype(np.float32), step, split)


def load_grid(
    path: str | Path, pixels: PixelGrid = MODEL_GRID, resolution: float = LAMOST_RESOLUTION
) -> AbInitioGrid:
    """Read a grid file, degraded to `resolution` and sampled on `pixels`.

    Raises
    ------
    GridError
        If the file is not HDF5 or breaks the format; the message says where.
    """
    path = Path(path)
    if not path.is_file():
        raise GridError(f"there is no grid file {path}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise GridError(f"{path.name} is not an HDF5 file: {error}") from error
    with file:
        names = _label_names(file, path)
        wavelength = _dataset(file, "wavelength", path)[:]
        _require(
            wavelength.ndim == 1 and bool(np.all(np.diff(wavelength) > 0)),
            path,
            "wavelength must increase strictly",
        )
        _require("resolution" in file.attrs, path, "the attribute 'resolution' is missing")
        _require(
            str(file.attrs.get("medium", "vacuum")) == "vacuum", path, "wavelengths must be those in vacuum"
        )
        operator = degrading_operator(
            wavelength, float(file.attrs["resolution"]), pixels.wavelength, resolution
        )
        labels = _dataset(file, "labels", path)[:].astype(np.float64)
        data = _dataset(file, "flux", path)
        _require(
            labels.ndim == 2 and labels.shape[1] == len(names),
            path,
            f"labels has shape {labels.shape}, expected (N, {len(names)})",
        )
        _require(
            data.shape == (len(labels), len(wavelength)),
            path,
            f"flux has shape {data.shape}, expected {(len(labels), len(wavelength))}",
        )
        _require(bool(np.all(np.isfinite(labels))), path, "labels holds values that are not finite")
        scale = float(data.attrs.get("scale", 1.0))
        flux = np.empty((len(labels), pixels.size), np.float32)
        for start in range(0, len(labels), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            flux[part] = degrade(operator, data[part].astype(np.float64) * scale)
        _require(bool(np.all(np.isfinite(flux))), path, "flux holds values that are not finite")
        _require(
            float(flux.min()) >= -0.05 and float(flux.max()) <= 2.0,
            path,
            f"normalised flux must lie between 0 and 2, found {flux.min():.3f} to {flux.max():.3f}",
        )
        star = file["star"][:].astype(np.int64) if "star" in file else np.arange(len(labels))
        split = file["split"][:].astype(bool) if "split" in file else np.zeros(len(labels), bool)
        for name, array in (("star", star), ("split", split)):
            _require(
                array.shape == (len(labels),),
                path,
                f"{name} has shape {array.shape}, expected ({len(labels)},)",
            )
        shared = np.intersect1d(star[split], star[~split])
        _require(shared.size == 0, path, f"stars {shared[:5].tolist()} are in training and in validation")
        gradients = _read_gradients(file["gradients"], operator, names, path) if "gradients" in file else None
        attributes = {key: str(file.attrs[key]) for key in file.attrs if not key.startswith("label_")}
    source = {"file": path.name, "sha256": file_sha256(path), "attributes": attributes}
    return AbInitioGrid(names, labels, flux, star, split, pixels, resolution, gradients, source)
