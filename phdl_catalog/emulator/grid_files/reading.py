"""Reading a grid file piece by piece, with every check; who reads decides what is kept in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.grid_files import checks
from phdl_catalog.emulator.grid_files.findings import Findings, first_of
from phdl_catalog.emulator.grid_files.format import LAMOST_RESOLUTION, MODEL_GRID, ROWS_AT_ONCE
from phdl_catalog.errors import GridError, InputError
from phdl_catalog.labels import Label, declared_labels
from phdl_catalog.spectra.grid import PixelGrid


@dataclass(frozen=True)
class GradientContents:
    """What a file says of its reference stars, their spectra apart.

    Parameters
    ----------
    labels : (G, L) float64
    step : (L,) float64
        Steps of the forward differences, in label units.
    is_validation : (G,) bool
    unit : (L,) float64
        Stored gradients are divided by this to be per label unit.
    """

    labels: NDArray[np.float64]
    step: NDArray[np.float64]
    is_validation: NDArray[np.bool_]
    unit: NDArray[np.float64]


@dataclass(frozen=True)
class GridContents:
    """What a grid file holds, its spectra apart.

    Parameters
    ----------
    definitions : tuple of Label
        Length L, in the file's order.
    declared : tuple of Label
        Those that are not of the vocabulary.
    wavelength : (W,) float64
        Vacuum [Angstrom].
    resolution : float
    labels : (N, L) float64
    star : (N,) int64
    is_validation : (N,) bool
    scale : float
        Stored flux times this is flux over continuum.
    gradients : GradientContents or None
    attributes : dict
        What else the file says of itself.
    """

    definitions: tuple[Label, ...]
    declared: tuple[Label, ...]
    wavelength: NDArray[np.float64]
    resolution: float
    labels: NDArray[np.float64]
    star: NDArray[np.int64]
    is_validation: NDArray[np.bool_]
    scale: float
    gradients: GradientContents | None
    attributes: dict[str, str]

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.definitions)

    def column(self, name: str) -> NDArray[np.float64]:
        """(N,) values of one label."""
        return self.labels[:, self.label_names.index(name)]


class GridFile:
    """An open grid file whose contents, spectra apart, have been checked.

    Spectra are checked while they pass; `close_checks` then says whether they were good.  Use `open_grid`.
    """

    def __init__(self, file: h5py.File, contents: GridContents, findings: Findings) -> None:
        self._file = file
        self.contents = contents
        self._findings = findings
        self._flux_check = checks.FluxCheck("flux")
        self._gradient_flux_check = checks.FluxCheck("gradients/flux")
        gradients = contents.gradients
        self._gradient_check = (
            None if gradients is None else checks.GradientCheck(contents.definitions, gradients.step)
        )

    def spectra(self, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Flux over continuum, (n, W) at a time, with the rows it belongs to."""
        for start in range(0, len(self.contents.labels), rows_at_once):
            rows = slice(start, start + rows_at_once)
            stored = self._file["flux"][rows]
            self._flux_check.add(start, stored, self.contents.scale)
            yield rows, stored.astype(np.float64) * self.contents.scale

    def differential_spectra(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Flux (W,) and gradient (L, W) per label unit, one reference star after the other."""
        gradients, check = self.contents.gradients, self._gradient_check
        if gradients is None or check is None:
            return
        group = self._file["gradients"]
        for star in range(len(gradients.labels)):
            flux = group["flux"][star].astype(np.float64)
            self._gradient_flux_check.add(star, flux[None])
            gradient = group["gradient"][star].astype(np.float64) / gradients.unit[:, None]
            check.add(star, gradient)
            yield flux, gradient

    def close_checks(self) -> tuple[str, ...]:
        """Remarks on the grid, after its spectra have passed.

        Raises
        ------
        GridError
            If spectra were not good; with every reason.
        """
        self._flux_check.report(self._findings)
        if self._gradient_check is not None:
            self._gradient_flux_check.report(self._findings)
            self._gradient_check.report(self._findings)
        self._findings.raise_problems()
        return tuple(self._findings.remarks)


@contextmanager
def open_grid(
    path: str | Path, pixels: PixelGrid = MODEL_GRID, resolution: float = LAMOST_RESOLUTION
) -> Iterator[GridFile]:
    """Open a grid file and check everything but its spectra.

    Parameters
    ----------
    path : Path
    pixels : PixelGrid
        Pixels that the grid must serve.
    resolution : float
        Resolving power to which it must be possible to degrade it.

    Raises
    ------
    GridError
        If it is no grid; with every problem, and what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise GridError(f"there is no grid file {path}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise GridError(
            f"{path.name} is not an HDF5 file ({error}); `phdl grid import` makes one of arrays"
        ) from error
    with file:
        findings = Findings(path.name)
        contents = _Reader(file, findings).contents(pixels, resolution)
        findings.raise_problems()
        assert contents is not None
        yield GridFile(file, contents, findings)


class _Reader:
    """Reads what is there and notes what is not: a missing array must not hide the next problem."""

    def __init__(self, file: h5py.File, findings: Findings) -> None:
        self._file, self._findings = file, findings

    def contents(self, pixels: PixelGrid, target_resolution: float) -> GridContents | None:
        """Everything but spectra; None only if there are problems."""
        findings = self._findings
        names, declared, definitions = self._labels()
        resolution = self._number(self._file.attrs, "resolution", "the attribute 'resolution'")
        medium = self._text(self._file.attrs.get("medium", "vacuum"))
        findings.require(
            medium == "vacuum",
            f"wavelengths must be those in vacuum, but the attribute 'medium' is '{medium}': "
            "`phdl grid import` converts them",
        )
        wavelength = self._array("wavelength")
        if wavelength is not None and resolution is not None:
            checks.check_wavelength(findings, wavelength, resolution, pixels, target_resolution)
        flux = self._dataset("flux")
        scale = (
            1.0 if flux is None else self._number(flux.attrs, "scale", "the attribute 'scale' of flux", 1.0)
        )
        labels = self._array("labels")
        known = len(definitions) == len(names)
        if (
            labels is not None
            and names
            and not findings.require(
                labels.ndim == 2 and labels.shape[1] == len(names) and len(labels) > 0,
                f"labels has shape {labels.shape}, expected (N, {len(names)}) with N > 0: a column for each "
                "of label_names",
            )
        ):
            labels = None
        if labels is None or not names:
            return None
        if known and checks.check_label_values(findings, "labels", labels, definitions):
            checks.check_constant_labels(findings, labels, definitions, strict=False)
        if flux is not None and wavelength is not None:
            wanted = (len(labels), wavelength.size)
            findings.require(
                flux.shape == wanted, f"flux has shape {flux.shape}, expected {wanted}: labels by wavelength"
            )
        star = self._row_numbers("star", len(labels))
        split = self._split("split", len(labels))
        if star is not None and split is not None:
            checks.check_families(findings, star, split)
        if split is not None and known:
            checks.check_duplicates(findings, labels, split, strict=False)
        gradients = None
        if known and "gradients" in self._file and wavelength is not None:
            gradients = self._gradients(definitions, labels, wavelength.size, star, split)
        if findings.problems:
            return None
        if wavelength is None or resolution is None or star is None or split is None or scale is None:
            return None
        attributes = {
            key: str(self._file.attrs[key]) for key in self._file.attrs if not key.startswith("label_")
        }
        return GridContents(
            definitions, declared, wavelength, resolution, labels, star, split, scale, gradients, attributes
        )

    def _labels(self) -> tuple[tuple[str, ...], tuple[Label, ...], tuple[Label, ...]]:
        """Names, declared labels and what the names mean; the last is shorter if some mean nothing."""
        attrs = self._file.attrs
        if not self._findings.require("label_names" in attrs, "the attribute 'label_names' is missing"):
            return (), (), ()
        names = tuple(self._text(name) for name in np.atleast_1d(attrs["label_names"]))
        declared: tuple[Label, ...] = ()
        if "label_definitions" in attrs:
            try:
                declared = declared_labels(json.loads(self._text(attrs["label_definitions"])))
            except (json.JSONDecodeError, AttributeError, TypeError) as error:
                self._findings.require(
                    False, f"the attribute 'label_definitions' is not a JSON table: {error}"
                )
            except InputError as error:
                self._findings.require(False, str(error))
        definitions = checks.check_names(self._findings, names, declared)
        if "label_units" in attrs and len(definitions) == len(names):
            units = tuple(self._text(unit) for unit in np.atleast_1d(attrs["label_units"]))
            checks.check_units(self._findings, units, definitions)
        return names, declared, definitions

    def _gradients(
        self,
        definitions: tuple[Label, ...],
        grid_labels: NDArray[np.float64],
        n_pixels: int,
        grid_star: NDArray[np.int64] | None,
        grid_split: NDArray[np.bool_] | None,
    ) -> GradientContents | None:
        findings, n_labels = self._findings, len(definitions)
        group = self._file["gradients"]
        labels = self._array("gradients/labels")
        flux, gradient = self._dataset("gradients/flux"), self._dataset("gradients/gradient")
        if labels is None or flux is None or gradient is None:
            return None
        own = tuple(self._text(name) for name in np.atleast_1d(group.attrs.get("label_names", [])))
        names = tuple(label.name for label in definitions)
        findings.require(
            not own or own == names,
            f"gradients have the labels {', '.join(own)}, the grid {', '.join(names)}: they must be the "
            "same, in one order",
        )
        size = len(labels)
        fits = True
        for name, shape, wanted in (
            ("labels", labels.shape, (size, n_labels)),
            ("flux", flux.shape, (size, n_pixels)),
            ("gradient", gradient.shape, (size, n_labels, n_pixels)),
        ):
            fits &= findings.require(
                shape == wanted, f"gradients/{name} has shape {shape}, expected {wanted}"
            )
        step = self._array("gradients/step")
        if step is not None and findings.require(
            step.shape == (n_labels,), f"gradients/step has shape {step.shape}, expected ({n_labels},)"
        ):
            checks.check_steps(findings, step, grid_labels, definitions)
        scale = self._number(gradient.attrs, "teff_scale", "the attribute 'teff_scale' of gradients", 1.0)
        if scale is not None:
            findings.require(
                np.isfinite(scale) and scale > 0, f"teff_scale must be positive (1 or 100), not {scale:g}"
            )
        split = self._split("gradients/split", size)
        own_star = self._row_numbers("gradients/star", size) if "gradients/star" in self._file else None
        if own_star is not None and split is not None and grid_star is not None and grid_split is not None:
            checks.check_reference_families(findings, own_star, split, grid_star, grid_split)
        if labels.shape == (size, n_labels):
            checks.check_label_values(findings, "gradients/labels", labels, definitions)
        if not fits or size == 0 or step is None or scale is None or split is None:
            return None
        unit = np.where(np.array(names) == "teff", scale, 1.0)
        return GradientContents(labels, step, split, unit)

    @staticmethod
    def _text(value: Any) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    def _number(
        self, attrs: h5py.AttributeManager, name: str, what: str, default: float | None = None
    ) -> float | None:
        if name not in attrs:
            self._findings.require(default is not None, f"{what} is missing")
            return default
        try:
            return float(attrs[name])
        except (TypeError, ValueError):
            self._findings.require(False, f"{what} must be a number, not {attrs[name]!r}")
            return None

    def _dataset(self, name: str) -> h5py.Dataset | None:
        item = self._file.get(name)
        require = self._findings.require
        if not require(isinstance(item, h5py.Dataset), f"the data set '/{name}' is missing"):
            return None
        numeric = require(
            item.dtype.kind in "fiub", f"the data set '/{name}' holds {item.dtype}, not numbers"
        )
        return item if numeric else None

    def _array(self, name: str) -> NDArray[np.float64] | None:
        item = self._dataset(name)
        return None if item is None else np.asarray(item[()], dtype=np.float64)

    def _row_numbers(self, name: str, size: int) -> NDArray[np.int64] | None:
        """(N,) integers; each row its own number where the file has none."""
        if name not in self._file:
            return np.arange(size, dtype=np.int64)
        item = self._dataset(name)
        if item is None:
            return None
        values = np.asarray(item[()])
        if not self._findings.require(
            values.shape == (size,), f"{name} has shape {values.shape}, expected ({size},): one a spectrum"
        ):
            return None
        if not self._findings.require(
            values.dtype.kind in "iub" or bool(np.all(values == np.round(values))),
            f"{name} must hold whole numbers",
        ):
            return None
        return values.astype(np.int64)

    def _split(self, name: str, size: int) -> NDArray[np.bool_] | None:
        """(N,) bool; all for training where the file says nothing."""
        if name not in self._file:
            return np.zeros(size, dtype=np.bool_)
        values = self._row_numbers(name, size)
        if values is None:
            return None
        other = np.flatnonzero((values != 0) & (values != 1))
        if not self._findings.require(
            not other.size, f"{name} must be 0 (training) or 1 (validation), but is not in {first_of(other)}"
        ):
            return None
        return values.astype(np.bool_)
