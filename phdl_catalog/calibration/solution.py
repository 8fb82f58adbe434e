"""A solution: the correction of every label as a function of the raw labels, with error and validity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.basis import COORDINATES, SmoothBasis
from phdl_catalog.calibration.calibrators import to_array
from phdl_catalog.calibration.members import Members
from phdl_catalog.calibration.repeats import ErrorScale, scaled_errors
from phdl_catalog.calibration.report import CalibrationReport
from phdl_catalog.calibration.tabulated import TabulatedCorrections
from phdl_catalog.calibration.validity import CellGrid, CellTables, pack_cells, unpack_cells
from phdl_catalog.errors import InputError

Floats = NDArray[np.float64]

#: Stars at a time: the functions of a block stay in the cache of one core.
_BLOCK = 8192

#: Part of the variance that may be dropped when a covariance is shortened for speed.
_DROPPED_VARIANCE = 1e-9

FORMAT = "phdl-calibration-2"


@dataclass(frozen=True, eq=False)
class LabelCorrection:
    """The correction of one label.

    Parameters
    ----------
    label : str
        Label name.
    coefficients : (K,) array
        Of the basis functions [label units].
    covariance : (K, K) array
        Their covariance.
    cells : (C,) bool array
        Cells of the solution's grid in which the correction is valid, apart from its zero-point.
    zero_point : bool
        Whether references fix the constant.
    calibrated : bool
        False if no calibrator has this label: the correction is zero and its error unknown.
    error_scale : ErrorScale
        What repeats say of the errors of the fits.
    """

    label: str
    coefficients: Floats
    covariance: Floats
    cells: NDArray[np.bool_]
    zero_point: bool
    calibrated: bool
    error_scale: ErrorScale

    @cached_property
    def root(self) -> Floats:
        """(K, r) matrix R with R R^T the covariance, directions without variance left out; float32."""
        value, vector = np.linalg.eigh(self.covariance)
        total = np.cumsum(np.clip(value, 0, None))
        keep = total > _DROPPED_VARIANCE * total[-1]
        return np.asarray(vector[:, keep] * np.sqrt(value[keep]), dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; floats survive exactly.  The covariance as its lower triangle, row by row."""
        rows, columns = np.tril_indices(len(self.coefficients))
        return {
            "label": self.label,
            "coefficients": self.coefficients.tolist(),
            "covariance": self.covariance[rows, columns].tolist(),
            "cells": pack_cells(self.cells),
            "zero_point": self.zero_point,
            "calibrated": self.calibrated,
            "error_scale": self.error_scale.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], cell_count: int) -> LabelCorrection:
        """Inverse of `to_dict` on a grid of `cell_count` cells."""
        coefficients = np.asarray(document["coefficients"], dtype=np.float64)
        covariance = np.zeros((coefficients.size, coefficients.size))
        rows, columns = np.tril_indices(coefficients.size)
        covariance[rows, columns] = document["covariance"]
        covariance[columns, rows] = document["covariance"]
        return cls(
            label=document["label"],
            coefficients=coefficients,
            covariance=covariance,
            cells=unpack_cells(document["cells"], cell_count),
            zero_point=bool(document["zero_point"]),
            calibrated=bool(document["calibrated"]),
            error_scale=ErrorScale.from_dict(document["error_scale"]),
        )


