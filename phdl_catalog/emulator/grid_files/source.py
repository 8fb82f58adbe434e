"""One source of an import: its arrays, understood by a mapping, in the units and the order of the grid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.grid_files.arrays import ArrayFile
from phdl_catalog.emulator.grid_files.mapping import WAVELENGTH_UNITS, GridMapping, LabelMapping
from phdl_catalog.emulator.grid_files.units import LabelConversion
from phdl_catalog.errors import GridError, InputError
from phdl_catalog.labels import Label, declared_labels, describe_labels
from phdl_catalog.spectra.air import vacuum_from_air

#: Bytes of spectra, as float64, that are in memory at once.
_BLOCK_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class ReferenceStars:
    """Reference stars of a source, their spectra apart.

    Parameters
    ----------
    labels : (G, L) float64
    step : (L,) float64
    star : (G,) int64 or None
    is_validation : (G,) bool or None
    """

    labels: NDArray[np.float64]
    step: NDArray[np.float64]
    star: NDArray[np.int64] | None
    is_validation: NDArray[np.bool_] | None


class GridSource:
    """A source of an import.

    Parameters
    ----------
    arrays : ArrayFile
        Open.
    mapping : GridMapping
    label_names : tuple of str, optional
        The order that is wanted; by default that of the mapping, or of the source.

    Raises
    ------
    GridError, InputError
        If what is needed is not there or does not fit together; arrays are named, with their shapes.
    """

    def __init__(
        self, arrays: ArrayFile, mapping: GridMapping, label_names: tuple[str, ...] | None = None
    ) -> None:
        self._arrays, self._mapping = arrays, mapping
        self.name = arrays.path.name
        self.declared = mapping.declared() or self._own_declarations()
        own = self._own_names()
        self.label_names = label_names or own
        if set(own) != set(self.label_names) or len(own) != len(self.label_names):
            raise GridError(
                f"{self.name} has the labels {', '.join(own)}, but {', '.join(self.label_names)} are wanted"
            )
        definitions = describe_labels(self.label_names, self.declared)
        self._conversions = [self._conversion(label) for label in definitions]
        self._own_columns = [own.index(name) for name in self.label_names]
        self._flux = arrays.require(mapping.flux.array)
        self._check_flux_shape()

    @cached_property
    def resolution(self) -> float:
        """Resolving power, of the mapping or of the source itself."""
        value = self._mapping.resolution or self._arrays.attribute("resolution")
        if value is None:
            raise GridError(
                f"the resolving power of {self.name} is not known: give --resolution, or 'resolution' in the "
                "mapping; of unconvolved synthetic spectra it is that of their sampling"
            )
        return float(value)

    @cached_property
    def wavelength(self) -> NDArray[np.float64]:
        """(W,) increasing vacuum wavelengths [Angstrom]."""
        values = self._stored_wavelength
        return values[::-1] if self._falls else values

    @cached_property
    def labels(self) -> NDArray[np.float64]:
        """(N, L) in label units and in the order of `label_names`."""
        columns = [np.empty(0)] * len(self.label_names)
        matrix = self._matrix(self._mapping.labels.array) if self._has_matrix else None
        for index, conversion in enumerate(self._conversions):
            entry = self._entry(conversion.label.name)
            if entry.array is not None:
                column = self._numbers(entry.array)
                if column.ndim != 1:
                    raise GridError(
                        f"'{entry.array}' in {self.name} has shape {column.shape}, expected (N,): values of "
                        f"{conversion.label.name}"
                    )
            else:
                assert matrix is not None
                column = matrix[:, self._matrix_names.index(conversion.label.name)]
            columns[index] = conversion(column)
        sizes = {len(column) for column in columns}
        if len(sizes) > 1:
            listed = ", ".join(f"{n} {len(c)}" for n, c in zip(self.label_names, columns, strict=True))
            raise GridError(f"the labels of {self.name} differ in length: {listed}")
        return np.stack(columns, axis=1)

    @cached_property
    def star(self) -> NDArray[np.int64]:
        """(N,) family numbers; each row its own where the source has none."""
        given = self._whole_numbers(self._mapping.star, ("star",), len(self.labels))
        return np.arange(len(self.labels)) if given is None else given

    @cached_property
    def is_validation(self) -> NDArray[np.bool_] | None:
        """(N,) the source's own split, or None."""
        given = self._whole_numbers(self._mapping.split.array, ("split", "array"), len(self.labels))
        return None if given is None else given == self._mapping.split.validation

    def spectra(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Flux over continuum (n, W), some rows at a time, along `wavelength`."""
        scale = self._mapping.flux.scale or self._arrays.attribute("scale", self._flux) or 1.0
        start = 0
        for block in self._arrays.blocks(self._flux, self._rows_at_once):
            flux = np.asarray(block, dtype=np.float64) * float(scale)
            yield slice(start, start + len(flux)), flux[:, ::-1] if self._falls else flux
            start += len(flux)

    @cached_property
    def gradients(self) -> ReferenceStars | None:
        """Reference stars, or None where the source has none."""
        names = self._mapping.gradients
        if self._arrays.find(names.gradient) is None and not self._mapping.asked_for("gradients"):
            return None
        matrix = self._matrix(names.labels)
        labels = np.stack(
            [
                conversion(matrix[:, self._matrix_names.index(conversion.label.name)])
                for conversion in self._conversions
            ],
            axis=1,
        )
        if logarithmic := [item.label.name for item in self._conversions if item.log10]:
            raise GridError(
                f"gradients by log10 of {', '.join(logarithmic)} have no one step in {logarithmic[0]}: "
                "convert labels, gradient and step of the source to linear ones first"
            )
        size = len(labels)
        for name, wanted in (
            (names.flux, (size, self.wavelength.size)),
            (names.gradient, (size, len(self.label_names), self.wavelength.size)),
        ):
            shape = self._arrays.shapes[self._arrays.require(name)]
            if shape != wanted:
                raise GridError(
                    f"'{name}' in {self.name} has shape {shape}, expected {wanted}: '{names.labels}' has "
                    f"shape {matrix.shape}, and there are {self.wavelength.size} wavelengths"
                )
        split = self._whole_numbers(names.split, ("gradients", "split"), size)
        return ReferenceStars(
            labels,
            self._steps(),
            self._whole_numbers(names.star, ("gradients", "star"), size),
            None if split is None else split == self._mapping.split.validation,
        )

    def differential_spectra(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Flux (W,) and gradient (L, W) per label unit, along `wavelength`, one star after the other."""
        names = self._mapping.gradients
        gradient_name = self._arrays.require(names.gradient)
        unit = np.array([conversion.factor for conversion in self._conversions])
        per = names.teff_per or self._arrays.attribute("teff_scale", gradient_name) or 1.0
        unit[self.label_names.index("teff")] *= float(per)
        order = slice(None, None, -1 if self._falls else 1)
        for flux, gradient in zip(
            self._arrays.blocks(self._arrays.require(names.flux), 1),
            self._arrays.blocks(gradient_name, 1),
            strict=True,
        ):
            change = np.asarray(gradient[0][self._own_columns], dtype=np.float64) / unit[:, None]
            yield np.asarray(flux[0], dtype=np.float64)[order], change[:, order]

    @property
    def facts(self) -> dict[str, str]:
        """What the source says of itself beside numbers: code, atmospheres, ..."""
        own = {"resolution", "medium", "label_names", "label_units", "label_definitions"}
        return {name: text for name, text in self._arrays.facts().items() if name not in own}

    @property
    def _rows_at_once(self) -> int:
        return max(1, _BLOCK_BYTES // (8 * self.wavelength.size))

    @property
    def _matrix_names(self) -> tuple[str, ...]:
        return self._own_names()

    @property
    def _has_matrix(self) -> bool:
        return any(self._entry(name).array is None for name in self.label_names)

    def _entry(self, name: str) -> LabelMapping:
        return self._mapping.label.get(name, LabelMapping())

    def _conversion(self, label: Label) -> LabelConversion:
        entry = self._entry(label.name)
        return LabelConversion(label, None if entry.is_declaration else entry.unit, entry.log10)

    def _own_names(self) -> tuple[str, ...]:
        """Names of the mapping, else of the source, else of the labels with arrays of their own."""
        if self._mapping.labels.names:
            return self._mapping.labels.names
        found = self._arrays.attribute("label_names")
        if found is not None:
            texts = (name.decode() if isinstance(name, bytes) else str(name) for name in np.atleast_1d(found))
            return tuple(texts)
        separate = tuple(name for name, entry in self._mapping.label.items() if entry.array is not None)
        if separate:
            return separate
        raise GridError(
            f"the labels of {self.name} have no names: give --label-names teff,logg,fe_h or labels.names "
            "in the mapping, in the order of the columns"
        )

    def _own_declarations(self) -> tuple[Label, ...]:
        text = self._arrays.attribute("label_definitions")
        return () if text is None else declared_labels(json.loads(text))

    @cached_property
    def _stored_wavelength(self) -> NDArray[np.float64]:
        asked = self._mapping.wavelength
        if asked.start is not None and asked.step is not None:
            size = self._arrays.shapes[self._flux][-1]
            values = asked.start + asked.step * np.arange(size)
        else:
            values = self._numbers(asked.array)
        if values.ndim != 1 or values.size < 2:
            raise GridError(f"'{asked.array}' in {self.name} has shape {values.shape}, expected (W,)")
        with np.errstate(over="ignore"):
            values = np.asarray(10.0**values if asked.log10 else values) * WAVELENGTH_UNITS[asked.unit]
        try:
            return vacuum_from_air(values) if self._medium == "air" else values
        except InputError as error:
            raise GridError(f"'{asked.array}' in {self.name}: {error}") from error

    @property
    def _medium(self) -> str:
        if self._mapping.asked_for("wavelength", "medium"):
            return self._mapping.wavelength.medium
        return str(self._arrays.attribute("medium") or "vacuum")

    @property
    def _falls(self) -> bool:
        return bool(self._stored_wavelength[0] > self._stored_wavelength[-1])

    def _check_flux_shape(self) -> None:
        found, wanted = self._arrays.shapes[self._flux], (len(self.labels), self.wavelength.size)
        if found != wanted:
            hint = "; transpose it" if found == wanted[::-1] else ""
            raise GridError(
                f"'{self._flux}' in {self.name} has shape {found}, expected {wanted}: {wanted[0]} rows of "
                f"labels {(wanted[0], len(self.label_names))} and {wanted[1]} wavelengths{hint}"
            )

    def _steps(self) -> NDArray[np.float64]:
        given = self._mapping.gradients.step
        own = self._matrix_names
        if isinstance(given, dict):
            if missing := [name for name in own if name not in given]:
                raise GridError(f"gradients.step in the mapping lacks {', '.join(missing)}")
            values = np.array([given[name] for name in own])
        else:
            values = self._numbers(given)
            if values.shape != (len(own),):
                raise GridError(
                    f"'{given}' in {self.name} has shape {values.shape}, expected ({len(own)},): a step each"
                )
        return np.array(
            [
                values[column] * c.factor
                for column, c in zip(self._own_columns, self._conversions, strict=True)
            ]
        )

    def _matrix(self, name: str) -> NDArray[np.float64]:
        values, width = self._numbers(name), len(self._matrix_names)
        if values.ndim != 2 or values.shape[1] != width:
            raise GridError(
                f"'{name}' in {self.name} has shape {values.shape}, expected (N, {width}): a column for each "
                f"of {', '.join(self._matrix_names)}"
            )
        return values

    def _numbers(self, name: str) -> NDArray[np.float64]:
        values = self._read(name)
        return np.asarray(values, dtype=np.float64)

    def _read(self, name: str) -> NDArray[Any]:
        values = self._arrays.read(self._arrays.require(name))
        if values.dtype.kind not in "fiub":
            raise GridError(f"'{name}' in {self.name} holds {values.dtype}, not numbers")
        return values

    def _whole_numbers(self, name: str, asked: tuple[str, ...], size: int) -> NDArray[np.int64] | None:
        """(size,) integers of an array that may be absent unless the mapping names it."""
        if self._arrays.find(name) is None and not self._mapping.asked_for(*asked):
            return None
        values = self._read(name)
        if values.shape != (size,):
            raise GridError(f"'{name}' in {self.name} has shape {values.shape}, expected ({size},)")
        whole = values.astype(np.int64)
        if not np.array_equal(whole, values):
            raise GridError(f"'{name}' in {self.name} must hold whole numbers")
        return whole
