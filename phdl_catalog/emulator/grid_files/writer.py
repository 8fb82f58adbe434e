"""Writing a grid file, some spectra at a time; it appears under its name when it is whole and valid."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.emulator.grid_files import checks
from phdl_catalog.emulator.grid_files.families import DEFAULT_SEED, DEFAULT_SHARE, split_by_family
from phdl_catalog.emulator.grid_files.findings import Findings
from phdl_catalog.emulator.grid_files.format import (
    FLUX_STEP,
    LAMOST_RESOLUTION,
    MODEL_GRID,
    TEFF_SCALE,
)
from phdl_catalog.errors import ConflictError, GridError, InputError
from phdl_catalog.labels import Label
from phdl_catalog.spectra.grid import PixelGrid

_COMPRESSION = {"compression": "gzip", "compression_opts": 4, "shuffle": True}

#: Bytes of one HDF5 chunk of spectra, about.
_CHUNK_BYTES = 512 * 1024


class GridWriter:
    """Writes a grid file; memory stays that of what is appended at once, and of the labels.

    Use it as a context manager: leaving it without an error checks and publishes the file, with an error
    nothing is left behind.  Spectra are checked as they come, so a bad one is refused at once.

    Parameters
    ----------
    path : Path
        The file to make; it appears when everything is written.
    label_names : (L,) sequence of str
        Of the vocabulary, or declared.
    wavelength : (W,) array_like
        Increasing vacuum wavelengths [Angstrom].
    resolution : float
        Resolving power lambda / FWHM of the spectra.
    step : (L,) array_like, optional
        Steps of the forward differences, in label units; needed to append gradients.
    declared : sequence of Label, optional
        Labels that the vocabulary lacks (`phdl_catalog.labels.declare_label`).
    attributes : mapping, optional
        What else the file shall say of itself: code, atmospheres, line list, ...
    share, seed : float, int
        How families are divided where no split is appended, see `split_by_family`.
    pixels : PixelGrid
        Pixels that the grid must be able to serve.
    target_resolution : float
        Resolving power to which it must be possible to degrade the spectra.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    GridError
        If names, wavelengths or resolution cannot make a grid.
    ConflictError
        If the file exists and `overwrite` is not set.
    """

    def __init__(
        self,
        path: str | Path,
        label_names: Sequence[str],
        wavelength: ArrayLike,
        resolution: float,
        *,
        step: ArrayLike | None = None,
        declared: Sequence[Label] = (),
        attributes: Mapping[str, str | float] | None = None,
        share: float = DEFAULT_SHARE,
        seed: int = DEFAULT_SEED,
        pixels: PixelGrid = MODEL_GRID,
        target_resolution: float = LAMOST_RESOLUTION,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise ConflictError(f"{self.path} exists already; choose another name, or remove it")
        self.label_names = tuple(label_names)
        self.wavelength = np.asarray(wavelength, dtype=np.float64)
        self._findings = Findings(self.path.name)
        self._definitions = checks.check_names(self._findings, self.label_names, declared)
        checks.check_wavelength(
            self._findings, self.wavelength, float(resolution), pixels, float(target_resolution)
        )
        self._findings.raise_problems()
        self._step = None if step is None else self._shaped(step, "step", (len(self.label_names),))
        self._share, self._seed = share, seed
        split_by_family([0, 1], share, seed)
        self._rows = _Rows()
        self._gradient_rows = _Rows()
        self._partial = self.path.with_name(f"{self.path.name}.partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._partial, "w")
        self._write_header(float(resolution), declared, attributes or {})

    def __enter__(self) -> GridWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the owner of the grid should know; complete after `finish`."""
        return tuple(self._findings.remarks)

    def append(
        self,
        labels: ArrayLike,
        flux: ArrayLike,
        star: ArrayLike | None = None,
        is_validation: ArrayLike | None = None,
    ) -> None:
        """Add spectra.

        Parameters
        ----------
        labels : (n, L) array_like
            In label units.
        flux : (n, W) array_like
            Over continuum.  Stored in steps of 3e-5; small negative values become 0.
        star : (n,) array_like of int, optional
            Family numbers, the same for spectra of one atmosphere; without them each row is a family of its
            own.  Give them always or never.
        is_validation : (n,) array_like of bool, optional
            Without it, families are divided by lot at the end.  Give it always or never.

        Raises
        ------
        InputError
            If shapes do not fit each other; both are quoted.
        GridError
            If values are not finite or out of bounds; nothing of this call was kept.
        """
        values, spectra = self._checked(labels, flux, "labels", "flux", len(self._rows))
        self._rows.add(values, star, is_validation)
        data = self._file["flux"]
        data.resize(len(self._rows), axis=0)
        data[-len(values) :] = np.round(np.clip(spectra, 0.0, None) / FLUX_STEP).astype(np.uint16)

    def append_gradients(
        self,
        labels: ArrayLike,
        flux: ArrayLike,
        gradient: ArrayLike,
        star: ArrayLike | None = None,
        is_validation: ArrayLike | None = None,
    ) -> None:
        """Add reference stars with differential spectra.

        Parameters
        ----------
        labels : (g, L) array_like
        flux : (g, W) array_like
        gradient : (g, L, W) array_like
            d flux / d label by forward differences with the writer's `step`, per label unit (per K, not per
            100 K).
        star : (g,) array_like of int, optional
            The families these stars belong to, if they are also in the grid: they follow its split.
        is_validation : (g,) array_like of bool, optional

        Raises
        ------
        InputError, GridError
            As in `append`; also if the writer was given no `step`.
        """
        if self._step is None:
            raise InputError("gradients need the steps of their differences: give GridWriter step=(L,)")
        values, spectra = self._checked(
            labels, flux, "gradients/labels", "gradients/flux", len(self._gradient_rows)
        )
        wanted = (len(values), len(self.label_names), self.wavelength.size)
        change = self._shaped(gradient, "gradient", wanted)
        check = checks.GradientCheck(self._definitions, self._step)
        for row in range(len(values)):
            check.add(len(self._gradient_rows) + row, change[row])
        findings = Findings(self.path.name)
        check.report(findings)
        findings.raise_problems()
        self._gradient_rows.add(values, star, is_validation)
        group = self._file["gradients"] if "gradients" in self._file else self._new_gradients()
        change[:, self.label_names.index("teff")] *= TEFF_SCALE
        for name, array in (("flux", spectra), ("gradient", change)):
            data = group[name]
            data.resize(len(self._gradient_rows), axis=0)
            data[-len(values) :] = array

    def finish(self) -> None:
        """Divide families if nobody did, check the whole, and give the file its name.

        Raises
        ------
        GridError
            With every problem; the file is not made.
        """
        try:
            self._finish()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        findings = self._findings
        if not len(self._rows):
            raise GridError(f"{self.path.name} would be a grid without spectra: nothing was written")
        labels, star = self._rows.labels, self._rows.star
        split = self._rows.is_validation
        if split is None:
            split = split_by_family(star, self._share, self._seed)
        checks.check_families(findings, star, split)
        checks.check_duplicates(findings, labels, split, strict=True)
        checks.check_constant_labels(findings, labels, self._definitions, strict=True)
        if self._step is not None:
            checks.check_steps(findings, self._step, labels, self._definitions)
        findings.raise_problems()
        self._file["labels"] = labels
        self._file["star"] = star
        self._file["split"] = split.astype(np.uint8)
        if len(self._gradient_rows):
            self._finish_gradients(dict(zip(star.tolist(), split.tolist(), strict=True)))
        self._file.close()
        with self._partial.open("rb") as stream:
            os.fsync(stream.fileno())
        self._partial.replace(self.path)

    def _finish_gradients(self, split_of: Mapping[int, bool]) -> None:
        rows, group = self._gradient_rows, self._file["gradients"]
        own = rows.is_validation
        if own is None:
            own = split_by_family(rows.star, self._share, self._seed)
            if rows.has_families:
                own = np.array([split_of.get(int(s), lot) for s, lot in zip(rows.star, own, strict=True)])
        group["labels"] = rows.labels
        group["step"] = self._step
        group["split"] = own.astype(np.uint8)
        if rows.has_families:
            group["star"] = rows.star

    def _write_header(
        self, resolution: float, declared: Sequence[Label], attributes: Mapping[str, str | float]
    ) -> None:
        attrs = self._file.attrs
        for name, value in attributes.items():
            attrs[name] = value
        text = h5py.string_dtype()
        attrs["label_names"] = np.array(self.label_names, dtype=text)
        attrs["label_units"] = np.array([label.unit for label in self._definitions], dtype=text)
        if declared:
            attrs["label_definitions"] = json.dumps({item.name: item.as_declaration() for item in declared})
        attrs["resolution"] = resolution
        attrs["medium"] = "vacuum"
        self._file["wavelength"] = self.wavelength
        data = self._growing(self._file, "flux", (self.wavelength.size,), np.dtype(np.uint16))
        data.attrs["scale"] = FLUX_STEP

    def _new_gradients(self) -> h5py.Group:
        group = self._file.create_group("gradients")
        shape = (len(self.label_names), self.wavelength.size)
        self._growing(group, "flux", shape[1:], np.dtype(np.float32))
        # Half precision holds labels of the vocabulary; units of others may be anything.
        known = "label_definitions" not in self._file.attrs
        data = self._growing(group, "gradient", shape, np.dtype(np.float16 if known else np.float32))
        data.attrs["teff_scale"] = TEFF_SCALE
        return group

    @staticmethod
    def _growing(
        group: h5py.Group, name: str, shape: tuple[int, ...], kind: np.dtype[np.generic]
    ) -> h5py.Dataset:
        rows = max(1, _CHUNK_BYTES // (int(np.prod(shape)) * kind.itemsize))
        return group.create_dataset(
            name, (0, *shape), kind, maxshape=(None, *shape), chunks=(rows, *shape), **_COMPRESSION
        )

    def _checked(
        self, labels: ArrayLike, flux: ArrayLike, labels_name: str, flux_name: str, start: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        values = np.asarray(labels, dtype=np.float64)
        width = len(self.label_names)
        if values.ndim != 2 or values.shape[1] != width or not len(values):
            raise InputError(f"{labels_name} has shape {values.shape}, expected (n, {width}) with n > 0")
        spectra = self._shaped(flux, flux_name, (len(values), self.wavelength.size))
        findings = Findings(self.path.name)
        checks.check_label_values(findings, labels_name, values, self._definitions, start)
        check = checks.FluxCheck(flux_name)
        check.add(start, spectra)
        check.report(findings)
        findings.raise_problems()
        return values, spectra

    @staticmethod
    def _shaped(array: ArrayLike, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        values = np.array(array, dtype=np.float64)
        if values.shape != shape:
            raise InputError(f"{name} has shape {values.shape}, expected {shape}")
        return values


class _Rows:
    """Labels, families and splits of what was appended."""

    def __init__(self) -> None:
        self._labels: list[NDArray[np.float64]] = []
        self._star: list[NDArray[np.int64]] = []
        self._split: list[NDArray[np.bool_]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(
        self, labels: NDArray[np.float64], star: ArrayLike | None, is_validation: ArrayLike | None
    ) -> None:
        given = []
        for name, array, parts in (
            ("star", star, self._star),
            ("is_validation", is_validation, self._split),
        ):
            if self._size and (array is None) == bool(parts):
                raise InputError(f"{name} must be given with every append, or with none")
            values = None if array is None else np.asarray(array)
            if values is not None and values.shape != (len(labels),):
                raise InputError(f"{name} has shape {values.shape}, expected {(len(labels),)}")
            given.append(values)
        if given[0] is not None:
            self._star.append(given[0].astype(np.int64))
        if given[1] is not None:
            self._split.append(given[1].astype(np.bool_))
        self._labels.append(labels)
        self._size += len(labels)

    @property
    def labels(self) -> NDArray[np.float64]:
        return np.concatenate(self._labels)

    @property
    def has_families(self) -> bool:
        return bool(self._star)

    @property
    def star(self) -> NDArray[np.int64]:
        return np.concatenate(self._star) if self._star else np.arange(self._size, dtype=np.int64)

    @property
    def is_validation(self) -> NDArray[np.bool_] | None:
        return np.concatenate(self._split) if self._split else None