@dataclass(frozen=True, eq=False)
class CalibrationSolution:
    """Corrections of all labels; made by `calibrate`.

    Parameters
    ----------
    label_names : (L,) tuple of str
        Label names, the columns of every array below.
    basis : SmoothBasis
        The functions of (teff, logg, fe_h).
    grid : CellGrid
        Cells of the validity maps.
    corrections : (L,) tuple of LabelCorrection
        One a label.
    pairs, references : Members
        How every pair and every reference was used; empty in a solution that a database gave back.
    configuration : dict
        The options of `calibrate` that made this solution.
    """

    label_names: tuple[str, ...]
    basis: SmoothBasis
    grid: CellGrid
    corrections: tuple[LabelCorrection, ...]
    pairs: Members
    references: Members
    configuration: Mapping[str, Any]
    _report: CalibrationReport

    def correction(self, labels: Any) -> Floats:
        """What to subtract from raw labels.

        Parameters
        ----------
        labels : (N, L) array_like
            Raw labels.

        Returns
        -------
        (N, L) array
            Corrections in label units; 0 for a label that is not calibrated, NaN for a star whose raw teff,
            logg or fe_h is missing.  Outside the calibrators' box the value at its wall: see `valid`.

        Raises
        ------
        InputError
            If `labels` has the wrong shape.
        """
        coefficients = self.coefficients
        return self._evaluate(self._points(labels), lambda functions: functions @ coefficients)

    @property
    def coefficients(self) -> Floats:
        """(K, L) coefficients of all labels [label units]."""
        return np.stack([entry.coefficients for entry in self.corrections], axis=1)

    def tabulated(self) -> TabulatedCorrections:
        """The corrections as polynomials in small cells, within 1e-6 dex: what a query evaluates."""
        return TabulatedCorrections.of(self.basis, self.coefficients)

    def error(self, labels: Any, errors: Any = None) -> Floats:
        """One sigma of the correction: that in the middle of the star's cell.

        Parameters
        ----------
        labels : (N, L) array_like
            Raw labels.
        errors : (N, L) array_like, optional
            Errors of the raw labels.  If given, the error of the correction that comes from evaluating it at
            a teff, logg and fe_h that are themselves uncertain is added, as it should be for a fitted star;
            without, they are taken as exact, as on a grid: how well the correction itself is known.

        Returns
        -------
        (N, L) array
            In label units; relative to the scale of the reference surveys (see `calibrate`).  NaN where a
            label is not calibrated or a star's coordinate is missing.

        Raises
        ------
        InputError
            If an array has the wrong shape.
        """
        points = self._points(labels)
        cell = self.grid.nearest(points)
        tables = self.cell_tables
        result = np.asarray(tables.error[cell], dtype=np.float64)
        if errors is not None:
            sigma = np.nan_to_num(self._same_shape("errors", errors, len(points))[:, self._columns])
            variance = np.square(result)
            for axis in range(len(COORDINATES)):
                # An unknown error of a coordinate adds nothing rather than hiding the rest.
                variance += np.square(tables.slopes[axis][cell] * sigma[:, axis, None])
            result = np.sqrt(variance)
        result[cell < 0] = np.nan
        result[:, [not entry.calibrated for entry in self.corrections]] = np.nan
        return result

    def scaled_errors(self, errors: Any, snr: Any = None) -> Floats:
        """Errors of fits as repeated observations have them.

        Parameters
        ----------
        errors : (N, L) array_like
            Quoted errors.
        snr : (N,) array_like, optional
            S/N of the fits; NaN where unknown.

        Returns
        -------
        (N, L) array
            The quoted ones of labels for which there were too few repeats.

        Raises
        ------
        InputError
            If an array has the wrong shape.
        """
        given = to_array(errors)
        given = self._same_shape("errors", given, len(given))
        known = np.full(len(given), np.nan) if snr is None else to_array(snr)
        if known.shape != (len(given),):
            raise InputError(f"snr must have shape ({len(given)},), one for each fit, not {known.shape}")
        return scaled_errors(tuple(entry.error_scale for entry in self.corrections), given, known)

    def valid(self, labels: Any, *, zero_point: bool = True) -> NDArray[np.bool_]:
        """Where the corrections may be used.

        Parameters
        ----------
        labels : (N, L) array_like
            Raw labels.
        zero_point : bool
            Ask for a correction that is right as it stands.  False asks for its shape only: differences
            between stars are calibrated though no reference star fixes a constant.

        Returns
        -------
        (N, L) bool array
            True inside the range the calibrators of a label span.
        """
        number = self.grid.index(self._points(labels))
        useful = np.array([entry.zero_point or not zero_point for entry in self.corrections])
        return np.asarray(self.cell_tables.valid[number] & useful & (number >= 0)[:, None])

    def report(self) -> CalibrationReport:
        """Per label: counts, scatter before / after, held out, what is not constrained; ``print`` it."""
        return self._report

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; floats survive exactly."""
        return {
            "format": FORMAT,
            "label_names": list(self.label_names),
            "basis": self.basis.to_dict(),
            "grid": self.grid.to_dict(),
            "corrections": [entry.to_dict() for entry in self.corrections],
            "pairs": self.pairs.to_dict(),
            "references": self.references.to_dict(),
            "configuration": dict(self.configuration),
            "report": self._report.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CalibrationSolution:
        """Inverse of `to_dict`: the same bytes come out.

        Raises
        ------
        InputError
            If the document is no calibration solution of a known format.
        """
        if document.get("format") != FORMAT:
            raise InputError(
                f"this is no calibration solution: format is {document.get('format')!r}, not '{FORMAT}'"
            )
        grid = CellGrid.from_dict(document["grid"])
        names = tuple(document["label_names"])
        return cls(
            label_names=names,
            basis=SmoothBasis.from_dict(document["basis"]),
            grid=grid,
            corrections=tuple(
                LabelCorrection.from_dict(entry, grid.size) for entry in document["corrections"]
            ),
            pairs=Members.from_dict(document["pairs"], len(names)),
            references=Members.from_dict(document["references"], len(names)),
            configuration=dict(document["configuration"]),
            _report=CalibrationReport.from_dict(document["report"]),
        )

    @property
    def _columns(self) -> list[int]:
        return [self.label_names.index(name) for name in COORDINATES]

    def _points(self, labels: Any) -> Floats:
        raw = to_array(labels)
        if raw.ndim != 2 or raw.shape[1] != len(self.label_names):
            raise InputError(
                f"labels must have shape (N, {len(self.label_names)}), one column for each label of the "
                f"solution, not {raw.shape}"
            )
        return raw[:, self._columns]

    def _same_shape(self, name: str, values: Any, count: int) -> Floats:
        given = to_array(values)
        if given.shape != (count, len(self.label_names)):
            raise InputError(
                f"{name} must have the shape of labels, ({count}, {len(self.label_names)}), not {given.shape}"
            )
        return np.asarray(given)

    @cached_property
    def cell_tables(self) -> CellTables:
        """Errors, slopes and validity of every cell: what is looked up for a star, here and in SQL."""
        centers, count = self.grid.centers, len(self.label_names)
        coefficients = self.coefficients
        roots = [entry.root for entry in self.corrections]
        error = np.empty((self.grid.size, count), dtype=np.float32)
        slopes = np.empty((len(COORDINATES), self.grid.size, count), dtype=np.float32)
        for start in range(0, self.grid.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            functions = self.basis.functions(centers[block]).astype(np.float32)
            for column, root in enumerate(roots):
                error[block, column] = np.sqrt(np.square(functions @ root).sum(axis=1))
            slopes[:, block] = np.moveaxis(self.basis.slopes(centers[block]) @ coefficients, 1, 0)
        valid = np.stack([entry.cells for entry in self.corrections], axis=1)
        return CellTables(error, slopes, valid)

    def _evaluate(self, points: Floats, function: Callable[[Floats], Floats]) -> Floats:
        result = np.empty((len(points), len(self.label_names)))
        for start in range(0, len(points), _BLOCK):
            block = slice(start, start + _BLOCK)
            result[block] = function(self.basis.functions(points[block]))
        return result
